"""The results of a study: curves, differences of scores, and the answer. Draws nothing."""

import collections
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

_NAMED = 3  # settings in the answer of a sweep

UNDECIDED = "not decided"
STOPPED = "stopped early"  # the status of a run that the pruner of a search stopped

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


@dataclass(frozen=True)
class Verdict:
    """The answer of a study, as verdict.json holds it."""

    study: str
    claim: str  # empty for a sweep
    question: str
    answer: str
    score: str  # what is compared
    expected: str
    findings: list[Finding]
    caveats: list[str]
    unfinished: list[str]
    runs: int
    scope: str
    command: str


def panels(study: Study, rows: Sequence[dict]) -> list[Panel]:
    """The curves of all runs that ended; a diverged run counts with chance accuracy."""
    values = list(dict.fromkeys(row[study.panel] for row in rows)) if study.panel else [None]
    result = []
    for measure, value in itertools.product(study.measures, values):
        curves: dict[tuple[str, int], Curve] = {}
        for row in rows:
            if study.panel is None or row[study.panel] == value:
                curve = curves.setdefault((str(row[study.series]), row["seed"]), {})
                curve.update(_points(study, measure, row))
        ordered = {key: dict(sorted(curve.items())) for key, curve in curves.items() if curve}
        result.append(Panel(measure, value, ordered, max(map(_chance, _trained(rows)), default=0.0)))
    return result


def _points(study: Study, measure: str, row: dict) -> Curve:
    if MEASURES[measure].over:
        found = {key: value for key, value in row.items() if key.startswith(f"{measure}_")}
        return {int(key.rpartition("_")[2]): value for key, value in found.items()}
    if measure.endswith("_accuracy") and row["status"] == "diverged":
        return {row[study.x]: _chance(row)}
    return {row[study.x]: row[measure]} if measure in row else {}


def _trained(rows: Sequence[dict]) -> list[dict]:
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
        lengths = dict.fromkeys(lengths, max(lengths.values(), default=0))
    result: dict[str, Scores] = {}
    for (value, seed), curve in panel.curves.items():
        score = SCORES[study.score].of(curve, panel.chance) if len(curve) == lengths[value] else math.nan
        if math.isfinite(score):
            result.setdefault(value, {})[seed] = score
    return result


def findings(study: Study, rows: Sequence[dict]) -> list[Finding]:
    """A finding for each of the study's comparisons, in each panel of a primary measure."""
    found = []
    for panel in _primary_panels(study, rows):
        by_value = scores(study, panel)
        about = MEASURES[panel.measure].title
        about += "" if panel.value is None else f", {study.panel_label(panel.value)}"
        diverged = _left_out(study, panel, rows)
        for first, second in study.comparisons:
            sides = [by_value.get(value, {}) for value in (first, second)]
            finding = _finding(study, panel.measure, about, (study.label(first), study.label(second)), sides)
            if diverged & {first, second}:
                finding = replace(finding, answer=UNDECIDED, sd=None, seeds_needed=None)
            found.append(finding)
    return found


def _primary_panels(study: Study, rows: Sequence[dict]) -> list[Panel]:
    return [panel for panel in panels(study, rows) if panel.measure in (study.primary or study.measures[:1])]


def _left_out(study: Study, panel: Panel, rows: Sequence[dict]) -> set[str]:
    """The values of the series with a diverged run that the panel's measure cannot count."""
    own = [row for row in rows if study.panel is None or row[study.panel] == panel.value]
    diverged = {(str(row[study.series]), row["seed"]) for row in own if row["status"] == "diverged"}
    return {value for value, _ in diverged - panel.curves.keys()}


def _finding(
    study: Study, measure: str, about: str, names: tuple[str, str], sides: Sequence[Scores], comparisons: int = 1
) -> Finding:
    own_unit, its = SCORES[study.score].unit, MEASURES[measure]
    factor, unit = (1, own_unit) if own_unit else (its.factor, its.unit.replace("%", "points"))
    first, second = ({seed: factor * score for seed, score in side.items()} for side in sides)
    if not (first and second):
        return Finding(about, *names, unit, UNDECIDED)
    compared = metrics.compare_groups(first, second, comparisons=comparisons)
    if compared["paired"]:
        sd = metrics.mean_and_sd([first[seed] - second[seed] for seed in first])["sd"]
    else:
        spreads = [metrics.mean_and_sd(list(side.values()))["sd"] for side in (first, second)]
        sd = None if None in spreads else math.hypot(*spreads)
    # Equivalence needs two one-sided tests to succeed, hence the higher power of each.
    target, power = (study.margin, 0.9) if study.margin else (compared["difference"], 0.8)
    interval, means = compared["interval_95"], tuple(float(np.mean(list(side.values()))) for side in (first, second))
    needed = None if sd is None else runs_needed(sd, target, power, comparisons)
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


