"""Copies of a run without its weights and its checkpoint: for `evaluate.py --keep`, and from the nodes of a cluster."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from experiment import files, reading, records
from experiment.run_directory import RunDirectory


def contents(run: RunDirectory) -> dict[str, bytes]:
    """The contents of the regular files by name, except for the weights and the checkpoint."""
    found = [file for file in run.files() if file not in (run.best_file, run.state_file)]
    regular = [file for file in found if os.path.lexists(file) and stat.S_ISREG(file.lstat().st_mode)]
    return {file.name: reading.read_bytes(file, records.LARGEST_PREDICTIONS) for file in regular}


def write(run: RunDirectory, copied: dict[str, bytes]) -> None:
    """Writes the files of a run that was trained elsewhere, unless they or a finished run are here."""
    if contents(run) == copied:
        return  # trained here: the weights and the checkpoint stay
    if run.has_summary() and run.read_summary()["status"] in ("finished", "diverged"):
        return
    run.prepare()
    with run.locked():
        run.remove_files()
        _write(run, copied)


def copy(run: RunDirectory, destination: Path, unwritten: Mapping = MappingProxyType({})) -> None:
    """Copies a run, and removes predictions at the destination that this run does not have.

    Args:
        unwritten: predictions that the run's directory does not hold: (logits, labels) by test-time augmentation.
    """
    there, copied = RunDirectory(destination), contents(run)
    files.make_folder(destination)
    for file in there.all_predictions():
        if file.name not in copied:
            files.remove(file)
    _write(there, copied)
    for tta, (logits, labels) in unwritten.items():
        there.write_predictions(logits, labels, tta, run.weights_digest())


def _write(run: RunDirectory, copied: dict[str, bytes]) -> None:
    # The summary last: it marks the run as finished.
    for file in sorted(run.files(), key=lambda file: file == run.summary_file):
        if file.name in copied:
            files.write_bytes(file, copied[file.name])
