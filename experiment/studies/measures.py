"""What a study can measure: the one list of its measures, and how each is read off a run."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from experiment.evaluation.result import MILESTONES, RunResult, load_result
from experiment.run_directory import RunDirectory

TIMES = ("train_seconds", "images_per_second", "cpu", "threads")  # all else is equal wherever and whenever it is made


@dataclass(frozen=True)
class Measure:
    """How a measure is read off a run and shown. One of several numbers a run, a curve, has `over`."""

    label: str
    unit: str
    columns: Callable[[RunResult, list[dict]], dict[str, float]]  # of a run and its diagnostics: {column: value}
    factor: int = 1  # from the table's numbers to the unit
    log: bool = False  # whether the axis is logarithmic
    over: str = ""  # what the numbers of a curve belong to; its columns are called measure_x
    diagnostics: str = "none"  # what the runs have to write beside their history

    @property
    def title(self) -> str:
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def difference_unit(self) -> str:
        return "points" if self.unit == "%" else self.unit


def _epochs_to(run, diagnostics) -> dict[str, float]:
    """A run that never got there counts with one epoch more than it had."""
    never = {"epoch": len(run.history) + 1}
    return {f"epochs_to_{share:.0%}"[:-1]: (run.first_epoch_reaching(share) or never)["epoch"] for share in MILESTONES}


def _seconds_to(run, diagnostics) -> dict[str, float]:
    """A run that never got there counts with all of its seconds."""
    never = {"seconds": float(run.seconds()[-1])}
    return {
        f"seconds_to_{share:.0%}"[:-1]: (run.first_epoch_reaching(share) or never)["seconds"] for share in MILESTONES
    }


def _mean_over_epochs(diagnostics: list[dict], measure: str) -> dict[int, float]:
    layers = sorted({row["layer"] for row in diagnostics if row["measure"] == measure})
    return {
        layer: float(np.mean([r["value"] for r in diagnostics if r["measure"] == measure and r["layer"] == layer]))
        for layer in layers
    }


def _gradient_norm(run, diagnostics) -> dict[str, float]:
    means = _mean_over_epochs(diagnostics, "gradient_mean")
    return {f"gradient_norm_{layer}": value for layer, value in means.items()}


def _gradient_variation(run, diagnostics) -> dict[str, float]:
    means, sds = (_mean_over_epochs(diagnostics, f"gradient_{part}") for part in ("mean", "sd"))
    # A network that died has gradients of zero, and no variation to speak of.
    return {f"gradient_variation_{layer}": sds[layer] / means[layer] if means[layer] else math.nan for layer in means}


def _over_layers(measure: str):
    def columns(run, diagnostics) -> dict[str, float]:
        return {measure: float(np.mean(list(_mean_over_epochs(diagnostics, measure).values())))}

    return columns


MEASURES = {
    "test_accuracy": Measure("test accuracy", "%", lambda run, diagnostics: {"test_accuracy": run.accuracy}, 100),
    "val_accuracy": Measure(
        "validation accuracy", "%", lambda run, diagnostics: {"val_accuracy": run.summary["val_accuracy"]}, 100
    ),
    "epochs_to": Measure("time to a validation accuracy", "epochs", _epochs_to, over="validation accuracy (%)"),
    "seconds_to": Measure("time to a validation accuracy", "seconds", _seconds_to, over="validation accuracy (%)"),
    "gradient_norm": Measure(
        "norm of a layer's gradient", "", _gradient_norm, log=True, over="layer", diagnostics="gradients"
    ),
    "gradient_variation": Measure(
        "spread over batches (sd / mean)", "", _gradient_variation, over="layer", diagnostics="gradients"
    ),
    "mean_scatter": Measure(
        "scatter of the batch means", "", _over_layers("mean_scatter"), log=True, diagnostics="batch_statistics"
    ),
    "variance_scatter": Measure(
        "scatter of the batch variances", "", _over_layers("variance_scatter"), log=True, diagnostics="batch_statistics"
    ),
}


def columns_of(measures: Sequence[str], run: RunDirectory) -> dict:
    """The columns of a run that has ended in the study's table, read off its files: no weights, no TensorFlow."""
    summary = run.read_summary()
    columns = {key: summary.get(key) for key in ("status", "best_epoch", "val_accuracy", "reason")}
    columns["epochs_done"], columns["computed_in"] = summary.get("epochs"), summary.get("precision")
    columns["data"], columns["classes"] = summary["data"]["name"], len(summary["data"].get("class_names", ())) or None
    columns["protocol"] = run.read_config().data.protocol
    if summary["status"] == "finished":
        evaluated = load_result(run, run.path.name)
        diagnostics = run.read_diagnostics() if run.diagnostics_file.exists() else []
        for name in measures:
            columns |= MEASURES[name].columns(evaluated, diagnostics)
    machine = summary.get("machine")
    return columns | {key: (summary | machine if isinstance(machine, dict) else summary).get(key) for key in TIMES}