def verdict(name: str, study: Study, rows: Sequence[dict], command: str) -> Verdict:
    """The verdict of a study; `command` reproduces it."""
    found, answer = (_claim if study.claim else _best_of_search if study.search else _best)(study, rows)
    words = {"measure": MEASURES[study.measures[0]].label, "x": study.axis_label(study.x or "")}
    data = {row.get("data", "cifar10"): None for row in _trained(rows)}
    other = "" if "cifar10" in data else ", not CIFAR-10"
    caveats = (
        [f"On {', '.join(data)} images{other}.".replace("generated", "synthetic")] if [*data] != ["cifar10"] else []
    )
    if any(row.get("protocol") == "test_as_validation" for row in rows):
        caveats.append("Optimistic: weights chosen on the test set.")
    if study.claim and any(_left_out(study, panel, rows) for panel in _primary_panels(study, rows)):
        caveats.append("Diverged runs have no such measure, so comparisons with them are not decided.")
    unfinished = [row for row in rows if row["status"] not in ("finished", STOPPED)]
    if study.search:
        stopped = sum(row["status"] == STOPPED for row in rows)
        caveats.append(
            f"{len(rows)} runs, {stopped} of them stopped early. The best of many is partly luck: its validation "
            "accuracy is too high an estimate. Compare the best settings over new seeds in a sweep."
        )
    if any(finding.interval_95 for finding in found[1:]) and not study.claim:
        caveats.append("The intervals are corrected for all pairs of settings (Bonferroni): together they cover 95 %.")
    elif len(found) > 5:
        caveats.append("Even if nothing differed, about one in twenty of such comparisons would be decided.")
    return Verdict(
        study=name,
        claim=study.claim,
        question=study.question or f"Which {_listed(study)} best?",
        answer=answer,
        score=study.score_label or SCORES[study.score].label.format(**words),
        expected=study.expected or "higher",
        findings=found,
        caveats=caveats,
        unfinished=[f"{row['run']}: {row['status']}; {row.get('reason', '')}" for row in unfinished],
        runs=len(rows),
        scope=study.scope,
        command=command,
    )


def _claim(study: Study, rows: Sequence[dict]) -> tuple[list[Finding], str]:
    found = findings(study, rows)
    counts = collections.Counter(finding.answer for finding in found)
    if len(counts) == 1:
        return found, found[0].answer.capitalize()
    parts = [f"{counts[word]} {word}" for word in ("supported", "contradicted", UNDECIDED) if counts[word]]
    return found, f"Mixed: of {len(found)} comparisons {', '.join(parts)}"


def _best(study: Study, rows: Sequence[dict]) -> tuple[list[Finding], str]:
    """The best settings of a sweep, compared with each of the others, and the answer in a sentence."""
    measure = MEASURES[study.measures[0]]
    (best, its_scores), *others = _ranked(study, rows)
    if not its_scores or all(row["status"] == "diverged" for row in rows):
        return [], "No run finished"
    first = study.measures[0]
    count = max(1, math.comb(len(others) + 1, 2))  # all pairs: the best was chosen from the same runs
    found = [_finding(study, first, measure.title, (best, name), (its_scores, side), count) for name, side in others]
    mean = measure.factor * np.mean(list(its_scores.values()))
    seeds = f"mean of {len(its_scores)} seeds" if len(its_scores) > 1 else "one seed"
    answer = f"Best: {best}, with {mean:.4g} {measure.unit} {measure.label} ({seeds})"
    untold: dict[str, list[str]] = {}
    for finding in found:
        if finding.answer != "supported":
            untold.setdefault(_why_undecided(finding), []).append(finding.second)
    for told, names in untold.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        answer += f"; {told}: {', '.join(names[:_NAMED])}{more}"
    sign = _sign(study)
    ahead = [
        name
        for name, side in others
        if side and sign * np.mean([*side.values()]) < sign * np.mean([*its_scores.values()])
    ]
    return found, answer + (f"; better, but some of its runs are missing: {', '.join(ahead)}" if ahead else "")


def _why_undecided(finding: Finding) -> str:
    if finding.interval_95 is not None:
        return "no significant difference from it"
    enough = finding.runs and min(finding.runs) >= metrics.FEWEST_FOR_AN_INTERVAL
    return "the same difference for every seed, which has no test" if enough else "too few runs for a test"


def ranked(rows: Sequence[dict]) -> list[dict]:
    """The finished runs of a search, the best first."""
    return sorted((row for row in rows if row["status"] == "finished"), key=lambda row: -row["val_accuracy"])


def _best_of_search(study: Study, rows: Sequence[dict]) -> tuple[list[Finding], str]:
    if not (best := ranked(rows)[:1]):
        return [], "No run finished"
    name = ", ".join(f"{study.axis_label(key)} {study.value_label(best[0][key])}" for key in study.search)
    return [], f"Best: {name}, with {100 * best[0]['val_accuracy']:.2f} % validation accuracy (one run)"


def _listed(study: Study) -> str:
    *others, last = map(study.axis_label, study.varied)
    return f"{', '.join(others)} and {last} are" if others else f"{last} is"


def _sign(study: Study) -> int:
    """1 if lower is better, else -1: scores times this sort the best first."""
    return 1 if study.expected == "lower" else -1


def _ranked(study: Study, rows: Sequence[dict]) -> list[tuple[str, Scores]]:
    """The settings of a sweep with their runs' scores by seed, the best mean first."""
    groups: dict[str, Scores] = {}
    for row in rows:
        name = ", ".join(f"{study.axis_label(key)} {study.label(row.get(key))}" for key in study.varied)
        points = list(_points(study, study.measures[0], row).values())
        groups.setdefault(name, {}).update({row["seed"]: float(np.mean(points))} if points else {})
    sign = _sign(study)
    full = max(map(len, groups.values()))  # settings with missing runs come last
    return sorted(groups.items(), key=lambda item: (len(item[1]) < full, sign * np.mean([*item[1].values()] or [0])))
