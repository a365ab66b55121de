"""The findings of a study: curves of all runs, their scores, and the differences between compared values."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from experiment.data.cifar import CIFAR10
from experiment.evaluation import metrics
from experiment.evaluation.power import runs_needed
from experiment.studies.measures import MEASURES
from experiment.studies.scores import SCORES, Curve
from experiment.studies.study import Study

UNDECIDED = "not decided"
_ROUNDING = 1e-4  # points; an accuracy on validation images is a mean in float32

Scores = dict[int, float]  # seed: score


@dataclass(frozen=True)
class Panel:
    """One measure, at one value of the study's panel key: a curve for each (value of the series, seed)."""

    measure: str
    value: Any
    curves: dict[tuple[str, int], Curve]
    chance: float  # the accuracy of guessing


@dataclass(frozen=True)
class Finding:
    """A comparison of two groups of runs by their scores, in `unit`."""

    about: str  # the measure, and the panel
    first: str
    second: str
    unit: str
    answer: str
    means: tuple[float, float] | None = None  # None, as the following: too few runs ended
    difference: float | None = None
    interval_95: tuple[float, float] | None = None
    sd: float | None = None  # of the difference between one run of each
    runs: tuple[int, int] = (0, 0)
    paired: bool = False
    seeds_needed: int | None = None  # to detect a difference of this size (for equal: the margin) with 80 % power


def panels(study: Study, rows: Sequence[dict]) -> list[Panel]:
    """The curves of all runs that ended; a diverged run counts with chance accuracy."""
    values = list(dict.fromkeys(row[study.panel] for row in rows)) if study.panel else [None]
    result = []
    for measure, value in itertools.product(study.measures, values):
        curves: dict[tuple[str, int], Curve] = {}
        own = _rows_of(study, value, rows)
        for row in own:
            curve = curves.setdefault((str(row[study.series]), row["seed"]), {})
            curve.update(points_of(study, measure, row))
        ordered = {key: dict(sorted(curve.items())) for key, curve in curves.items() if curve}
        result.append(Panel(measure, value, ordered, max(map(_chance, trained(own)), default=0.0)))
    return result


def _rows_of(study: Study, value: Any, rows: Sequence[dict]) -> list[dict]:
    """The rows of the panel of this value."""
    return [row for row in rows if study.panel is None or row[study.panel] == value]


def points_of(study: Study, measure: str, row: dict) -> Curve:
    if MEASURES[measure].over:
        found = {key: value for key, value in row.items() if key.startswith(f"{measure}_")}
        return {int(key.rpartition("_")[2]): value for key, value in found.items()}
    if measure.endswith("_accuracy") and row["status"] == "diverged":
        return {row[study.x]: _chance(row)}
    return {row[study.x]: row[measure]} if measure in row else {}


def trained(rows: Sequence[dict]) -> list[dict]:
    """The rows that say what the runs were trained on; those of failed runs do not."""
    return [row for row in rows if row["status"] != "failed"]


def _chance(row: dict) -> float:
    return 1 / row.get("classes", len(CIFAR10.class_names))  # old tables have no such column


def scores(study: Study, panel: Panel) -> dict[str, Scores]:
    """{value of the series: {seed: score}} of the complete curves that have a score."""
    lengths: dict[str, int] = {}
    for (value, _), curve in panel.curves.items():
        lengths[value] = max(lengths.get(value, 0), len(curve))
    if not MEASURES[panel.measure].over:  # else a network of fewer layers has a shorter curve
        lengths = {value: max(length, len(study.xs_of(value, panel.value))) for value, length in lengths.items()}
    result: dict[str, Scores] = {}
    for (value, seed), curve in panel.curves.items():
        score = SCORES[study.score].of(curve, panel.chance) if len(curve) == lengths[value] else math.nan
        if math.isfinite(score):
            result.setdefault(value, {})[seed] = score
    return result


def findings(study: Study, rows: Sequence[dict]) -> list[Finding]:
    """A finding for each of the study's comparisons, in each panel of a primary measure."""
    found = []
    for panel in primary_panels(study, rows):
        by_value, about = scores(study, panel), about_of(study, panel)
        without = without_score(study, panel, rows)
        for first, second in study.comparisons:
            sides = [by_value.get(value, {}) for value in (first, second)]
            finding = finding_of(study, panel.measure, about, (study.label(first), study.label(second)), sides)
            if without & {first, second}:
                finding = replace(finding, answer=UNDECIDED, sd=None, seeds_needed=None)
            found.append(finding)
    return found


