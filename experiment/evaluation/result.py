"""One finished run, read: what it was, how it trained, and its predictions of the test images.

Every measure is computed from the kept logits (predictions.npz), so that it can be computed again without the weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from experiment.config import Config
from experiment.data import cifar
from experiment.data.synthetic import CLASS_NAMES
from experiment.errors import UserError
from experiment.evaluation import metrics
from experiment.options import TestTimeAugmentation
from experiment.printable import printable_name
from experiment.resuming import read_finished
from experiment.run_directory import HISTORY_COLUMNS, RunDirectory

# Of runs whose summary does not name the classes, nor says what shape the images have.
_CLASS_NAMES_BEFORE = {"cifar10": cifar.CIFAR10.class_names, "generated": CLASS_NAMES}
_MOST_CLASSES = 100  # in a confusion matrix that is reported
MILESTONES = (0.60, 0.70, 0.75, 0.80)  # of validation accuracy


@dataclass(frozen=True)
class RunResult:
    """A finished run and its predictions of the test images. Accuracies are in 0..1, the loss in nats."""

    name: str
    config: Config
    summary: dict
    history: list[dict]
    logits: np.ndarray
    labels: np.ndarray
    tta: TestTimeAugmentation = "none"
    tta_logits: np.ndarray | None = None  # None where tta is "none"

    def __repr__(self) -> str:
        return f"<RunResult {self.name}: test accuracy {self.accuracy:.2%}>"

    @property
    def directory(self) -> str:
        """The run's name without `/seed<n>`: by default the name of its configuration's file."""
        return self.name.removesuffix(f"/seed{self.config.seed}")

    @property
    def data_name(self) -> str:
        return self.summary["data"]["name"]

    @property
    def data(self) -> str:
        """The SHA-256 of its images (older runs: their name). Results on different images are never compared."""
        return self.summary["data"].get("sha256") or self.data_name

    @property
    def synthetic(self) -> bool:
        return self.data_name in ("synthetic", "generated")

    @property
    def class_names(self) -> tuple[str, ...]:
        return class_names_of(self.summary)

    @property
    def predictions(self) -> np.ndarray:
        return self.logits.argmax(1)

    @property
    def correct(self) -> np.ndarray:
        """Which test images it classified correctly, bool [n]."""
        return self.predictions == self.labels

    @property
    def accuracy(self) -> float:
        return float(self.correct.mean())

    @property
    def tta_accuracy(self) -> float | None:
        """The accuracy of logits that are averaged over several views of each image."""
        return None if self.tta_logits is None else float((self.tta_logits.argmax(1) == self.labels).mean())

    def confusion_matrix(self) -> np.ndarray:
        return metrics.confusion_matrix(self.predictions, self.labels, self.logits.shape[1])

    @property
    def remarks(self) -> list[str]:
        """What a reader must know before trusting the number."""
        remarks = ["synthetic images"] if self.synthetic else []
        if self.config.data.optimistic:
            remarks.append("optimistic: weights chosen on the test set")
        if self.summary.get("cold_averages") is True:
            remarks.append("too low: too few steps for the moving averages of batch normalisation")
        if len(np.unique(self.predictions)) == 1:
            remarks.append(f'predicts "{self.class_names[self.predictions[0]]}" for every image')
        return remarks

    def measures(self) -> dict:
        """Every number of this run that is reported, ready for JSON."""
        matrix = self.confusion_matrix()
        shares = metrics.class_shares(matrix).diagonal()
        best_epoch = self.summary["best_epoch"]
        return {
            "run": self.name,
            "seed": self.config.seed,
            "data": self.data_name,
            "protocol": self.config.data.protocol,
            "remarks": self.remarks,
            "parameters": self.summary["parameters"],
            "precision": self.summary["precision"],
            "epochs": self.summary["epochs"],
            "best_epoch": best_epoch,
            "best_epoch_because": f"the first of the highest validation accuracy, {self.summary['val_accuracy']:.4f}",
            "val_accuracy": self.summary["val_accuracy"],
            "test_images": len(self.labels),
            "test_accuracy": self.accuracy,
            "test_accuracy_wilson_95": metrics.accuracy_interval(int(self.correct.sum()), len(self.labels)),
            "tta": self.tta,
            "tta_test_accuracy": self.tta_accuracy,
            "test_loss": metrics.negative_log_likelihood(self.logits, self.labels),
            "brier_score": metrics.brier_score(self.logits, self.labels),
            "expected_calibration_error": metrics.calibration(self.logits, self.labels).expected_error,
            "train_seconds": self.summary["train_seconds"],
            "seconds_to_best_epoch": float(self.seconds()[int(best_epoch) - 1]),
            "milestones": {f"{share:.2f}": self.first_epoch_reaching(share) for share in MILESTONES},
            "images_per_second": self.summary["images_per_second"],
            "class_accuracy": dict(zip(self.class_names, shares.tolist(), strict=True)),
            "confusion_matrix": matrix.tolist() if len(matrix) <= _MOST_CLASSES else None,  # else megabytes
        }

    def first_epoch_reaching(self, accuracy: float) -> dict | None:
        """The first epoch whose validation accuracy is at least `accuracy` (0..1), and the seconds at its end."""
        for row, until in zip(self.history, self.seconds(), strict=True):
            if row["val_accuracy"] >= accuracy:
                return {"epoch": row["epoch"], "seconds": float(until)}
        return None

    def seconds(self) -> np.ndarray:
        """The seconds of training at the end of each epoch."""
        return np.cumsum([row["seconds"] for row in self.history])

    def history_table(self):
        """The history for a notebook: `history_table()["val_accuracy"]` is a column of it.

        Returns:
            A `pandas.DataFrame` whose index is the epoch, where pandas is installed; else a dict of arrays [epochs].
        """
        columns = {name: np.array([row[name] for row in self.history]) for name in HISTORY_COLUMNS}
        try:
            import pandas
        except ImportError:
            return columns
        return pandas.DataFrame(columns).set_index("epoch")


def load_result(
    run: RunDirectory, name: str, tta: TestTimeAugmentation = "none", unwritten: Mapping = MappingProxyType({})
) -> RunResult:
    """Reads a finished run and its kept predictions; writes nothing.

    Args:
        run: a finished run whose test images were predicted.
        name: what to call it.
        tta: the views whose averaged logits are read, too.
        unwritten: predictions that the run's directory does not hold, as `predict_missing` returns them.

    Raises:
        UserError: the run is not finished, or one of its files is missing, damaged or does not fit the others.
    """
    config, summary, history = read_finished(run)
    logits, labels = unwritten.get("none") or run.read_predictions()
    if len(class_names_of(summary, run.summary_file)) != logits.shape[1]:
        raise UserError(f"{run.summary_file}: data.class_names are not the names of {logits.shape[1]} classes")
    averaged = None
    if tta != "none":
        averaged = (unwritten.get(tta) or run.read_predictions(tta))[0].astype(np.float32)
    if averaged is not None and averaged.shape != logits.shape:
        raise UserError(f"{run.predictions_under(tta)} and {run.predictions_file.name} do not fit: other images")
    logits, labels = logits.astype(np.float32), labels.astype(np.int32)
    return RunResult(printable_name(name), config, summary, history, logits, labels, tta, averaged)


def class_names_of(summary: dict, where: object = "summary.json") -> tuple[str, ...]:
    """The classes that a run was trained on. Raises UserError if its summary, read from `where`, does not name them."""
    facts = summary.get("data") or {}
    names = facts.get("class_names") or _CLASS_NAMES_BEFORE.get(facts.get("name", ""))
    if not names:
        raise UserError(f"{where}: data.class_names is missing")
    return tuple(names)


def image_shape_of(summary: dict) -> tuple[int, int, int]:
    """Height, width and channels of the images that a run was trained on."""
    return tuple((summary.get("data") or {}).get("image_shape") or cifar.IMAGE_SHAPE)
