"""The directory of a run: the names of its files, and how they are read and written. All writes are atomic.

| file              | content                                                                      |
| config.yaml       | the resolved configuration                                                   |
| best.keras        | the Keras model of the epoch with the highest validation accuracy            |
| history.csv       | one row per epoch                                                            |
| curves.png        | loss and accuracy (train.py --figures: .svg, .pdf)                           |
| summary.json      | data, versions, machine, status and results                                  |
| state.npz         | the checkpoint for `--resume`: all state after the last completed epoch      |
| diagnostics.csv   | additional measurements, if the configuration requests them                  |
| predictions.npz   | the logits of the test images (written by evaluate.py)                       |
| predictions-*.npz | the same with test-time augmentation (evaluate.py --tta)                     |
| tensorboard/      | TensorBoard logs (train.py --tensorboard)                                    |
"""

import contextlib
import hashlib
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from experiment import config as configuration
from experiment import files, reading, records
from experiment.config import Config
from experiment.errors import UserError
from experiment.files import atomic, write_csv, write_text
from experiment.options import FigureFormat, TestTimeAugmentation
from experiment.reading import MIB

HISTORY_COLUMNS = {name: field.annotation for name, field in records.Epoch.model_fields.items()}  # with their types
DIAGNOSTICS_COLUMNS = {"epoch": int, "layer": int, "measure": str, "value": float}
LARGEST_WEIGHTS = 512 * MIB  # for a check of the file; what is read into memory is limited by the network's size
_LARGEST_STATE, _LARGEST_FACTS = 256 * MIB, 8 * MIB


def _file(name: str) -> property:
    return property(lambda run: run.path / name)


