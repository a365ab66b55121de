"""The scores: each reduces a curve of a run, {x: y}, to the one number that is compared."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Curve = dict[Any, float]  # x: y, in order of x
_LEARNS = 0.2  # an accuracy below this is chance


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


@dataclass(frozen=True)
class Score:
    label: str  # in which {measure} and {x} stand for their words
    of: Callable[[Curve], float]
    unit: str | None = None  # None: that of the measure


SCORES = {
    "mean": Score("{measure}", _mean),
    "range": Score("best minus worst {measure} over the {x}", _range),
    "imbalance": Score("distance between the first and the last layer", _imbalance, "powers of ten"),
    "largest_usable": Score("largest {x} within 5 points of the best", _largest_usable, "powers of ten"),
    "loss_at_smallest": Score("best {measure} minus that of the smallest {x}", _loss_at_smallest),
}
