"""A run's directory: the only file that knows the names of a run's files. Every write is atomic.

| file              | what it holds                                                                |
| config.yaml       | the resolved configuration                                                   |
| best.keras        | the weights of the highest validation accuracy, as a Keras model             |
| history.csv       | one row an epoch                                                             |
| curves.png        | loss and accuracy                                                            |
| summary.json      | what the run was made with and how it ended                                  |
| state.npz         | all that is needed to go on after the last whole epoch                       |
| diagnostics.csv   | what else was measured, where the configuration asks for it                  |
| predictions.npz   | the logits of the test images (written by evaluate.py)                       |
| predictions-*.npz | the same, averaged over views of each image (evaluate.py --tta)              |
| tensorboard/      | TensorBoard's logs, where `--tensorboard` asks for them                      |
"""

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiment import config as configuration
from experiment.config import Config, TestTimeAugmentation
from experiment.errors import UserError
from experiment.files import TEMPORARY, atomic, read_csv, reading, write_csv, write_text

try:
    import fcntl
except ImportError:  # Windows has no flock; two trainings on one run directory are then not noticed
    fcntl = None

HISTORY_COLUMNS = (
    "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds", "images_per_second",
)  # fmt: skip
DIAGNOSTICS_COLUMNS = ("epoch", "layer", "measure", "value")


def _file(name: str) -> property:
    return property(lambda run: run.path / name)


