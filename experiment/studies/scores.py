"""The curves of a study, and the one number, the score, to which each curve is reduced."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiment import config as configuration
from experiment.reporting import figures
from experiment.studies.study import CurveMeasure, Study

_LEARNS = 0.2  # an accuracy below this is chance

Curve = dict[Any, float]  # x: y, in order of x


@dataclass(frozen=True)
class Panel:
    """One measure, at one value of the study's panel key: a curve for each (value of the series, seed)."""

    measure: str
    value: Any
    curves: dict[tuple[str, int], Curve]

    @property
    def title(self) -> str:
        return "" if self.value is None else figures.name_of(self.value)


def panels(study: Study, rows: Sequence[dict]) -> list[Panel]:
    """The curves of all runs that ended; a run that diverged counts with the accuracy of chance."""
    values = list(dict.fromkeys(row[study.panel] for row in rows)) if study.panel else [None]
    result = []
    for measure, value in itertools.product(study.measures, values):
        curves: dict[tuple[str, int], Curve] = {}
        for row in rows:
            if study.panel and row[study.panel] != value:
                continue
            curve = curves.setdefault((str(row[study.series]), row["seed"]), {})
            curve.update(_points(study, measure, row))
        ordered = {key: dict(sorted(curve.items())) for key, curve in curves.items() if curve}
        result.append(Panel(measure, value, ordered))
    return result


def _points(study: Study, measure: str, row: dict) -> Curve:
    if measure in configuration.allowed(CurveMeasure):
        found = {key: value for key, value in row.items() if key.startswith(f"{measure}_")}
        return {int(key.rpartition("_")[2]): value for key, value in found.items()}
    if measure.endswith("_accuracy") and row["status"] == "diverged":
        return {row[study.x]: 0.1}
    return {row[study.x]: row[measure]} if measure in row else {}


def _mean(curve: Curve) -> float:
    return float(np.mean(list(curve.values())))


def _range(curve: Curve) -> float:
    return max(curve.values()) - min(curve.values())


def _imbalance(curve: Curve) -> float:
    first, *_, last = curve.values()
    return abs(math.log10(first / last)) if first > 0 and last > 0 else math.nan


def _largest_usable(curve: Curve) -> float:
    """The power of ten of x up to which y stays within 0.05 of its best, between two points along the straight line."""
    limit = max(curve.values()) - 0.05
    if limit < _LEARNS:
        return math.nan
    points = [(math.log10(x), y) for x, y in curve.items()]
    usable = max(position for position, (_, y) in enumerate(points) if y >= limit)
    if usable == len(points) - 1:
        return points[-1][0]
    (x, y), (next_x, next_y) = points[usable : usable + 2]
    return x + (next_x - x) * (y - limit) / (y - next_y)


def _loss_at_smallest(curve: Curve) -> float:
    return max(curve.values()) - curve[min(curve)]


SCORES = {
    "mean": _mean,
    "range": _range,
    "imbalance": _imbalance,
    "largest_usable": _largest_usable,
    "loss_at_smallest": _loss_at_smallest,
}


def scores(study: Study, panel: Panel) -> dict[str, dict[int, float]]:
    """{value of the series: {seed: score}} of the curves that have every point of the fullest, and a score."""
    points = max(map(len, panel.curves.values()), default=0)
    result: dict[str, dict[int, float]] = {}
    for (value, seed), curve in panel.curves.items():
        score = SCORES[study.score](curve) if len(curve) == points else math.nan
        if math.isfinite(score):
            result.setdefault(value, {})[seed] = score
    return result
