"""Curves, comparisons, confusion matrices: every figure a person looks at.

One colour for each network in every figure (for a second group of its runs another one), from the palette of Okabe and
Ito, which the colour-blind tell apart.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

from experiment.evaluation.metrics import Calibration, pooled, surest_disagreements
from experiment.files import atomic

COLOURS = {"none": "#D55E00", "after_activation": "#0072B2", "before_activation": "#009E73"}
_SPARE_COLOURS = ("#CC79A7", "#E69F00", "#56B4E9")  # for further groups of the same network
NETWORK_NAMES = {
    "none": "plain",
    "after_activation": "batch norm",
    "before_activation": "batch norm before ReLU",
}
ENOUGH_IMAGES = 30  # in a bin of a reliability diagram
_STYLE = {
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 11,
    "axes.titlesize": 12,
    "legend.frameon": False,
}


def colours_of(networks: Sequence[str]) -> list[str]:
    """A colour for each group of runs: its network's, or one of its own where the network has come before."""
    spare, colours = list(_SPARE_COLOURS), []
    for network in networks:
        taken = COLOURS[network] in colours and spare
        colours.append(spare.pop(0) if taken else COLOURS[network])
    return colours


# Decorates every function that draws: nothing of a user's matplotlibrc gets in, and nothing of ours gets out.
styled = matplotlib.style.context(_STYLE, after_reset=True)


def new(*arguments, **keywords) -> Figure:
    """A figure for functions that are `styled`; the arguments are those of `matplotlib.figure.Figure`."""
    return Figure(*arguments, layout="constrained", **keywords)


@styled
def save(figure: Figure, path: Path) -> None:
    """Writes a figure in the format of the path's suffix, atomically. Raises UserError where it cannot be written."""
    with atomic(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix("."), dpi=110)


@styled
def curves(history: list[dict], network: str, title: str, optimistic: bool = False) -> Figure:
    """One run: loss and accuracy over the epochs, training dashed, validation solid, the best epoch marked.

    Args:
        history: rows of history.csv.
        network: the configuration's `model.batch_norm`, for the colour.
        optimistic: the validation images are the test images; the axis says so.
    """
    figure = new(figsize=(9, 3.6))
    figure.suptitle(title)
    epochs = [row["epoch"] for row in history]
    best = max(history, key=lambda row: row["val_accuracy"])  # max keeps the first of a tie
    validation = "test set used as validation" if optimistic else "validation"
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    for axes, measure, factor in ((loss_axes, "loss", 1), (accuracy_axes, "accuracy", 100)):
        colour, marker = COLOURS[network], "o" if len(epochs) == 1 else None
        training_values = [factor * row[measure] for row in history]
        validation_values = [factor * row[f"val_{measure}"] for row in history]
        axes.plot(epochs, training_values, "--", color=colour, alpha=0.65, marker=marker, label="training")
        axes.plot(epochs, validation_values, color=colour, marker=marker, label=validation)
        axes.axvline(best["epoch"], color="0.4", linestyle=":", linewidth=1.2)
        axes.plot(best["epoch"], factor * best[f"val_{measure}"], "o", color="black", markersize=5, zorder=3)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    loss_axes.set_ylabel("cross-entropy loss (nats)")
    accuracy_axes.set_ylabel("accuracy (%)")
    best_label = f"best: {best['val_accuracy']:.2%}, epoch {best['epoch']}"
    accuracy_axes.plot([], [], "o:", color="black", markersize=5, label=best_label)
    loss_axes.legend(loc="upper right")
    accuracy_axes.legend(loc="lower right")
    return figure


@styled
def comparison(runs: Sequence[tuple[str, str, list[dict]]], title: str) -> Figure:
    """Many runs on common axes: one colour a network, thin lines its runs, and their mean where there are several.

    Args:
        runs: (colour, label, history) of each run.
    """
    figure = new(figsize=(9, 4))
    figure.suptitle(title)
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    by_label: dict[tuple[str, str], list[list[dict]]] = {}
    for colour, label, history in runs:
        by_label.setdefault((colour, label), []).append(history)
    for (colour, label), histories in by_label.items():
        for axes, measure, factor in ((loss_axes, "loss", 1), (accuracy_axes, "accuracy", 100)):
            for split, style in (("", "--"), ("val_", "-")):
                _plot_group(axes, histories, f"{split}{measure}", factor, style, colour, label)
    loss_axes.set_ylabel("cross-entropy loss (nats)")
    accuracy_axes.set_ylabel("accuracy (%)")
    for axes in (loss_axes, accuracy_axes):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    for style, what in (("--", "training"), ("-", "validation")):
        accuracy_axes.plot([], [], style, color="0.35", label=what)
    accuracy_axes.legend(loc="lower right")
    return figure