def primary_panels(study: Study, rows: Sequence[dict]) -> list[Panel]:
    return [panel for panel in panels(study, rows) if panel.measure in study.primary_measures]


def about_of(study: Study, panel: Panel) -> str:
    """What is compared in a panel, with its unit: the measure, or a score that is not simply its mean."""
    measure = MEASURES[panel.measure]
    about = measure.title
    if study.score != "mean" or study.score_label:
        about = _scored(study, panel.measure)
        alike = [each for each in study.primary_measures if _scored(study, each) == about]
        about += f", {measure.label}" if len(alike) > 1 else ""
    return about + ("" if panel.value is None else f", {study.panel_label(panel.value)}")


def _scored(study: Study, measure: str) -> str:
    label, unit = score_label(study, measure), unit_of(study, measure)
    return label + (f" ({unit})" if unit else "")


def score_label(study: Study, measure: str | None = None) -> str:
    """The name of a score of a measure (default: the first primary one)."""
    scored = MEASURES[measure or study.primary_measures[0]]
    x = scored.over or study.axis_label(study.x or "")
    return study.score_label or SCORES[study.score].label.format(measure=scored.label, x=x)


def unit_of(study: Study, measure: str) -> str:
    """The unit of a difference between two scores of a measure."""
    return SCORES[study.score].unit or MEASURES[measure].unit.replace("%", "points")


def without_score(study: Study, panel: Panel, rows: Sequence[dict]) -> set[str]:
    """The values of the series with a seed whose runs all ended, but have no score: one diverged, or never learned.

    To leave such seeds out would favour the value that fails.
    """
    statuses: dict[tuple[str, int], set[str]] = {}
    for row in _rows_of(study, panel.value, rows):
        statuses.setdefault((str(row[study.series]), row["seed"]), set()).add(row["status"])
    scored = {(value, seed) for value, by_seed in scores(study, panel).items() for seed in by_seed}
    ended = {key for key, found in statuses.items() if found <= {"finished", "diverged"}}
    return {value for value, _ in ended - scored}


def finding_of(
    study: Study, measure: str, about: str, names: tuple[str, str], sides: Sequence[Scores], comparisons: int = 1
) -> Finding:
    factor, unit = 1 if SCORES[study.score].unit else MEASURES[measure].factor, unit_of(study, measure)
    first, second = ({seed: factor * score for seed, score in side.items()} for side in sides)
    if not (first and second):
        return Finding(about, *names, unit, UNDECIDED)
    rounding = _ROUNDING if unit == "points" else metrics.ROUNDING
    compared = metrics.compare_groups(first, second, comparisons=comparisons, rounding=rounding)
    if compared["paired"]:
        sd = metrics.mean_and_sd([first[seed] - second[seed] for seed in first])["sd"]
    else:
        spreads = [metrics.mean_and_sd(list(side.values()))["sd"] for side in (first, second)]
        sd = None if None in spreads else math.hypot(*spreads)
    sd = sd if sd is not None and sd > rounding else None  # without any spread, three seeds would be enough
    # Equivalence needs two one-sided tests to succeed, hence the higher power of each.
    target, power = (study.margin, 0.9) if study.margin else (compared["difference"], 0.8)
    interval, means = compared["interval_95"], tuple(float(np.mean(list(side.values()))) for side in (first, second))
    needed = None if sd is None else runs_needed(sd, target, power, comparisons)
    if study.margin and abs(compared["difference"]) >= study.margin:
        needed = None  # no number of seeds makes such a difference equivalent
    numbers = (means, compared["difference"], interval, sd, tuple(compared["runs"]), compared["paired"], needed)
    return Finding(about, *names, unit, _answer(study, interval), *numbers)


def _answer(study: Study, interval: tuple[float, float] | None) -> str:
    """Whether the 95 % interval of a difference supports the claim (in a sweep: that the first is better)."""
    if interval is None:
        return UNDECIDED
    low, high = interval
    if study.margin is not None:
        outside = low > study.margin or high < -study.margin
        return "supported" if max(-low, high) < study.margin else "contradicted" if outside else UNDECIDED
    if study.expected == "lower":
        low, high = -high, -low
    return "supported" if low > 0 else "contradicted" if high < 0 else UNDECIDED
