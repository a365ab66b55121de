"""Searches for run directories."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from experiment.errors import UserError
from experiment.run_directory import RunDirectory


def find(root: Path) -> list[RunDirectory]:
    """All run directories at or under `root`, each once, sorted by path (seed2 before seed10).

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
            # Path.is_symlink raises an error in a folder that may not be entered.
            links = [folder / name for name in directories if os.path.islink(folder / name)]  # noqa: PTH114
            waiting += [link for link in links if not folder.resolve().is_relative_to(os.path.realpath(link))]
    return sorted(found, key=lambda run: [_natural(part) for part in run.path.parts])


def _natural(name: str) -> list:
    """A key that sorts numbers in names by their values."""
    return [int(part) if part.isdecimal() else part for part in re.split("([0-9]+)", name)]


def select(paths: Sequence[Path], root: Path) -> list[RunDirectory]:
    """The run directories at or under `paths`; without paths all under `root`, but for those of studies and the demo.

    Raises:
        UserError: a path contains no run, or there are no runs under `root`.
    """
    if not paths:
        runs = [run for run in find(root) if is_selected(run, root)]
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
            if os.path.isfile(path):  # noqa: PTH113 (never raises)
                raise UserError(f"{path} is a file, not a run's directory; the pattern DIR/*/ leaves out files")
            raise UserError(f"{path} contains no run (no config.yaml in it or below it)")
    return list({run.path.resolve(): run for _, runs in found for run in runs}.values())


def is_selected(run: RunDirectory, root: Path) -> bool:
    """Whether `select` without paths includes the run."""
    path = run.path.absolute()
    return path.is_relative_to(root) and path.relative_to(root).parts[:1] not in (("studies",), ("demo",))
