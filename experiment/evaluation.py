"""Predictions and the measures of runs, and what they say of one network against the other.

A run's test logits are kept as float16 beside it (predictions.npz), and every measure is computed from those, so that
it can be computed again without the weights.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from experiment import figures, keras_archive, run_directory, tensorflow_start
from experiment.config import Config, Model
from experiment.data import CLASS_NAMES, GENERATED_CLASS_NAMES, Dataset
from experiment.errors import UserError
from experiment.run_directory import RunDirectory
from experiment.statistics import accuracy_interval, confusion_matrix, negative_log_likelihood

REPORT = {"none": 0.8193, "after_activation": 0.8238}


@dataclass(frozen=True)
class Evaluation:
    """A finished run and its answers to the test images. Accuracies are in 0..1, the loss in nats."""

    name: str
    config: Config
    summary: dict
    history: list[dict]
    logits: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)

    @property
    def network(self) -> str:
        return self.config.model.batch_norm

    @property
    def data_name(self) -> str:
        return self.summary["data"]["name"]

    @property
    def class_names(self) -> tuple[str, ...]:
        return CLASS_NAMES if self.data_name == "cifar10" else GENERATED_CLASS_NAMES

    @property
    def predictions(self) -> np.ndarray:
        return self.logits.argmax(1)

    @property
    def correct(self) -> int:
        """How many test images it got right."""
        return int((self.predictions == self.labels).sum())

    @property
    def marks(self) -> list[str]:
        """What a reader must know before trusting the number."""
        marks = [] if self.data_name == "cifar10" else ["generated images"]
        if self.config.data.protocol == "test_as_validation":
            marks.append("optimistic: weights chosen on the test set")
        return marks

    def measures(self) -> dict:
        """Every number of this run that is reported, ready for JSON."""
        matrix = confusion_matrix(self.predictions, self.labels, self.logits.shape[1])
        return {
            "run": self.name,
            "network": self.network,
            "seed": self.config.seed,
            "data": self.data_name,
            "marks": self.marks,
            "parameters": self.summary["parameters"],
            "precision": self.summary["precision"],
            "epochs": self.summary["epochs"],
            "best_epoch": self.summary["best_epoch"],
            "val_accuracy": self.summary["val_accuracy"],
            "test_images": len(self.labels),
            "test_accuracy": self.correct / len(self.labels),
            "test_accuracy_wilson_95": accuracy_interval(self.correct, len(self.labels)),
            "test_loss": negative_log_likelihood(self.logits, self.labels),
            "train_seconds": self.summary["train_seconds"],
            "images_per_second": self.summary["images_per_second"],
            "class_accuracy": dict(zip(self.class_names, (matrix.diagonal() / matrix.sum(1)).tolist(), strict=True)),
            "confusion_matrix": matrix.tolist(),
        }


def evaluate(run: RunDirectory, name: str, dataset_for: Callable[[str], Dataset], engine: str = "keras") -> Evaluation:
    """Answers the test images with a run's best weights, or takes the answers it kept where the weights are gone.

    Args:
        run: a finished run.
        name: what to call it.
        dataset_for: gives the data set of a name ("cifar10", "generated"); called only when it is needed.
        engine: what computes the logits, as in `predict`.

    Raises:
        UserError: the run is not finished, or one of its files is missing, damaged or does not fit the others.
    """
    config, summary, history = run.read_config(), run.read_summary(), run.read_history()
    if summary["status"] != "finished":
        raise UserError(f"{run.path}: not evaluated, it is {_in_words(summary)}")
    _check_summary(run, summary)
    if run.best_file.exists():
        dataset = dataset_for(summary["data"]["name"])
        run.check_same_data(dataset.fingerprint(), dataset.source)
        logits, labels = predict(run, config, dataset.test.images, engine), dataset.test.labels
        run.write_predictions(logits, labels)
    elif not run.predictions_file.exists():
        raise UserError(f"{run.path}: neither {run.best_file.name} nor {run.predictions_file.name} is there")
    logits, labels = run.read_predictions()
    return Evaluation(name, config, summary, history, logits.astype(np.float32), labels.astype(np.int32))


def predict(run: RunDirectory, config: Config, images: np.ndarray, engine: str = "keras") -> np.ndarray:
    """The logits [n, 10] of a run's best weights, computed in float32 by Keras, or by `numpy_layers` ("numpy").

    The weights are read into the network that the configuration builds; nothing of the file is run.
    """
    tensorflow_start.start()  # only here: an evaluation of kept answers does without TensorFlow
    from models import vgg

    model = vgg.build(config.model.batch_norm, seed=0)
    keras_archive.load_weights(model, run.best_file)
    parts = np.array_split(images, max(1, len(images) // 500))
    if engine == "numpy":
        from numpy_layers.network import NumpyNetwork

        network = NumpyNetwork.from_keras(model)
        return np.concatenate([network.predict(np.asarray(vgg.preprocess(part))) for part in parts])
    return np.concatenate([np.asarray(model(vgg.preprocess(part), training=False)) for part in parts])


def choose(paths: Sequence[Path], root: Path) -> list[RunDirectory]:
    """The run directories that a user names, or all under `root` when none is named.

    Raises:
        UserError: a named directory holds no run, or there is no run at all.
    """
    if not paths:
        runs = run_directory.find(root)
        if not runs:
            raise UserError(
                f"no run under {root} yet. Make one:\n"
                "  python train.py --config plain.yaml\n"
                "  python train.py --config bn.yaml\n"
                "or, in two minutes and without a download: make demo"
            )
        return runs
    found = [(path, run_directory.find(path)) for path in paths]
    for path, runs in found:
        if not runs:
            raise UserError(f"{path} holds no run (no config.yaml in it or below it)")
    return list({run.path.resolve(): run for _, runs in found for run in runs}.values())  # each once


def groups(evaluations: Sequence[Evaluation]) -> dict[str, list[Evaluation]]:
    """Runs that differ by their seed alone, by a label: the network, and the directory where that does not tell."""
    by_experiment: dict = {}
    for evaluation in evaluations:
        key = (evaluation.config.model_copy(update={"seed": 0}), evaluation.data_name)
        by_experiment.setdefault(key, []).append(evaluation)
    labels: dict[str, list[Evaluation]] = {}
    for (config, _), members in by_experiment.items():
        label = figures.NETWORK_NAMES[config.model.batch_norm]
        if label in labels:
            label = f"{label}, {members[0].name}"
        labels[label] = members
    return labels


def comparable(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """The runs that belong on common axes: one data set, one protocol; real images before generated ones."""

    def kind(evaluation: Evaluation) -> tuple:
        return (evaluation.data_name, evaluation.config.data.protocol)

    order = [("cifar10", "held_out"), ("cifar10", "test_as_validation")]
    present = {kind(evaluation) for evaluation in evaluations}
    chosen = next((candidate for candidate in order if candidate in present), None) or min(present)
    return [evaluation for evaluation in evaluations if kind(evaluation) == chosen]


def compare(evaluations: Sequence[Evaluation]) -> dict:
    """Each group's mean accuracy, and how far a normalised network is from the plain one where all else is equal."""
    grouped = groups(evaluations)
    means = {}
    for label, members in grouped.items():
        values = [run.correct / len(run.labels) for run in members]
        means[label] = {
            "network": members[0].network,
            "data": members[0].data_name,
            "runs": len(values),
            "mean": float(np.mean(values)),
            "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        }

    def all_else(label: str) -> Config:
        return grouped[label][0].config.model_copy(update={"seed": 0, "model": Model()})

    differences = [
        {
            "difference": f"{label} minus {plain}",
            "test_accuracy": means[label]["mean"] - means[plain]["mean"],
            "runs": [means[label]["runs"], means[plain]["runs"]],
        }
        for plain in means
        for label in means
        if means[plain]["network"] == "none" != means[label]["network"] and all_else(label) == all_else(plain)
    ]
    return {"test_accuracy": means, "differences": differences}


def write(evaluations: Sequence[Evaluation], folder: Path) -> dict:
    """Writes comparison.json and the figures into `folder`, and returns what the JSON holds."""
    together = comparable(evaluations)
    content = {"comparison": compare(together), "runs": [evaluation.measures() for evaluation in evaluations]}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}") from None
    run_directory.write_text(folder / "comparison.json", json.dumps(content, indent=1) + "\n")
    grouped = groups(together)
    title = "CIFAR-10" if together[0].data_name == "cifar10" else "generated images, not CIFAR-10"
    if together[0].config.data.protocol == "test_as_validation":
        title += "; optimistic: weights chosen on the test set"
    curves = [(run.network, label, run.history) for label, members in grouped.items() for run in members]
    matrices = [
        (label, np.sum([confusion_matrix(run.predictions, run.labels, 10) for run in members], axis=0))
        for label, members in grouped.items()
    ]
    by_class = [
        (members[0].network, label, matrix.diagonal() / matrix.sum(1))
        for (label, matrix), members in zip(matrices, grouped.values(), strict=True)
    ]
    class_names = together[0].class_names
    figures.save(figures.comparison(curves, title), folder / "comparison.png")
    figures.save(figures.confusion_matrices(matrices, class_names), folder / "confusion.png")
    figures.save(figures.class_accuracy(by_class, class_names), folder / "classes.png")
    return content


