"""The measures of studies: the list of all, and how each is computed from a run's files."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from experiment.evaluation.result import MILESTONES, RunResult, load_result
from experiment.run_directory import RunDirectory

TIMES = ("train_seconds", "images_per_second", "cpu", "threads")  # the columns that depend on the machine


@dataclass(frozen=True)
class Measure:
    """A measure of a run: one number, or a curve, which has several numbers and an `over`."""

    label: str
    unit: str
    columns: Callable[[RunResult, list[dict]], dict[str, float]]  # a run and its diagnostics -> {column: value}
    factor: int = 1  # converts the table's numbers to the unit
    better: Literal["higher", "lower"] | None = None  # which value is the best; None: neither
    log: bool = False  # whether the axis is logarithmic
    over: str = ""  # the label of a curve's x-axis; its columns are called measure_x
    diagnostics: str = "none"  # the diagnostics that it needs

    @property
    def title(self) -> str:
        return f"{self.label} ({self.unit})" if self.unit else self.label


def _time_to(measure: str, unit: str):
    """The time until a run reached each milestone; if it never did, one epoch more than it had, and unknown seconds."""

    def columns(run, diagnostics) -> dict[str, float]:
        # All runs have as many epochs, but the seconds of a quick run that failed are fewer than those of another.
        never = {"epoch": len(run.history) + 1, "seconds": math.nan}
        return {f"{measure}_{100 * goal:.0f}": (run.first_epoch_reaching(goal) or never)[unit] for goal in MILESTONES}

    return columns


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
    # A dead network has zero gradients, and no relative variation.
    return {f"gradient_variation_{layer}": sds[layer] / means[layer] if means[layer] else math.nan for layer in means}


def _over_layers(measure: str):
    def columns(run, diagnostics) -> dict[str, float]:
        return {measure: float(np.mean(list(_mean_over_epochs(diagnostics, measure).values())))}

    return columns


_GOALS = "validation accuracy (%)"
MEASURES = {
    "test_accuracy": Measure("test accuracy", "%", lambda run, _: {"test_accuracy": run.accuracy}, 100, "higher"),
    "val_accuracy": Measure(
        "validation accuracy", "%", lambda run, _: {"val_accuracy": run.summary["val_accuracy"]}, 100, "higher"
    ),
    "epochs_to": Measure(
        "time to a validation accuracy", "epochs", _time_to("epochs_to", "epoch"), better="lower", over=_GOALS
    ),
    "seconds_to": Measure(
        "time to a validation accuracy", "seconds", _time_to("seconds_to", "seconds"), better="lower", over=_GOALS
    ),
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
    """The table's columns for a finished or diverged run, from its files; needs neither weights nor TensorFlow."""
    summary = run.read_summary()
    columns = {key: summary.get(key) for key in ("status", "best_epoch", "val_accuracy", "reason")}
    columns["epochs_done"], columns["computed_in"] = summary.get("epochs"), summary.get("precision")
    columns["data"], columns["classes"] = summary["data"]["name"], len(summary["data"].get("class_names", ())) or None
    columns["protocol"] = run.read_config().data.protocol
    columns |= {"cold_averages": True} if summary.get("cold_averages") is True else {}
    if summary["status"] == "finished":
        evaluated = load_result(run, run.path.name)
        diagnostics = run.read_diagnostics() if run.diagnostics_file.exists() else []
        for name in measures:
            columns |= MEASURES[name].columns(evaluated, diagnostics)
    machine = summary.get("machine")
    return columns | {key: (summary | machine if isinstance(machine, dict) else summary).get(key) for key in TIMES}
