"""Copies of a run without its weights and its checkpoint: for `evaluate.py --keep`, and from the nodes of a cluster."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from experiment import config as configuration
from experiment import files, reading, records
from experiment.errors import UserError
from experiment.resuming import difference
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


def check_destination(run: RunDirectory, destination: Path) -> None:
    """Raises a UserError if a copy would replace a run with weights or a checkpoint, or a copy of another run."""
    there = RunDirectory(destination)
    if _are_same(run, there):
        return
    if there.has_weights() or os.path.exists(there.state_file):  # noqa: PTH110 (never raises)
        raise UserError(f"--keep: {destination} is a run with its weights, not a copy; name another directory")
    configured = os.path.exists(there.config_file)  # noqa: PTH110
    differing = configuration.differences(there.read_config(), run.read_config()) if configured else {}
    if set(differing) == {"epochs"} and differing["epochs"][0] < differing["epochs"][1]:
        differing = {}  # the run was made longer
    images = {(each.read_summary().get("data") or {}).get("sha256") for each in (there, run) if each.has_summary()}
    if what := difference(differing, same_images=len(images - {None}) < 2):
        raise UserError(f"--keep: {destination} is a copy of another run: {what}; remove it, or name another directory")


def copy(run: RunDirectory, destination: Path, unwritten: Mapping = MappingProxyType({})) -> None:
    """Copies a run, and removes other files of a run at the destination.

    Args:
        unwritten: predictions that the run's directory does not hold: (logits, labels) by test-time augmentation.
    """
    there, copied = RunDirectory(destination), contents(run)
    files.make_folder(destination)
    for file in [] if _are_same(run, there) else there.files():
        if file.name not in copied:
            files.remove(file)
    _write(there, copied)
    for tta, (logits, labels) in unwritten.items():
        there.write_predictions(logits, labels, tta, run.weights_digest())


def _are_same(one: RunDirectory, other: RunDirectory) -> bool:
    return one.path.resolve() == other.path.resolve()


def _write(run: RunDirectory, copied: dict[str, bytes]) -> None:
    # The summary last: it marks the run as finished.
    for file in sorted(run.files(), key=lambda file: file == run.summary_file):
        if file.name in copied:
            files.write_bytes(file, copied[file.name])