def table(content: dict) -> str:
    """The runs as an aligned Markdown table, and the comparison in sentences."""
    header = ["run", "network", "parameters", "best epoch", "validation", "test accuracy [95 %]", "loss", "seconds", ""]
    rows = [
        [
            run["run"],
            figures.NETWORK_NAMES[run["network"]],
            f"{run['parameters']:,}",
            f"{run['best_epoch']} of {run['epochs']}",
            f"{run['val_accuracy']:.4f}",
            "{:.4f} [{:.4f}, {:.4f}]".format(run["test_accuracy"], *run["test_accuracy_wilson_95"]),
            f"{run['test_loss']:.4f}",
            f"{run['train_seconds']:.0f}",
            "; ".join(run["marks"]),
        ]
        for run in content["runs"]
    ]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in [header, ["-" * width for width in widths], *rows]
    ]
    return "\n".join([*lines, "", *_sentences(content["comparison"])])


def _sentences(comparison: dict) -> list[str]:
    lines = []
    for label, figure in comparison["test_accuracy"].items():
        spread = f" ± {100 * figure['sd']:.2f} (standard deviation)" if figure["sd"] is not None else ""
        runs = "1 run" if figure["runs"] == 1 else f"{figure['runs']} runs"
        reported = REPORT.get(figure["network"]) if figure["data"] == "cifar10" else None
        report = f"; the report's: {100 * reported:.2f}" if reported else ""
        lines.append(f"{label}: {100 * figure['mean']:.2f} %{spread}, {runs}{report}")
    for difference in comparison["differences"]:
        lines.append(f"{difference['difference']}: {100 * difference['test_accuracy']:+.2f} percentage points")
        if min(difference["runs"]) == 1:
            lines.append("One seed of a network cannot tell how much of that is the network and how much is chance.")
    return lines


def _check_summary(run: RunDirectory, summary: dict) -> None:
    needed = ("parameters", "epochs", "best_epoch", "val_accuracy", "train_seconds", "images_per_second")
    missing = [key for key in needed if not isinstance(summary.get(key), int | float)]
    if not isinstance(summary.get("precision"), str):
        missing.append("precision")
    if (
        missing
        or not isinstance(summary.get("data"), dict)
        or summary["data"].get("name") not in ("cifar10", "generated")
    ):
        raise UserError(f"{run.summary_file} is damaged: {missing[0] if missing else 'data.name'} is missing or odd")


def _in_words(summary: dict) -> str:
    if summary["status"] == "diverged":
        return f"diverged ({summary.get('reason', 'its loss became NaN')})"
    return {"running": "still running, or was killed (go on with --resume)"}.get(summary["status"], summary["status"])
