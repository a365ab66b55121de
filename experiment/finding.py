"""Searches for run directories."""

import os
from collections.abc import Sequence
from pathlib import Path

from experiment.errors import UserError
from experiment.run_directory import RunDirectory


def find(root: Path) -> list[RunDirectory]:
    """All run directories at or under `root`, each once, sorted by path.

    Links to directories are followed, except for links to one of their own parents.
    """
    found, seen, waiting = [], set(), [root]
    while waiting:
        folder = waiting.pop()
        try:
            status, entries, inside = folder.stat(), list(folder.iterdir()), folder.resolve()
        except (OSError, RuntimeError):  # not a directory, no permission, a name that is too long
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        if folder / "config.yaml" in entries:
            found.append(RunDirectory(folder))
        directories = [entry for entry in entries if os.path.isdir(entry)]  # noqa: PTH112 (never raises)
        links = [entry for entry in directories if entry.is_symlink()]
        onward = [link for link in links if not inside.is_relative_to(os.path.realpath(link))]
        # Links last: if two paths lead to a run, the one without a link is returned.
        waiting = [*onward, *waiting, *(entry for entry in directories if entry not in links)]
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
                "or, in a minute and without a download: make demo"
            )
        return runs
    found = [(path, find(path)) for path in paths]
    for path, runs in found:
        if not runs:
            raise UserError(f"{path} contains no run (no config.yaml in it or below it)")
    return list({run.path.resolve(): run for _, runs in found for run in runs}.values())
