"""The figure of a study: a point for each run, means with 95 % intervals over the seeds, a curve for each value."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from experiment.evaluation import metrics
from experiment.reporting import figures

_ROOM = 1.0  # how far beyond the runs the axis follows an interval, as a multiple of the runs' range


@dataclass(frozen=True)
class Panel:
    """Curves on common axes. An x that is a string is a category."""

    title: str
    x_label: str
    y_label: str
    log: bool  # whether y is logarithmic; means and intervals are then computed from the logarithms
    xs: list[Any]  # in order
    curves: dict[tuple[str, int], dict[Any, float]]  # {(compared value, seed): {x: y}}
    order: Sequence[str] = ()  # of the compared values, which have the same colours in all panels
    baseline: str = ""  # the x that the others are compared with
    means: bool = True  # whether to draw means with intervals

    @property
    def series(self) -> list[str]:
        return list(dict.fromkeys((*self.order, *(value for value, _ in self.curves))))

    def drawn(self, curves: Iterable[dict[Any, float]], x: Any) -> list[float]:
        """The values of curves at x that can be drawn."""
        ys = (curve.get(x, np.nan) for curve in curves)
        return [y for y in ys if np.isfinite(y) and (y > 0 or not self.log)]

    @property
    def one_colour(self) -> bool:
        """Whether the x-axis already distinguishes the values."""
        return all(set(curve) <= {value} or len(self.series) == 1 for (value, _), curve in self.curves.items())

    @property
    def horizontal(self) -> bool:
        """Whether to exchange the axes, since the names of the categories need too much width."""
        return any(isinstance(x, str) for x in self.xs) and sum(len(str(x)) for x in self.xs) > 50


@figures.styled
def draw(panels: Sequence[Panel], title: str, answer: str) -> Figure:
    """Draws all panels below the question and its answer, with one legend below them."""
    columns = len(panels) if len(panels) <= 3 else 2 if len(panels) == 4 else 3
    rows = -(-len(panels) // columns)
    width, height = (7.2, 9, 12)[columns - 1], 3.7 * rows
    tallest = max(len(panel.xs) if panel.horizontal else 0 for panel in panels)
    figure = Figure(figsize=(width, max(height, 0.34 * tallest * rows) + 0.9))
    lines = [textwrap.fill(text, int(11.5 * width), break_on_hyphens=False) for text in (title, answer) if text]
    figure.suptitle(figures.literal("\n".join(lines)), fontsize=12)
    axes_of_panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    mean = "mean (on a logarithmic axis geometric)" if any(panel.log for panel in panels) else "mean"
    for axes, panel in zip(axes_of_panels, panels, strict=False):
        _draw_panel(axes, panel, mean)
    for axes in axes_of_panels[len(panels) :]:
        axes.axis("off")
    legend = {}  # a value may be missing from some panels
    for axes in axes_of_panels:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            legend.setdefault(name, handle)
    if legend:
        figures.legend_below(figure, list(legend.values()))
    return figure


def _draw_panel(axes, panel: Panel, mean: str) -> None:
    if not panel.xs:
        axes.text(0.5, 0.5, "no run ended", transform=axes.transAxes, ha="center")
        axes.axis("off")
        return
    place, categories = _place_xs(axes, panel), any(isinstance(x, str) for x in panel.xs)
    several = not panel.one_colour
    ends = []  # of the intervals
    for number, value in enumerate(panel.series):
        # Grey where the x-axis names the values: a colour would seem to be that of a network in other figures.
        colour, dot = (figures.colour(number), figures.marker(number)) if several else ("0.3", figures.marker(0))
        # In a category, values are drawn beside each other, and runs beside their mean.
        aside = 0.3 * ((number + 0.5) / len(panel.series) - 0.5) if categories and several else 0.0
        own = [curve for (of, _), curve in panel.curves.items() if of == value]
        means = {}
        for x in panel.xs:
            if ys := panel.drawn(own, x):
                means[place[x] + aside] = _mean_and_interval(ys, panel.log, "%" in panel.y_label)
                run_place = place[x] + aside + (0.15 if panel.horizontal else 0.06 if categories else 0)
                where = (ys, [run_place] * len(ys)) if panel.horizontal else ([run_place] * len(ys), ys)
                axes.plot(*where, dot, color=colour, ms=4.2, alpha=0.55, mec="white", mew=0.4, zorder=3)
        if not means:
            continue
        if several:
            marked = {} if dot == figures.marker(0) else {"marker": dot}
            axes.plot([], [], color=colour, lw=2, label=figures.literal(value), **marked)
        if not panel.means:
            continue
        centre, low, high = np.array(list(means.values())).T
        ends += [*low, *high]
        places = (centre, list(means)) if panel.horizontal else (list(means), centre)
        error = {("xerr" if panel.horizontal else "yerr"): [centre - low, high - centre]}
        marker = {"marker": "|" if panel.horizontal else "_", "ms": 12, "ls": ""} if categories else {"ls": "-"}
        axes.errorbar(*places, **error, **marker, color=colour, lw=1.6, elinewidth=1.1, capsize=3)
    _draw_baseline(axes, panel)
    _limit(axes, panel, ends)
    axes.plot([], [], "o", color="0.4", ms=4.2, alpha=0.7, label="a run")
    if panel.means:
        label = f"{mean}, 95 % interval over seeds" if np.isfinite(ends).any() else mean
        axes.errorbar([], [], [], marker="_", ls="", color="0.4", capsize=3, label=label)
    axes.set_title(figures.literal(panel.title), fontsize=9.5)
    x_label, y_label = figures.literal(panel.x_label), figures.literal(panel.y_label)
    axes.set(**{"xlabel": y_label} if panel.horizontal else {"xlabel": x_label, "ylabel": y_label})


def _mean_and_interval(ys: Sequence[float], log: bool, per_cent: bool) -> tuple[float, float, float]:
    values = np.log10(ys) if log else np.asarray(ys)
    bounds = (0, 100) if per_cent else metrics.UNBOUNDED
    # NaN is not drawn: too few runs have no interval.
    ends = (values.mean(), *(metrics.mean_interval(values, bounds) or [np.nan] * 2))
    return tuple(10**end if log else end for end in ends)


def _place_xs(axes, panel: Panel) -> dict[Any, float]:
    """The position of each x: categories in order; numbers that span more than a decade on a logarithmic axis."""
    if not any(isinstance(x, str) for x in panel.xs):
        if min(panel.xs) > 0 and max(panel.xs) / min(panel.xs) > 10:
            axes.set_xscale("log")
        if len(panel.xs) <= 10 and panel.means:
            axes.set_xticks(panel.xs, [f"{x:g}" for x in panel.xs], fontsize=8.5)
            axes.xaxis.set_minor_locator(ticker.NullLocator())
        elif axes.get_xscale() == "log":
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(ticker.NullFormatter())
        return {x: x for x in panel.xs}
    places = {x: place for place, x in enumerate(panel.xs)}
    if panel.horizontal:
        axes.set_yticks(list(places.values()), [figures.literal(str(x)) for x in places])
        axes.set_ylim(len(places) - 0.5, -0.5)
    else:
        axes.set_xticks(list(places.values()), [figures.literal(str(x)) for x in places])
        axes.set_xlim(-0.5, len(places) - 0.5)
    return places


def _draw_baseline(axes, panel: Panel) -> None:
    if ys := panel.drawn(panel.curves.values(), panel.baseline):
        line, mean = axes.axvline if panel.horizontal else axes.axhline, _mean_and_interval(ys, panel.log, False)[0]
        line(mean, color="0.45", ls="--", lw=1.1, zorder=0, label=figures.literal(f"mean of {panel.baseline}"))


def _limit(axes, panel: Panel, ends: Sequence[float]) -> None:
    """Limits the axis to all runs, and to intervals as far as they leave the runs enough room."""
    ys = np.array([y for curve in panel.curves.values() for y in curve.values()], float)
    ys = ys[np.isfinite(ys) & ((ys > 0) | (not panel.log))]
    if not len(ys):
        return
    transform, inverse = (np.log10, lambda value: 10**value) if panel.log else (np.asarray, float)
    low, high = transform(ys.min()), transform(ys.max())
    room = (high - low) or 1.0
    seen = transform([end for end in ends if end > 0 or (not panel.log and np.isfinite(end))] or [ys.min(), ys.max()])
    lowest, highest = max(seen.min(), low - _ROOM * room), min(seen.max(), high + _ROOM * room)
    lowest, highest = min(low, lowest) - 0.05 * room, max(high, highest) + 0.05 * room
    if not panel.log and low >= 0:
        lowest = max(lowest, -0.02 * room)
    (axes.set_xlim if panel.horizontal else axes.set_ylim)(inverse(lowest), inverse(highest))
    axis = axes.xaxis if panel.horizontal else axes.yaxis
    if not panel.log and (ys == ys.round()).all():  # such as epochs
        axis.get_major_locator().set_params(integer=True)
    if panel.log:
        (axes.set_xscale if panel.horizontal else axes.set_yscale)("log")
        axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if highest - lowest < 2.5 else (1,)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(ticker.NullFormatter())
