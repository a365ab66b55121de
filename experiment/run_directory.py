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

import contextlib
import hashlib
import json
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiment import config as configuration
from experiment import files, reading, records
from experiment.config import Config, TestTimeAugmentation
from experiment.errors import UserError
from experiment.files import atomic, write_csv, write_text
from experiment.reading import MIB

HISTORY_COLUMNS = (
    "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds", "images_per_second",
)  # fmt: skip
DIAGNOSTICS_COLUMNS = ("epoch", "layer", "measure", "value")
_LARGEST_WEIGHTS = 512 * MIB  # only to be checked; what is read into memory is bounded by its network
_LARGEST_STATE, _LARGEST_FACTS = 256 * MIB, 8 * MIB
_LARGEST_PREDICTIONS = 64 * MIB
_LARGEST_DIAGNOSTICS = 8 * MIB


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

    def all_predictions(self) -> list[Path]:
        return [self.predictions_under(tta) for tta in configuration.allowed(TestTimeAugmentation)]

    def files(self) -> list[Path]:
        """Every file that a run can have, present or not; the configuration last, which says which run it is."""
        return [
            self.best_file,
            self.history_file,
            self.curves_file,
            self.summary_file,
            self.state_file,
            self.diagnostics_file,
            *self.all_predictions(),
            self.config_file,
        ]

    def exists(self) -> bool:
        """Whether any run left files here."""
        return any(os.path.lexists(file) for file in self.files())

    def prepare(self, wait: bool = False) -> None:
        """Makes the directory, and removes what killed writes left over; `wait` as in `locked`."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with self.locked(wait):
                files.remove_leftovers(self.path)
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
    def locked(self, wait: bool = False):
        """Holds the directory for one training; the lock ends with the process, however it ends.

        Args:
            wait: where another training holds it, until that one has ended.

        Raises:
            UserError: another training holds it.
        """
        if os.name != "posix":  # elsewhere a directory cannot be opened, nor locked
            yield
            return
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            if files.lock(descriptor, wait) is False:
                raise UserError(f"{self.path}: another training is running in this directory")
            yield
        finally:
            os.close(descriptor)

    # ---- configuration, summary, history

    def write_config(self, config: Config) -> None:
        write_text(self.config_file, configuration.to_yaml(config))

    def read_config(self) -> Config:
        config = configuration.read_resolved(self.config_file)
        with contextlib.suppress(UserError, KeyError, TypeError):
            # Before configurations had `data.name`, a run on synthetic images said so in its summary alone.
            if self.summary_file.exists() and self.read_summary()["data"]["name"] == "generated":
                return config.on_data("synthetic")
        return config

    def write_summary(self, summary: dict) -> None:
        write_text(self.summary_file, json.dumps(summary, indent=2) + "\n")

    def read_summary(self) -> dict:
        """The summary, checked: that of a finished run has all that is reported, and every number is one."""
        return reading.read_json(self.summary_file, records.check_summary)

    def write_history(self, rows: list[dict]) -> None:
        write_csv(self.history_file, HISTORY_COLUMNS, rows)

    def read_history(self) -> list[dict]:
        """The rows of history.csv as numbers, one dict an epoch, from epoch 1 on."""
        return reading.read_csv(self.history_file, HISTORY_COLUMNS, records.check_history)

    def write_diagnostics(self, rows: list[dict]) -> None:
        write_csv(self.diagnostics_file, DIAGNOSTICS_COLUMNS, rows)

    def read_diagnostics(self) -> list[dict]:
        """The rows of diagnostics.csv: epoch, layer (from 1), measure (its name), value."""
        return reading.read_csv(
            self.diagnostics_file, DIAGNOSTICS_COLUMNS, records.check_diagnostics, _LARGEST_DIAGNOSTICS
        )

    # ---- state and predictions

    def write_state(self, facts: dict, arrays: list[np.ndarray]) -> None:
        """Writes what a resumed run starts from: JSON facts and arrays, in one file that is whole or absent."""
        named = {f"array_{number}": array for number, array in enumerate(arrays)}
        with atomic(self.state_file) as temporary, temporary.open("wb") as file:
            np.savez(file, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **named)

    def read_state(self, largest: int = _LARGEST_STATE) -> tuple[dict, list[np.ndarray]]:
        """The facts, their history checked, and the arrays, which have `largest` bytes or fewer in all."""

        def check(found: dict[str, np.ndarray]) -> tuple[dict, list[np.ndarray]]:
            return _check_facts(found["facts"]), [found[f"array_{number}"] for number in range(len(found) - 1)]

        return reading.read_arrays(self.state_file, largest + _LARGEST_FACTS, check)

    def read_facts(self) -> dict:
        """The state's facts alone, however large its arrays."""
        with reading.opened_zip(self.state_file, 8 * _LARGEST_WEIGHTS) as archive:
            member = archive.getinfo("facts.npy")
            if member.file_size > _LARGEST_FACTS:
                raise ValueError("its facts are too long")
            return _check_facts(reading.array(reading.unpack(archive, member)))

    @contextmanager
    def new_best(self):
        """Yields the path to save better weights to. What the earlier ones predicted goes first."""
        for file in self.all_predictions():
            file.unlink(missing_ok=True)
        with atomic(self.best_file) as temporary:
            yield temporary

    def weights_digest(self) -> str | None:
        """The SHA-256 of best.keras, which what it predicted is kept with; None where it is not there."""
        if not self.best_file.exists():
            return None
        with reading.opened(self.best_file, _LARGEST_WEIGHTS) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def as_kept(self, logits: np.ndarray) -> np.ndarray:
        """The logits as predictions.npz holds them: float16. Raises UserError where they are not all numbers."""
        if not np.isfinite(logits).all():
            raise UserError(f"{self.best_file}: its weights predict what is no number (NaN or infinite)")
        largest = np.finfo(np.float16).max
        return np.clip(logits, -largest, largest).astype(np.float16)

    def write_predictions(
        self, logits: np.ndarray, labels: np.ndarray, tta: TestTimeAugmentation = "none", weights: str | None = None
    ) -> None:
        """Keeps test logits [n, classes] as float16, their labels [n] as the smallest integers that hold them, and the
        digest of the weights that they are of."""
        arrays = {
            "logits": self.as_kept(logits),
            "labels": labels.astype(np.min_scalar_type(labels.max())),
            **({"weights": np.array(weights)} if weights else {}),
        }
        with atomic(self.predictions_under(tta)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)

    def read_predictions(self, tta: TestTimeAugmentation = "none") -> tuple[np.ndarray, np.ndarray]:
        """Test logits [n, classes] and labels [n]; refused where they are of other weights than the run's."""
        path = self.predictions_under(tta)
        logits, labels, weights = reading.read_arrays(path, _LARGEST_PREDICTIONS, records.check_predictions)
        summary = self.read_summary() if self.summary_file.exists() else {}
        expected = self.weights_digest() or summary.get("weights")
        if weights is None and self.best_file.exists():  # kept by an earlier version: by the order of their writing
            fits = path.stat().st_mtime_ns >= self.best_file.stat().st_mtime_ns
        else:
            fits = None in (weights, expected) or weights == expected
        if not fits:
            raise UserError(f"{path} is of other weights than {self.best_file.name}: evaluate the run again")
        return logits, labels

    def has_predictions(self, tta: TestTimeAugmentation = "none") -> bool:
        """Whether there are predictions that can be read and are of the run's weights."""
        try:
            self.read_predictions(tta)
        except UserError:
            return False
        return True

    def check_weights(self) -> None:
        """Raises a UserError where best.keras is gone or damaged; reads it whole, and nothing into a network."""
        with reading.opened_zip(self.best_file, _LARGEST_WEIGHTS) as archive:
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} is not as it was written")

    def check_same_data(self, fingerprint: str, source: str) -> None:
        """Raises a UserError where the run was made on other images than those of `fingerprint`."""
        if not self.summary_file.exists():
            return
        facts = self.read_summary().get("data")
        if not isinstance(facts, dict) or facts.get("sha256") != fingerprint:
            raise UserError(f"{self.path} was trained on other data than {source}: the images differ")

    # ---- all that is worth keeping

    def small_files(self) -> dict[str, bytes]:
        """The files that are there by their names, but for the weights and the state; what a link points to is none."""
        found = [file for file in self.files() if file not in (self.best_file, self.state_file)]
        regular = [file for file in found if os.path.lexists(file) and stat.S_ISREG(file.lstat().st_mode)]
        return {file.name: reading.read_bytes(file, _LARGEST_PREDICTIONS) for file in regular}

    def keep(self, contents: dict[str, bytes]) -> None:
        """Takes over the small files of a run that was trained elsewhere; one that is finished here stays as it is."""
        if self.summary_file.exists() and self.read_summary()["status"] in ("finished", "diverged"):
            return
        self.prepare()
        self.remove_files()
        self._write_small(contents)

    def copy_small_files(self, destination: Path) -> None:
        """Copies the small files; predictions that an earlier copy has, and this run has not, go."""
        copy, contents = RunDirectory(destination), self.small_files()
        files.make_folder(destination)
        for file in copy.all_predictions():
            if file.name not in contents:
                file.unlink(missing_ok=True)
        copy._write_small(contents)

    def _write_small(self, contents: dict[str, bytes]) -> None:
        # The summary last: until it is there, the run is not finished here.
        for file in sorted(self.files(), key=lambda file: file == self.summary_file):
            if file.name in contents:
                files.write_bytes(file, contents[file.name])


def _check_facts(content: np.ndarray) -> dict:
    facts = json.loads(content.tobytes())
    if not isinstance(facts, dict):
        raise ValueError("its facts are not a mapping")
    records.check_history(facts.get("history", []))
    return facts
