"""Scores: each reduces a run's curve, {x: y}, to the number that is compared."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Curve = dict[Any, float]  # x: y, in order of x
_LEARNS = 1 / 9  # of the way from chance to 1: 20 % for ten classes, 55.6 % for two


def _imbalance(curve: Curve, chance: float) -> float:
    values = list(curve.values())
    known = len(values) > 1 and values[0] > 0 and values[-1] > 0
    return abs(math.log10(values[0] / values[-1])) if known else math.nan


def _largest_usable(curve: Curve, chance: float) -> float:
    """log10 of the largest x at which y is within 0.05 of its best, interpolated linearly between two points."""
    limit = max(curve.values()) - 0.05
    if limit < chance + _LEARNS * (1 - chance):
        return math.nan
    points = [(math.log10(x), y) for x, y in curve.items()]
    usable = max(position for position, (_, y) in enumerate(points) if y >= limit)
    if usable == len(points) - 1:
        return points[-1][0]
    (x, y), (next_x, next_y) = points[usable : usable + 2]
    return x + (next_x - x) * (y - limit) / (y - next_y)


@dataclass(frozen=True)
class Score:
    label: str  # with the placeholders {measure} and {x}
    of: Callable[[Curve, float], float]  # of the curve and the accuracy of guessing
    unit: str | None = None  # None: that of the measure


SCORES = {
    "mean": Score("{measure}", lambda curve, chance: float(np.mean(list(curve.values())))),
    "range": Score(
        "largest minus smallest {measure} over the {x}", lambda curve, chance: max(curve.values()) - min(curve.values())
    ),
    "imbalance": Score(
        "distance between the gradient norms of the first and the last layer", _imbalance, "powers of ten"
    ),
    "largest_usable": Score("log10 of the largest {x} within 5 points of the best", _largest_usable, "powers of ten"),
    "loss_at_smallest": Score(
        "largest {measure} minus that of the smallest {x}",
        lambda curve, chance: max(curve.values()) - curve[min(curve)],
    ),
}