@dataclass(frozen=True)
class RunDirectory:
    """The files of one run. Reading raises UserError, naming the file, where one is missing or damaged."""

    path: Path

    config_file = _file("config.yaml")
    best_file = _file("best.keras")
    history_file = _file("history.csv")
    curves_file = _file("curves.png")
    summary_file = _file("summary.json")
    state_file = _file("state.npz")
    diagnostics_file = _file("diagnostics.csv")
    predictions_file = _file("predictions.npz")
    tensorboard_folder = _file("tensorboard")

    def predictions_under(self, tta: TestTimeAugmentation) -> Path:
        """The file of the logits that are averaged over the views of `tta`."""
        return self.path / ("predictions.npz" if tta == "none" else f"predictions-{tta}.npz")

    def files(self) -> list[Path]:
        """Every file that a run can have, present or not."""
        return [
            self.config_file,
            self.best_file,
            self.history_file,
            self.curves_file,
            self.summary_file,
            self.state_file,
            self.diagnostics_file,
            *map(self.predictions_under, configuration.allowed(TestTimeAugmentation)),
        ]

    def exists(self) -> bool:
        """Whether any run left files here."""
        try:
            return any(file.exists() for file in self.files())
        except OSError:  # a name that is too long, a directory that may not be entered: prepare() says so
            return False

    def prepare(self) -> None:
        """Makes the directory, and removes what a killed write left over."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with self.locked():  # else what another training is just writing would look like a leftover
                for leftover in self.path.glob(f"{TEMPORARY}*"):
                    leftover.unlink()
            if not os.access(self.path, os.W_OK):
                raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise UserError(f"{self.path} cannot be used as a run directory: {error.strerror or error}") from None

    def remove_files(self) -> None:
        """Removes the files of the run that was here, and nothing else."""
        for file in [*self.files(), *self.tensorboard_folder.glob("*/events.out.tfevents.*")]:
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise UserError(f"{file} cannot be removed: {error.strerror or error}") from None

    @contextmanager
    def locked(self):
        """Holds the directory for one training; the lock ends with the process, however it ends.

        Raises:
            UserError: another training holds it.
        """
        if fcntl is None:
            yield
            return
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{self.path}: another training is running in this directory") from None
        else:
            yield
        finally:
            os.close(descriptor)

    # ---- configuration, summary, history

    def write_config(self, config: Config) -> None:
        write_text(self.config_file, configuration.to_yaml(config))

    def read_config(self) -> Config:
        return configuration.read_resolved(self.config_file)

    def write_summary(self, summary: dict) -> None:
        write_text(self.summary_file, json.dumps(summary, indent=2) + "\n")

    def read_summary(self) -> dict:
        try:
            summary = json.loads(self.summary_file.read_text(encoding="utf-8"))
            if not isinstance(summary, dict) or not isinstance(summary.get("status"), str):
                raise ValueError("it has no status")
            return summary
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{self.summary_file} is missing or damaged: {error}") from None

    def write_history(self, rows: list[dict]) -> None:
        write_csv(self.history_file, HISTORY_COLUMNS, rows)

    def read_history(self) -> list[dict]:
        """The rows of history.csv as numbers, one dict an epoch."""
        return read_csv(self.history_file, HISTORY_COLUMNS)

    def write_diagnostics(self, rows: list[dict]) -> None:
        write_csv(self.diagnostics_file, DIAGNOSTICS_COLUMNS, rows)

    def read_diagnostics(self) -> list[dict]:
        """The rows of diagnostics.csv: epoch, layer (from 1), measure (its name), value."""
        return read_csv(self.diagnostics_file, DIAGNOSTICS_COLUMNS)

    # ---- state and predictions

    def write_state(self, facts: dict, arrays: list[np.ndarray]) -> None:
        """Writes what a resumed run starts from: JSON facts and arrays, in one file that is whole or absent."""
        named = {f"array_{number}": array for number, array in enumerate(arrays)}
        with atomic(self.state_file) as temporary, temporary.open("wb") as file:
            np.savez(file, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **named)

    def read_state(self) -> tuple[dict, list[np.ndarray]]:
        with reading(self.state_file) as archive:
            arrays = [archive[f"array_{number}"] for number in range(len(archive.files) - 1)]
            facts = json.loads(archive["facts"].tobytes())
            if not isinstance(facts, dict):
                raise ValueError("its facts are not a mapping")
            return facts, arrays

    def write_predictions(self, logits: np.ndarray, labels: np.ndarray, tta: TestTimeAugmentation = "none") -> None:
        """Keeps test logits [n, classes] as float16 and their labels [n] as the smallest integers that hold them."""
        with atomic(self.predictions_under(tta)) as temporary, temporary.open("wb") as file:
            largest = np.finfo(np.float16).max
            halves = np.clip(logits, -largest, largest).astype(np.float16)
            np.savez_compressed(file, logits=halves, labels=labels.astype(np.min_scalar_type(labels.max())))

    def read_predictions(self, tta: TestTimeAugmentation = "none") -> tuple[np.ndarray, np.ndarray]:
        with reading(self.predictions_under(tta)) as archive:
            logits, labels = archive["logits"], archive["labels"]
            if logits.ndim != 2 or labels.shape != (len(logits),) or not logits.size:
                raise ValueError(f"logits {logits.shape} do not fit labels {labels.shape}")
            if logits.dtype.kind != "f" or labels.dtype.kind not in "iu":
                raise ValueError("its logits or its labels are not numbers")
            if not 0 <= labels.min() <= labels.max() < logits.shape[1]:
                raise ValueError(f"its labels are not 0 to {logits.shape[1] - 1}, as its logits are")
            return logits, labels

    def check_same_data(self, fingerprint: str, source: str) -> None:
        """Raises a UserError where the run was made on other images than those of `fingerprint`."""
        if not self.summary_file.exists():
            return
        facts = self.read_summary().get("data")
        if not isinstance(facts, dict) or facts.get("sha256") != fingerprint:
            raise UserError(f"{self.path} was trained on other data than {source}: the images differ")

    # ---- all that is worth keeping

    def small_files(self) -> list[Path]:
        """The files that are there, but for the weights and the state."""
        return [file for file in self.files() if file.exists() and file not in (self.best_file, self.state_file)]

    def keep(self, files: dict[str, bytes]) -> None:
        """Takes over the small files of a run that was trained elsewhere; one that is finished here stays as it is."""
        if self.summary_file.exists() and self.read_summary()["status"] in ("finished", "diverged"):
            return
        self.prepare()
        self.remove_files()
        # The summary last: until it is there, the run is not finished here.
        for file in sorted(self.files(), key=lambda file: file == self.summary_file):
            if file.name in files:
                with atomic(file) as temporary:
                    temporary.write_bytes(files[file.name])

    def copy_small_files(self, destination: Path) -> None:
        try:
            destination.mkdir(parents=True, exist_ok=True)
            for file in self.small_files():
                shutil.copy2(file, destination / file.name)
        except OSError as error:
            raise UserError(f"{destination} cannot be written: {error.strerror or error}") from None


def is_finished(config: Config, run: RunDirectory) -> bool:
    """Whether the directory holds the finished run of just this configuration."""
    if not (run.config_file.exists() and run.summary_file.exists()):
        return False
    return run.read_summary()["status"] == "finished" and not configuration.differences(run.read_config(), config)


def check_resumable(config: Config, run: RunDirectory) -> None:
    """Raises a UserError that says what differs where `--resume` cannot go on; touches nothing."""
    if not run.config_file.exists():
        raise UserError(f"{run.path} holds no run to resume; leave out --resume to start one")
    old = run.read_config()
    # Without a summary the run was killed between its first two files: it has a configuration and nothing else.
    summary = run.read_summary() if run.summary_file.exists() else {"status": "running"}
    differing = configuration.differences(old, config)
    finished = summary["status"] == "finished"
    if set(differing) == {"epochs"} and config.epochs > old.epochs:
        if config.schedule.name != "constant":
            raise UserError(
                f"{run.path}: epochs cannot be raised from {old.epochs} to {config.epochs}: the {config.schedule.name} "
                f"schedule ends at epoch {old.epochs}, so a longer run has another learning rate from the first step on"
            )
    elif differing:
        lines = [f"{key}: {before!r} in the run, {after!r} now" for key, (before, after) in differing.items()]
        raise UserError("\n  ".join([f"{run.path} is a run of another configuration:", *lines]))
    elif finished:
        raise UserError(f"{run.path}: this run is finished ({old.epochs} epochs); there is nothing to resume")
    if summary["status"] == "diverged":
        raise UserError(
            f"{run.path}: this run diverged ({summary.get('reason', 'its loss became NaN')}); it cannot go on"
        )


def find(root: Path) -> list[RunDirectory]:
    """Every run directory at or under `root`, in the order of their paths."""
    try:
        return [RunDirectory(file.parent) for file in sorted(root.rglob("config.yaml"))]
    except OSError:  # a name that is too long
        return []


def select(paths: Sequence[Path], root: Path) -> list[RunDirectory]:
    """The run directories that a user names, or all under `root`, those of studies apart, when none is named.

    Raises:
        UserError: a named directory holds no run, or there is no run at all.
    """
    if not paths:
        runs = [run for run in find(root) if not run.path.is_relative_to(root / "studies")]
        if not runs:
            raise UserError(
                f"no run under {root} yet. Make one:\n"
                "  python train.py --config plain.yaml\n"
                "  python train.py --config bn.yaml\n"
                "or, in a minute and without a download: make demo"
            )
        return runs
    found = [(path, find(path)) for path in paths]
    for path, runs in found:
        if not runs:
            raise UserError(f"{path} holds no run (no config.yaml in it or below it)")
    return list({run.path.resolve(): run for _, runs in found for run in runs}.values())  # each once