def _plot_group(axes, histories, column, factor, style, colour, label):
    single = len(histories) == 1
    for history in histories:
        values = [factor * row[column] for row in history]
        faint = {"linewidth": 1.6} if single else {"linewidth": 0.7, "alpha": 0.35}
        axes.plot([row["epoch"] for row in history], values, style, color=colour, **faint)
    shared = min(len(history) for history in histories)
    if not single and shared:
        mean = np.mean([[factor * row[column] for row in history[:shared]] for history in histories], axis=0)
        axes.plot([row["epoch"] for row in histories[0][:shared]], mean, style, color=colour, linewidth=1.8)
    if style == "-":
        axes.plot([], [], color=colour, linewidth=2, label=label if single else f"{label} (mean of {len(histories)})")


@styled
def confusion_matrices(matrices: Sequence[tuple[str, np.ndarray]], class_names: Sequence[str]) -> Figure:
    """Each network's confusion matrix [class, predicted class], in per cent of each true class."""
    figure = new(figsize=(5.6 * len(matrices), 5.4))
    for axes, (title, matrix) in zip(np.atleast_1d(figure.subplots(1, len(matrices))), matrices, strict=True):
        per_cent = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        axes.imshow(per_cent, cmap="Blues", vmin=0, vmax=100)
        for (row, column), value in np.ndenumerate(per_cent):
            if value > 0.5:
                colour = "white" if value > 55 else "black"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=9)
        axes.set_xticks(range(len(class_names)), class_names, rotation=45, ha="right")
        axes.set_yticks(range(len(class_names)), class_names)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.set_title(f"{title}\n% of each true class, test images")
        axes.grid(False)
    return figure


@styled
def class_accuracy(groups: Sequence[tuple[str, str, np.ndarray]], class_names: Sequence[str]) -> Figure:
    """Test accuracy of each class as paired dots, the classes in order of the first group's accuracy.

    Args:
        groups: (colour, label, accuracy of each class in 0..1).
    """
    figure = new(figsize=(9, 4))
    axes = figure.subplots()
    order = np.argsort(groups[0][2])
    for colour, label, accuracies in groups:
        axes.plot(100 * accuracies[order], range(len(order)), "o", color=colour, markersize=8, label=label)
    low = 100 * np.min([accuracies[order] for _, _, accuracies in groups], axis=0)
    high = 100 * np.max([accuracies[order] for _, _, accuracies in groups], axis=0)
    axes.hlines(range(len(order)), low, high, color="0.7", zorder=0)
    axes.set_yticks(range(len(order)), [class_names[position] for position in order])
    axes.set_xlabel("test accuracy (%)")
    axes.legend(loc="lower right")
    return figure


@styled
def reliability(groups: Sequence[tuple[str, str, Sequence[Calibration]]]) -> Figure:
    """How often answers of like confidence are right, and how many there are; all runs of a network pooled.

    Bins of fewer than 30 images are not drawn: their accuracy is mostly chance.

    Args:
        groups: (colour, label, the calibration of each run).
    """
    figure = new(figsize=(9, 4.2))
    axes, shares = figure.subplots(1, 2)
    axes.plot([0, 100], [0, 100], ":", color="0.5", label="as often right as sure")
    for colour, label, runs in groups:
        together = pooled(runs)
        drawn = together.counts >= ENOUGH_IMAGES
        error = np.mean([run.expected_error for run in runs])
        axes.plot(
            100 * together.confidence[drawn],
            100 * together.accuracy[drawn],
            "o-",
            color=colour,
            markersize=4,
            label=f"{label}: calibration error {100 * error:.1f}",
        )
        edges = np.linspace(0, 100, len(drawn) + 1)
        shares.stairs(100 * together.counts / together.counts.sum(), edges, color=colour, linewidth=1.8, label=label)
    axes.set_xlabel("confidence: largest probability (%)")
    axes.set_ylabel("test accuracy (%)")
    axes.legend(loc="upper left", fontsize=9)
    shares.set_xlabel("confidence: largest probability (%)")
    shares.set_ylabel("share of the test images (%)")
    shares.legend(loc="upper left", fontsize=9)
    return figure


@styled
def disagreement(
    answers: Sequence[tuple[str, np.ndarray]], images: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> Figure:
    """The test images on which two networks disagree most surely, each row those that one alone got right.

    Args:
        answers: (label, probabilities [n, c]) of two networks.
        images: uint8 [n, 32, 32, 3].
        labels: [n].
    """
    columns = 8
    predictions = [probabilities.argmax(1) for _, probabilities in answers]
    rows = surest_disagreements(*(probabilities for _, probabilities in answers), labels, columns)
    figure = new(figsize=(11, 4.2))
    figure.suptitle("Where the networks disagree most surely (probabilities: means over the seeds)")
    for chosen, subfigure, (label, _) in zip(rows, figure.subfigures(2, 1), answers, strict=True):
        subfigure.suptitle(f"only {label} is right", fontsize=11)
        for column, axes in enumerate(np.atleast_1d(subfigure.subplots(1, columns))):
            axes.axis("off")
            if column < len(chosen):
                image = chosen[column]
                axes.imshow(images[image], interpolation="nearest")
                says = [
                    f"{name.partition(',')[0]}: {class_names[guess[image]]} {probabilities[image].max():.0%}"
                    for (name, probabilities), guess in zip(answers, predictions, strict=True)
                ]
                axes.set_title("\n".join(says), fontsize=7)
    return figure
