"""The house style of figures, and the curves of one run.

An arm's colour comes from its place in the order: eight that the colour-blind tell apart, six of them from the palette
of Okabe and Ito (2008); further arms begin again with another marker.
"""

from pathlib import Path

import matplotlib.style
from matplotlib.figure import Figure

from experiment.files import atomic

PALETTE = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#A830F0", "#A80000")
MARKERS = ("o", "s", "^", "D", "v", "P")
FORMATS = ("png", "svg", "pdf")
_STYLE = {
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 11,
    "axes.titlesize": 12,
    "legend.frameon": False,
    "svg.hashsalt": "figure",  # the same figure is the same file
}
_PRINT = 200  # dots an inch, at which a figure of 9 inches is 1,800 pixels wide
_NO_DATES = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


def colour(place: int) -> str:
    """The colour of the arm at a place in the order."""
    return PALETTE[place % len(PALETTE)]


def marker(place: int) -> str:
    """The marker of the arm at a place in the order: another one where the colours begin again."""
    return MARKERS[place // len(PALETTE) % len(MARKERS)]


# Decorates every function that draws: nothing of a user's matplotlibrc gets in, and nothing of ours gets out.
styled = matplotlib.style.context(_STYLE, after_reset=True)


def new(*arguments, **keywords) -> Figure:
    """A figure for functions that are `styled`; the arguments are those of `matplotlib.figure.Figure`."""
    return Figure(*arguments, layout="constrained", **keywords)


@styled
def save(figure: Figure, path: Path) -> None:
    """Writes a figure atomically, in the format that the path's suffix names. Raises UserError where it cannot be."""
    kind = path.suffix.removeprefix(".")
    with atomic(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=_PRINT, metadata=_NO_DATES[kind])


def literal(text: str) -> str:
    """A text from outside, as it is: Matplotlib reads dollars as mathematics, and leaves out what begins with _."""
    return ("\u2009" if text.startswith("_") else "") + text.replace("$", r"\$")


def legend_below(figure: Figure, handles: list) -> None:
    """A legend below the axes, where no curve can be."""
    longest = max(len(handle.get_label()) for handle in handles)
    fitting = int(11 * figure.get_figwidth()) // (longest + 9)  # in characters
    figure.legend(handles=handles, loc="outside lower center", ncols=max(1, min(len(handles), fitting)))


def loss_label(smoothed: bool) -> str:
    return "loss of smoothed labels (nats)" if smoothed else "cross-entropy loss (nats)"


def epochs_axis(axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)


@styled
def curves(history: list[dict], title: str, optimistic: bool = False, smoothed: bool = False) -> Figure:
    """One run: loss and accuracy over the epochs, training dashed, validation solid, the best epoch marked.

    Args:
        history: rows of history.csv.
        optimistic: the validation images are the test images; the legend says so.
        smoothed: the losses are of smoothed labels; the axis says so.
    """
    figure = new(figsize=(9, 3.9))
    figure.suptitle(literal(title))
    epochs = [row["epoch"] for row in history]
    best = max(history, key=lambda row: row["val_accuracy"])  # max keeps the first of a tie
    point = "o" if len(epochs) == 1 else None
    for axes, measure, factor in zip(figure.subplots(1, 2), ("loss", "accuracy"), (1, 100), strict=True):
        training = [factor * row[measure] for row in history]
        validation = [factor * row[f"val_{measure}"] for row in history]
        lines = axes.plot(epochs, training, "--", color=colour(0), marker=point, label="training")
        told = "test set used as validation" if optimistic else "validation"
        lines += axes.plot(epochs, validation, color=colour(1), marker=point, label=told)
        told = f"best epoch: {best['epoch']}, {best['val_accuracy']:.2%}"
        axes.axvline(best["epoch"], color="0.4", linestyle=":", linewidth=1.2)
        lines += axes.plot(
            best["epoch"], factor * best[f"val_{measure}"], "o:", color="black", markersize=5, zorder=3, label=told
        )
        axes.set_ylabel(loss_label(smoothed) if measure == "loss" else "accuracy (%)")
        epochs_axis(axes)
    legend_below(figure, lines)
    return figure