@dataclass(frozen=True)
class RunDirectory:
    """The files of one run. The `read_` methods raise a UserError that names the file if it is missing or damaged."""

    path: Path

    config_file = _file("config.yaml")
    best_file = _file("best.keras")
    history_file = _file("history.csv")
    summary_file = _file("summary.json")
    state_file = _file("state.npz")
    diagnostics_file = _file("diagnostics.csv")
    predictions_file = _file("predictions.npz")
    tensorboard_folder = _file("tensorboard")

    def curves_in(self, figure_format: FigureFormat) -> Path:
        """The file of the learning curves."""
        return self.path / f"curves.{figure_format}"

    def predictions_under(self, tta: TestTimeAugmentation) -> Path:
        """The file of the logits with this test-time augmentation."""
        return self.path / ("predictions.npz" if tta == "none" else f"predictions-{tta}.npz")

    def all_predictions(self) -> list[Path]:
        return [self.predictions_under(tta) for tta in get_args(TestTimeAugmentation)]

    def files(self) -> list[Path]:
        """All files that a run can have, present or not; the configuration, which identifies the run, last."""
        curves = [self.curves_in(figure_format) for figure_format in get_args(FigureFormat)]
        small = [self.summary_file, self.state_file, self.diagnostics_file, *self.all_predictions()]
        return [self.best_file, self.history_file, *curves, *small, self.config_file]

    def exists(self) -> bool:
        """Whether any of a run's files is present."""
        return any(os.path.lexists(file) for file in self.files())

    def began(self) -> int | None:
        """When the configuration was written, in nanoseconds; None without one."""
        return self.config_file.lstat().st_mtime_ns if os.path.lexists(self.config_file) else None

    def has_summary(self) -> bool:
        """Whether there is a summary; false, too, where the directory may not be read."""
        return os.path.exists(self.summary_file)  # noqa: PTH110 (never raises)

    def has_weights(self) -> bool:
        """Whether there are weights; false, too, where the directory may not be entered."""
        return os.path.exists(self.best_file)  # noqa: PTH110 (never raises)

    def check_usable(self) -> None:
        """Raises a UserError if the directory cannot be written to or created; changes nothing."""
        try:
            files.check_folder(self.path)
        except OSError as error:
            raise UserError(f"{self.path} cannot be used as a run directory: {error.strerror}") from None

    def prepare(self) -> None:
        """Creates the directory, and removes the temporary files of killed writers."""
        self.check_usable()
        files.make_folder(self.path)
        files.remove_leftovers(self.path)

    def remove_files(self) -> None:
        """Removes the files of a run, and nothing else."""
        for file in [*self.tensorboard_folder.glob("*/events.out.tfevents.*"), *self.files()]:
            files.remove(file)

    @contextmanager
    def locked(self, wait: bool = False):
        """Locks the directory for one training process; the lock is released when the process ends, even if killed.

        Args:
            wait: wait while another process holds the lock.

        Raises:
            UserError: another process holds the lock.
        """
        if os.name != "posix":  # other systems cannot open or lock a directory
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
            # Older configurations have no `data.name`: only the summary tells that the images are synthetic.
            if self.has_summary() and self.read_summary()["data"]["name"] == "generated":
                return config.on_data("synthetic")
        return config

    def write_summary(self, summary: dict) -> None:
        write_text(self.summary_file, json.dumps(summary, indent=2) + "\n")

    def read_summary(self) -> dict:
        """The validated summary; that of a finished run is complete."""
        return reading.read_json(self.summary_file, records.check_summary)

    def write_history(self, rows: list[dict]) -> None:
        write_csv(self.history_file, HISTORY_COLUMNS, rows, ".6g")

    def read_history(self) -> list[dict]:
        """The validated rows of history.csv: one dict per epoch, starting at epoch 1."""
        return reading.read_csv(self.history_file, HISTORY_COLUMNS, records.check_history)

    def write_diagnostics(self, rows: list[dict]) -> None:
        write_csv(self.diagnostics_file, DIAGNOSTICS_COLUMNS, rows, ".6g")

    def read_diagnostics(self) -> list[dict]:
        """The rows of diagnostics.csv: epoch and layer (both from 1), measure (its name), value."""
        return reading.read_csv(self.diagnostics_file, DIAGNOSTICS_COLUMNS, records.check_diagnostics, 8 * MIB)

    # ---- state and predictions

    def write_state(self, facts: dict, arrays: list[np.ndarray]) -> None:
        """Writes the checkpoint for `--resume`: facts as JSON, and arrays, in one atomic file."""
        named = {f"array_{number}": array for number, array in enumerate(arrays)}
        with atomic(self.state_file) as temporary, temporary.open("wb") as file:
            np.savez(file, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **named)

    def read_state(self, largest: int = _LARGEST_STATE) -> tuple[dict, list[np.ndarray]]:
        """The facts, with a validated history, and the arrays, of at most `largest` bytes in total."""

        def check(found: dict[str, np.ndarray]) -> tuple[dict, list[np.ndarray]]:
            return _check_facts(found["facts"]), [found[f"array_{number}"] for number in range(len(found) - 1)]

        return reading.read_arrays(self.state_file, largest + _LARGEST_FACTS, check)

    def read_facts(self) -> dict:
        """The facts of the checkpoint, without reading its arrays."""
        with reading.opened_zip(self.state_file, 8 * LARGEST_WEIGHTS) as archive:
            member = archive.getinfo("facts.npy")
            if member.file_size > _LARGEST_FACTS:
                raise ValueError("its facts are too long")
            return _check_facts(reading.array(reading.unpack(archive, member)))

    @contextmanager
    def new_best(self):
        """Yields the path to save better weights to; removes the predictions of the former weights first."""
        for file in self.all_predictions():
            files.remove(file)
        with atomic(self.best_file) as temporary:
            yield temporary

    def weights_digest(self) -> str | None:
        """The SHA-256 of best.keras, which is stored with its predictions; None if the file is missing."""
        if not self.has_weights():
            return None
        with reading.opened(self.best_file, LARGEST_WEIGHTS) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def as_stored(self, logits: np.ndarray) -> np.ndarray:
        """The logits as predictions.npz stores them, in float16. Raises a UserError if some are not finite."""
        if not np.isfinite(logits).all():
            raise UserError(f"{self.best_file}: its weights predict NaN or infinite logits")
        # The same probabilities, but close to zero, where float16 is finest, lie those of the likeliest classes.
        shifted = logits - logits.max(1, keepdims=True)
        return np.maximum(shifted, -np.finfo(np.float16).max).astype(np.float16)

    def write_predictions(
        self, logits: np.ndarray, labels: np.ndarray, tta: TestTimeAugmentation = "none", weights: str | None = None
    ) -> None:
        """Stores test logits [n, classes] as float16, labels [n] as the smallest sufficient integers, and the digest of
        the weights."""
        arrays = {
            "logits": self.as_stored(logits),
            "labels": labels.astype(np.min_scalar_type(labels.max())),
            **({"weights": np.array(weights)} if weights else {}),
        }
        with atomic(self.predictions_under(tta)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)

    def read_predictions(self, tta: TestTimeAugmentation = "none") -> tuple[np.ndarray, np.ndarray]:
        """Test logits [n, classes] and labels [n]. Raises a UserError if they are not from the run's weights."""
        path = self.predictions_under(tta)
        logits, labels, weights = reading.read_arrays(path, records.LARGEST_PREDICTIONS, records.check_predictions)
        summary = self.read_summary() if self.has_summary() else {}
        expected = self.weights_digest() or summary.get("weights")
        unknown = None in (weights, expected) and not self.has_weights()  # of a run of an earlier version
        if weights != expected and not unknown:
            raise UserError(f"{path} is not from the weights in {self.best_file.name}: evaluate the run again")
        return logits, labels

    def has_predictions(self, tta: TestTimeAugmentation = "none") -> bool:
        """Whether there are valid predictions from the run's weights."""
        try:
            self.read_predictions(tta)
        except UserError:
            return False
        return True

    def check_weights(self) -> None:
        """Raises a UserError if best.keras is missing, or its checksums do not match."""
        with reading.opened_zip(self.best_file, LARGEST_WEIGHTS) as archive:
            if damaged := archive.testzip():
                raise ValueError(f"the checksum of {damaged} does not match")

    def check_same_data(self, fingerprint: str, source: str) -> None:
        """Raises a UserError if the run was trained on other images than those of `fingerprint`."""
        if not self.has_summary():
            return
        if (self.read_summary().get("data") or {}).get("sha256") != fingerprint:
            told = f"{self.path} was trained on other images than {source}"
            raise UserError(f"{told}: name those with --data, or train again")


def _check_facts(content: np.ndarray) -> dict:
    facts = json.loads(content.tobytes())
    if not isinstance(facts, dict):
        raise ValueError("its facts are not a mapping")
    records.check_history(facts.get("history", []))
    return facts
