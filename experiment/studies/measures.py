"""What a study measures: how each measure is read off a run."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from experiment.evaluation.result import RunResult, load_result
from experiment.run_directory import RunDirectory
from experiment.studies.study import Study

TIMES = ("train_seconds", "images_per_second", "cpu", "threads")  # all else is equal wherever and whenever it is made
MILESTONES = (60, 70, 75, 80)  # per cent of validation accuracy


@dataclass(frozen=True)
class MeasureOf:
    """How a measure is read off a run: `columns` gives {column of the table: value}, several named
    `measure_x` where the measure is a curve."""

    label: str  # with its unit
    columns: Callable[[RunResult, list[dict]], dict[str, float]]  # of the run and its diagnostics
    factor: int = 1  # from the table's numbers to that unit
    log: bool = False  # whether the axis is logarithmic


def _epochs_to(run, diagnostics) -> dict[str, float]:
    """A run that never got there counts with one epoch more than it had."""
    never = {"epoch": len(run.history) + 1}
    return {f"epochs_to_{share}": (run.first_reached(share / 100) or never)["epoch"] for share in MILESTONES}


def _seconds_to(run, diagnostics) -> dict[str, float]:
    """A run that never got there counts with all of its seconds."""
    never = {"seconds": float(run.seconds()[-1])}
    return {f"seconds_to_{share}": (run.first_reached(share / 100) or never)["seconds"] for share in MILESTONES}


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
    "test_accuracy": MeasureOf("test accuracy (%)", lambda run, diagnostics: {"test_accuracy": run.accuracy}, 100),
    "val_accuracy": MeasureOf(
        "validation accuracy (%)", lambda run, diagnostics: {"val_accuracy": run.summary["val_accuracy"]}, 100
    ),
    "epochs_to": MeasureOf("epochs to a validation accuracy", _epochs_to),
    "seconds_to": MeasureOf("seconds to a validation accuracy", _seconds_to),
    "gradient_norm": MeasureOf("norm of a layer's gradient", _gradient_norm, log=True),
    "gradient_variation": MeasureOf("spread over batches (sd / mean)", _gradient_variation),
    "mean_scatter": MeasureOf("scatter of the batch means", _over_layers("mean_scatter"), log=True),
    "variance_scatter": MeasureOf("scatter of the batch variances", _over_layers("variance_scatter"), log=True),
}


def columns_of(study: Study, run: RunDirectory) -> dict:
    """The columns of a run that has ended in the study's table, read off its files: no weights, no TensorFlow."""
    summary = run.read_summary()
    columns = {key: summary.get(key) for key in ("status", "best_epoch", "val_accuracy", "reason")}
    columns["epochs_done"], columns["computed_in"] = summary.get("epochs"), summary.get("precision")
    columns["data"] = summary["data"]["name"]
    columns["protocol"] = run.read_config().data.protocol
    if summary["status"] == "finished":
        evaluated = load_result(run, run.path.name)
        diagnostics = run.read_diagnostics() if run.diagnostics_file.exists() else []
        for name in ["test_accuracy", *study.measures]:
            columns |= MEASURES[name].columns(evaluated, diagnostics)
    machine = summary.get("machine")
    return columns | {key: (summary | machine if isinstance(machine, dict) else summary).get(key) for key in TIMES}
