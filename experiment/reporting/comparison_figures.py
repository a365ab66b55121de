"""The figures of a comparison. The order of the groups determines their colours."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from experiment.config import USUAL_LOSS
from experiment.evaluation import metrics
from experiment.evaluation.comparison import Comparison
from experiment.evaluation.groups import Group
from experiment.reporting.figures import (
    colour,
    epochs_axis,
    legend_below,
    literal,
    loss_label,
    marker,
    scale_losses,
    shortened,
    styled,
)

NAMES = ("comparison", "confusion", "classes", "reliability", "disagreement")
ENOUGH_IMAGES = 30  # in a bin of a reliability diagram
MANY_CLASSES = 20  # with more, matrices show no numbers, and lists only the best and the worst classes
_MOST_CONFUSED = 15
_FILL = {"--": "none", "-": "full"}  # of the markers of training and validation


def draw(comparison: Comparison, title: str, images: np.ndarray | None) -> dict[str, Figure]:
    """All figures, by file name without suffix.

    Args:
        title: the title of the learning curves.
        images: the test images uint8 [n, h, w, c] for the figure of disagreements; None leaves it out.
    """
    groups, class_names = comparison.compared, comparison.baseline.first.class_names
    drawn = {
        "comparison": curves(groups, title),
        "confusion": confusion(groups, class_names),
        "classes": classes(groups, class_names),
        "reliability": reliability(groups),
    }
    if comparison.rivals and images is not None and len(images) == len(comparison.baseline.first.labels):
        places = [groups.index(group) for group in comparison.rivals]
        drawn["disagreement"] = disagreement(comparison.rivals, places, images, class_names)
    return drawn


@styled
def curves(groups: Sequence[Group], title: str) -> Figure:
    """The learning curves of all runs: thin lines for runs, thick ones for their mean if there are several."""
    figure = Figure(figsize=(9, 4.4))
    figure.suptitle(literal(title), fontsize=11)
    losses = [group.config.loss_name for group in groups]
    usual = losses[0] if len(set(losses)) == 1 else USUAL_LOSS if USUAL_LOSS in losses else "loss"
    all_axes = figure.subplots(1, 2)
    for place, group in enumerate(groups):
        for axes, measure, factor in zip(all_axes, ("loss", "accuracy"), (1, 100), strict=True):
            for split, style in (("", "--"), ("val_", "-")):
                _plot_group(axes, group, place, f"{split}{measure}", factor, style)
    for axes, label in zip(all_axes, (loss_label(usual), "accuracy (%)"), strict=True):
        axes.set_ylabel(label)
        epochs_axis(axes)
    rows = [row for group in groups for run in group.runs for row in run.history]
    scale_losses(all_axes[0], [row[key] for row in rows for key in ("loss", "val_loss")])
    labels = [_label(group, "" if loss == usual else loss) for group, loss in zip(groups, losses, strict=True)]
    marked = marker(len(groups) - 1) != marker(0) or len(groups[0].first.history) == 1
    handles = _handles(labels, **({} if marked else {"marker": None}))
    dots = {"marker": marker(0)} if len(groups[0].first.history) == 1 else {}
    for style, what in (("--", "training"), ("-", "validation")):
        handles.append(Line2D([], [], linestyle=style, color="0.35", label=what, fillstyle=_FILL[style], **dots))
    legend_below(figure, handles)
    return figure


def _label(group: Group, loss: str) -> str:
    mean = f" (mean of {len(group.runs)})" if len(group.runs) > 1 else ""
    return f"{group.label}{mean}{f', {loss}' if loss else ''}"


def _handles(labels: Sequence[str], **style) -> list[Line2D]:
    """A legend entry for each group."""
    return [
        Line2D([], [], **{"color": colour(place), "marker": marker(place), "label": literal(label), **style})
        for place, label in enumerate(labels)
    ]


def _plot_group(axes, group: Group, place: int, column: str, factor: float, style: str) -> None:
    histories = [run.history for run in group.runs]
    shared = min(map(len, histories))
    # A marker for a single epoch, and for groups with a reused colour.
    dots = {"marker": marker(place), "fillstyle": _FILL[style]}
    marked = dots if shared == 1 or marker(place) != marker(0) else {}
    for history in histories:
        faint = {"linewidth": 1.8, **marked} if len(histories) == 1 else {"linewidth": 0.7, "alpha": 0.35}
        epochs, values = zip(*((row["epoch"], factor * row[column]) for row in history), strict=True)
        axes.plot(epochs, values, style, color=colour(place), markevery=max(1, len(epochs) // 6), **faint)
    if len(histories) > 1:
        mean = np.mean([[factor * row[column] for row in history[:shared]] for history in histories], axis=0)
        epochs = [row["epoch"] for row in histories[0][:shared]]
        axes.plot(epochs, mean, style, color=colour(place), linewidth=1.8, markevery=max(1, shared // 6), **marked)


@styled
def confusion(groups: Sequence[Group], class_names: Sequence[str]) -> Figure:
    """The confusion matrix of each group, in per cent of each true class; the colour scale covers the errors only."""
    shares = [100 * metrics.class_shares(group.confusion_matrix) for group in groups]
    largest = max(errors(share).max(initial=0) for share in shares) or 1
    many = len(class_names) > MANY_CLASSES
    columns = 2 if many else min(len(groups), 2 if len(groups) < 5 else 3)
    rows = len(groups) if many else -(-len(groups) // columns)
    figure = Figure(figsize=(5.6 * min(columns, 2), (4.9 if columns < 3 else 3.7) * rows + 1.2))
    title = "What is taken for what: per cent of each true class, test images"
    figure.suptitle(textwrap.fill(title, 50 * columns))
    all_axes = figure.subplots(rows, columns, squeeze=False)
    matrix_axes = all_axes[:, 0] if many else all_axes.flat[: len(groups)]
    for axes, group, share in zip(matrix_axes, groups, shares, strict=True):
        drawn = axes.imshow(np.ma.masked_array(share, np.eye(len(share))), cmap="Blues", vmin=0, vmax=largest)
        axes.set_title(literal(textwrap.fill(group.label, 40)))
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.grid(False)
        axes.set_facecolor("0.9")  # of the diagonal: correct classifications
        if not many:
            _name_cells(axes, share, largest, class_names, small=columns == 3)
    for axes, group, share in zip(all_axes[:, 1] if many else (), groups, shares, strict=False):
        _most_confused(axes, group, errors(share), class_names)
    for axes in () if many else all_axes.flat[len(groups) :]:
        axes.axis("off")
    label = "errors (%); grey: classified correctly"
    figure.colorbar(drawn, ax=all_axes, label=label, location="bottom", shrink=0.6, aspect=40)
    # Labels are a little larger than the layout takes them to be.
    figure.set_layout_engine("constrained", rect=(0, 0.02, 1, 0.97))
    return figure


def errors(shares: np.ndarray) -> np.ndarray:
    return shares * (1 - np.eye(len(shares)))


def _name_cells(axes, shares: np.ndarray, largest: float, class_names: Sequence[str], small: bool) -> None:
    for (row, column), value in np.ndenumerate(shares):
        if value > 0.5:
            dark = row != column and value > 0.55 * largest
            place = {"ha": "center", "va": "center", "fontsize": 6 if small else 9}
            text = axes.text(column, row, f"{value:.0f}", color="white" if dark else "black", **place)
            text.set_in_layout(False)  # it lies inside its cell; measuring hundreds of them takes seconds
    names = [shortened(name, 20) for name in class_names]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=7 if small else 10)
    axes.set_yticks(range(len(names)), names, fontsize=7 if small else 10)


def most_confused(errors: np.ndarray, most: int = _MOST_CONFUSED) -> list[tuple[int, int]]:
    """The (true, predicted) classes of the largest entries, in decreasing order."""
    order = np.argsort(-errors, axis=None, kind="stable")[:most]
    return [(int(place) // len(errors), int(place) % len(errors)) for place in order if errors.flat[place] > 0]


def _most_confused(axes, group: Group, errors: np.ndarray, class_names: Sequence[str]) -> None:
    pairs = most_confused(errors)
    axes.barh(range(len(pairs)), [errors[pair] for pair in pairs], color="0.45")
    labels = [" → ".join(shortened(class_names[place], 24) for place in pair) for pair in pairs]
    axes.set_yticks(range(len(pairs)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("% of the true class")
    axes.set_title("largest shares of a class: true → predicted", fontsize=10)


@styled
def classes(groups: Sequence[Group], class_names: Sequence[str]) -> Figure:
    """Test accuracy of each class, in order of the first group's; with many classes, only the worst and the best."""
    order = np.argsort(groups[0].class_accuracy, kind="stable")
    many, half = len(order) > MANY_CLASSES, MANY_CLASSES // 2
    if many:
        order = np.concatenate([order[:half], order[-half:]])
    figure = Figure(figsize=(9, 1.4 + 0.28 * len(order) + 0.25 * -(-len(groups) // 3)))
    axes = figure.subplots()
    accuracies = 100 * np.array([group.class_accuracy[order] for group in groups])
    for place, values in enumerate(accuracies):
        axes.plot(
            values, range(len(order)), marker(place), color=colour(place), markersize=7, alpha=0.85, clip_on=False
        )
    axes.hlines(range(len(order)), accuracies.min(0), accuracies.max(0), color="0.7", zorder=0)
    axes.set_yticks(range(len(order)), [shortened(class_names[position], 40) for position in order])
    axes.set_xlabel("test accuracy (%)")
    of = f"the {half} worst and best of {len(class_names)} classes by" if many else "each class, in order of"
    axes.set_title(literal(textwrap.fill(f"Test accuracy of {of} {groups[0].quoted}", 70)))
    if many:
        axes.axhline(half - 0.5, color="0.5", linestyle=":")
    legend_below(figure, _handles([group.label for group in groups], linestyle=""))
    return figure


@styled
def reliability(groups: Sequence[Group]) -> Figure:
    """The reliability diagram, and the histogram of confidences, with the runs of a group pooled.

    The diagram leaves out bins of fewer than 30 images, since their accuracy is too uncertain.
    """
    figure = Figure(figsize=(9, 4.6))
    figure.suptitle("Calibration: below the dotted line a network is overconfident, above it underconfident")
    axes, shares = figure.subplots(1, 2)
    perfect = axes.plot([0, 100], [0, 100], ":", color="0.5", label="perfect calibration")
    labels = []
    for place, group in enumerate(groups):
        together = group.pooled_calibration
        drawn = together.counts >= ENOUGH_IMAGES
        confidence, accuracy = 100 * together.confidence[drawn], 100 * together.accuracy[drawn]
        axes.plot(confidence, accuracy, f"{marker(place)}-", color=colour(place), markersize=4)
        edges = np.linspace(0, 100, len(drawn) + 1)
        shares.stairs(100 * together.counts / together.counts.sum(), edges, color=colour(place), linewidth=1.8)
        error = np.mean([each.expected_error for each in group.calibrations])
        labels.append(f"{group.label} (calibration error {100 * error:.1f} points)")
    if not any(line.get_xdata().size for line in axes.lines[1:]):
        axes.text(50, 50, f"no bin has {ENOUGH_IMAGES} predictions", ha="center")
    axes.set_title(f"bins of at least {ENOUGH_IMAGES} predictions", fontsize=10)
    shares.set_title("all bins", fontsize=10)
    axes.set_ylabel("test accuracy (%)")
    shares.set_ylabel("share of the predictions (%)")
    for each in (axes, shares):
        each.set_xlabel("confidence: largest probability (%)")
    legend_below(figure, [*_handles(labels), *perfect])
    return figure


@styled
def disagreement(
    groups: Sequence[Group], places: Sequence[int], images: np.ndarray, class_names: Sequence[str]
) -> Figure:
    """The most confident disagreements of two groups; in each row, only one of them is correct.

    Args:
        groups: the two groups.
        places: their positions in the order, for their colours.
        images: the test images, uint8 [n, h, w, c].
    """
    columns, labels = 8, groups[0].first.labels
    first, second = (group.mean_probabilities for group in groups)
    rows = metrics.most_confident_disagreements(first, second, labels, columns)
    figure = Figure(figsize=(11, 5))
    mean = ", mean over the seeds" if any(len(group.runs) > 1 for group in groups) else ""
    figure.suptitle(f"Most confident disagreements: predicted class and probability{mean}")
    for chosen, subfigure, right, wrong in zip(rows, figure.subfigures(2, 1), groups, groups[::-1], strict=True):
        none = "" if len(chosen) else ": no such image"
        title = f"{right.quoted} is correct, {wrong.quoted} is not{none}"
        subfigure.suptitle(literal(title), fontsize=11)
        for column, axes in enumerate(subfigure.subplots(1, columns)):
            axes.axis("off")
            if column < len(chosen):
                _show(axes, chosen[column], groups, places, images, class_names)
    labels = zip(places, groups, strict=True)
    legend_below(figure, [Patch(color=colour(place), label=literal(group.label)) for place, group in labels])
    return figure


def _show(axes, image: int, groups, places, images: np.ndarray, class_names: Sequence[str]) -> None:
    """One image, with the prediction of each group above it, on its colour, and the true class below."""
    axes.imshow(images[image].squeeze(), interpolation="nearest", cmap="gray", vmin=0, vmax=255)
    for height, place, group in zip((14, 3), places, groups, strict=True):
        probabilities = group.mean_probabilities[image]
        said = f"{shortened(class_names[probabilities.argmax()], 12)} {100 * probabilities.max():.0f} %"
        _beside(axes, said, 1, height, colour(place))
    _beside(axes, f"true: {shortened(class_names[groups[0].first.labels[image]], 12)}", 0, -12)


def _beside(axes, text: str, edge: float, points: float, ground: str = "none") -> None:
    """Writes a text so many points above the lower (0) or upper edge (1) of an image, whatever its shape."""
    box = {"facecolor": ground, "alpha": 0.3, "linewidth": 0, "pad": 1}
    place = {"xycoords": "axes fraction", "textcoords": "offset points", "xytext": (0, points)}
    axes.annotate(text, (0.5, edge), **place, ha="center", fontsize=9, bbox=box)
