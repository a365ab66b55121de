"""The style of all figures, and the learning curves of one run.

The position of an arm determines its colour: eight that are safe for colour-blind readers, six of them from the palette
of Okabe and Ito (2008). Further arms reuse the colours with another marker.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import matplotlib.style
from matplotlib import font_manager
from matplotlib.figure import Figure

from experiment.config import USUAL_LOSS
from experiment.files import atomic, remove
from experiment.options import FigureFormat

PALETTE = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#A830F0", "#D8003C")
MARKERS = ("o", "s", "^", "D", "v", "P")
# After Matplotlib's own, for the names of classes and arms in other scripts, where they are installed.
_FONTS = ["Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Hiragino Sans", "PingFang SC", "Malgun Gothic"]
_FONTS += ["Microsoft YaHei", "Arial Unicode MS", "Noto Sans", "Noto Sans Arabic", "Noto Sans Devanagari"]
_DPI = 200  # a figure of 9 inches is 1,800 pixels wide
_STYLE = {
    "font.family": ["DejaVu Sans", *(name for name in _FONTS if name in font_manager.get_font_names())],
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 11,
    "axes.titlesize": 12,
    "legend.frameon": False,
    "svg.hashsalt": "figure",  # reproducible files
    "figure.dpi": _DPI,  # so that what is measured is what is saved
    "figure.constrained_layout.use": True,
}
EXPLODED = 100  # nats; guessing costs under 7, the logarithm of 1,000 classes
_NO_DATES = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


def colour(place: int) -> str:
    """The colour of the arm at a position in the order."""
    return PALETTE[place % len(PALETTE)]


def marker(place: int) -> str:
    """The marker of the arm at a position in the order: another one for each pass over the colours."""
    return MARKERS[place // len(PALETTE) % len(MARKERS)]


# Decorates all functions that draw: ignores the user's matplotlibrc, and leaves Matplotlib's global state unchanged.
styled = matplotlib.style.context(_STYLE, after_reset=True)


@styled
def save(figure: Figure, path: Path) -> None:
    """Writes a figure atomically, in the format of the path's suffix (png, svg, pdf). Raises UserError if it fails."""
    kind = path.suffix.removeprefix(".")
    with atomic(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=_DPI, metadata=_NO_DATES[kind])


def save_all(drawn: dict[str, Figure | None], folder: Path, kind: FigureFormat) -> list[str]:
    """Writes each figure under its stem, and removes what an earlier command left there: other formats, None.

    Returns:
        The names of the files.
    """
    written = []
    for stem, figure in drawn.items():
        for each in get_args(FigureFormat):
            path = folder / f"{stem}.{each}"
            if figure and each == kind:
                save(figure, path)
                written.append(path.name)
            else:
                remove(path)
    return written


def literal(text: str) -> str:
    """Escapes a label: Matplotlib parses $ as mathematics, and omits legend entries that begin with _."""
    return ("\u2009" if text.startswith("_") else "") + text.replace("$", r"\$")


def legend_below(figure: Figure, handles: list) -> None:
    """Puts the legend below the axes, with as many columns as fit, and makes the figure higher for a long one."""
    labels = [textwrap.fill(handle.get_label(), int(11 * figure.get_figwidth()) - 9) for handle in handles]
    for columns in range(len(handles), 0, -1):
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()
    rows = -(-sum(1 + label.count("\n") for label in labels) // columns)
    figure.set_figheight(figure.get_figheight() + 0.25 * max(0, rows - 3))


def shortened(name: str, longest: int) -> str:
    """A name of at most so many characters, escaped as by `literal`."""
    return literal(name if len(name) <= longest else f"{name[: longest - 1]}…")


def scale_losses(axes, losses: Sequence[float]) -> None:
    """A logarithmic axis where a single exploding epoch would flatten all others."""
    if max(losses) > EXPLODED:
        axes.set_yscale("log")


def loss_label(loss: str) -> str:
    """The label of an axis of losses, in lines that are not longer than the axis."""
    return textwrap.fill(f"{loss} (nats)", 30)


def epochs_axis(axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)


@styled
def curves(history: list[dict], title: str, optimistic: bool = False, loss: str = USUAL_LOSS) -> Figure:
    """The learning curves of one run: training dashed, validation solid, the best epoch marked.

    Args:
        history: the rows of history.csv.
        optimistic: whether the validation images are the test images; the legend says so.
        loss: the name of its axis.
    """
    figure = Figure(figsize=(9, 3.9))
    figure.suptitle(literal(textwrap.fill(title, 85)))
    epochs = [row["epoch"] for row in history]
    best = max(history, key=lambda row: row["val_accuracy"])  # the first, if several are equal
    point = "o" if len(epochs) == 1 else None
    for axes, measure, factor in zip(figure.subplots(1, 2), ("loss", "accuracy"), (1, 100), strict=True):
        training = [factor * row[measure] for row in history]
        validation = [factor * row[f"val_{measure}"] for row in history]
        if measure == "loss":
            scale_losses(axes, training + validation)
        lines = axes.plot(epochs, training, "--", color=colour(0), marker=point, fillstyle="none", label="training")
        label = "test set used as validation" if optimistic else "validation"
        lines += axes.plot(epochs, validation, color=colour(1), marker=point, label=label)
        axes.axvline(best["epoch"], color="0.4", linestyle=":", linewidth=1.2)
        at_best = {"color": "black", "label": f"best epoch: {best['epoch']}, {best['val_accuracy']:.2%}"}
        lines += axes.plot(best["epoch"], factor * best[f"val_{measure}"], "o:", markersize=5, zorder=3, **at_best)
        axes.set_ylabel(loss_label(loss) if measure == "loss" else "accuracy (%)")
        epochs_axis(axes)
    legend_below(figure, lines)
    return figure
