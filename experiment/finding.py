"""Searches for run directories."""

import os
from collections.abc import Sequence
from pathlib import Path

from experiment import config as configuration
from experiment.config import Config
from experiment.errors import UserError
from experiment.run_directory import RunDirectory


def find(root: Path) -> list[RunDirectory]:
    """All run directories at or under `root`, each once, sorted by path.

    Links to directories are followed, except for links to one of their own parents.
    """
    found, seen, waiting = [], set(), [root]
    while waiting:  # links last: if two paths lead to a run, the one without a link is returned
        for place, directories, names in os.walk(waiting.pop(0)):  # ignores what it cannot read
            folder, status = Path(place), os.stat(place)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in seen:
                directories.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            if "config.yaml" in (*directories, *names):
                found.append(RunDirectory(folder))
            links = [folder / name for name in directories if (folder / name).is_symlink()]
            waiting += [link for link in links if not folder.resolve().is_relative_to(os.path.realpath(link))]
    return sorted(found, key=lambda run: run.path)


def select(paths: Sequence[Path], root: Path) -> list[RunDirectory]:
    """The run directories at or under `paths`; without paths all under `root`, except for those of studies.

    Raises:
        UserError: a path contains no run, or there are no runs under `root`.
    """
    if not paths:
        runs = [run for run in find(root) if not run.path.is_relative_to(root / "studies")]
        if not runs:
            raise UserError(
                f"no run under {root} yet. Train one:\n"
                "  python train.py --config plain.yaml\n"
                "  python train.py --config bn.yaml\n"
                "or, in two minutes and without a download: make demo"
            )
        return runs
    found = [(path, find(path)) for path in paths]
    for path, runs in found:
        if not runs:
            raise UserError(f"{path} contains no run (no config.yaml in it or below it)")
    return list({run.path.resolve(): run for _, runs in found for run in runs}.values())


def check_title(config: Config, run: RunDirectory) -> None:
    """Raises a UserError if another arm beside the run's has its title, so that no comparison could name them."""
    arm = run.path.absolute().parent
    firsts = (next(iter(sorted(other.glob("*/config.yaml"))), None) for other in arm.parent.glob("*") if other != arm)
    for file in filter(None, firsts if config.title else ()):
        try:
            other = RunDirectory(file.parent).read_config()
        except UserError:
            continue
        keys = configuration.differences(other, config).keys() - {"seed"}
        if other.title == config.title and keys and "data.name" not in keys:
            raise UserError(
                f"title: {file.parent.parent} has the title {config.title!r}, too, and differs in "
                f"{', '.join(sorted(keys))}: change the title in the YAML file"
            )
