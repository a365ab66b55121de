"""The answer of a study, with its caveats: of a claim, a sweep or a search. Draws nothing."""

import collections
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from experiment.evaluation import metrics
from experiment.studies.findings import (
    UNDECIDED,
    Finding,
    Panel,
    Scores,
    finding_of,
    findings,
    points_of,
    primary_panels,
    score_label,
    scores,
    trained,
    unit_of,
    without_score,
)
from experiment.studies.measures import MEASURES
from experiment.studies.study import Study

_NAMED = 3  # settings in the answer of a sweep

STOPPED = "stopped early"  # the status of a run that the pruner of a search stopped


@dataclass(frozen=True)
class Verdict:
    """The answer of a study, as verdict.json holds it."""

    study: str
    claim: str  # empty for a sweep
    question: str
    answer: str
    score: str  # what is compared
    expected: str
    margin: float | None  # of equality
    holds: str  # where the claim holds: the end of a sentence
    findings: list[Finding]
    caveats: list[str]
    unfinished: list[str]
    runs: int
    scope: str
    command: str


def verdict(name: str, study: Study, rows: Sequence[dict], command: str) -> Verdict:
    """The verdict of a study; `command` reproduces it."""
    found, answer = (_claim if study.claim else _best_of_search if study.search else _best)(study, rows)
    unfinished = [row for row in rows if row["status"] not in ("finished", STOPPED)]
    return Verdict(
        study=name,
        claim=study.claim,
        question=study.question or f"Which {_listed(study)} best?",
        answer=answer,
        score=score_label(study),
        expected=study.expected or "higher",
        margin=study.margin,
        holds=_holds(study),
        findings=found,
        caveats=list(_caveats(study, rows, found)),
        unfinished=[f"{row['run']}: {row['status']}; {row.get('reason', '')}" for row in unfinished],
        runs=len(rows),
        scope=study.scope,
        command=command,
    )


def _holds(study: Study) -> str:
    if study.margin is None:
        return f"the first is {study.expected}"
    unit = unit_of(study, study.primary_measures[0])
    return f"the interval of the difference lies within ±{study.margin:g} {unit}".rstrip()


def _caveats(study: Study, rows: Sequence[dict], found: Sequence[Finding]) -> Iterator[str]:
    data = {row.get("data", "cifar10"): None for row in trained(rows)}
    other = "" if "cifar10" in data else ", not CIFAR-10"
    if [*data] != ["cifar10"]:
        names = ("synthetic" if name == "generated" else name for name in data)
        yield f"On {', '.join(names)} images{other}."
    if any(row.get("protocol") == "test_as_validation" for row in rows):
        yield "Optimistic: weights chosen on the test set."
    if not study.claim and study.measures[0] == "test_accuracy":
        yield "Optimistic: settings chosen on the test set."
    compared = study.primary_measures
    machines = {(row.get("cpu"), row.get("threads"), row.get("computed_in")) for row in trained(rows)}
    precisions = {precision: None for *_, precision in machines if precision}
    if "seconds_to" in compared and len(machines) > 1:
        yield "The seconds are of different processors, numbers of threads or precisions."
    elif len(precisions) > 1 and "precision" not in study.varied:
        yield f"Computed in {' and '.join(sorted(precisions))}."
    if "precision" in study.varied and (problem := _mixed_formats(rows)):
        yield problem
    if any(row["status"] == "diverged" for row in rows) and any(name.endswith("_accuracy") for name in compared):
        yield "Diverged runs count as guessing."
    if cold := sum(bool(row.get("cold_averages")) for row in rows):
        made = f"{cold} run{'s' * (cold > 1)} made too few steps for the moving averages of batch normalisation"
        yield f"{made}: their accuracies are too low."
    if study.claim and any(without_score(study, panel, rows) for panel in primary_panels(study, rows)):
        yield "Seeds that diverged, or did not learn enough, have no such score: comparisons with them are not decided."
    if study.score == "largest_usable" and any(_at_the_end(study, panel) for panel in primary_panels(study, rows)):
        yield f"Where the largest {study.axis_label(study.x)} was usable, the score is a lower bound."
    if study.search:
        stopped = sum(row["status"] == STOPPED for row in rows)
        yield (
            f"{len(rows)} runs, {stopped} of them stopped early. The best of many is partly luck: its validation "
            "accuracy is too high an estimate. Compare the best settings over new seeds in a sweep."
        )
    elif not study.claim and len(found) > 1 and any(finding.interval_95 for finding in found):
        yield "The intervals are corrected for all pairs of settings (Bonferroni): together they cover 95 %."
        yield "The best setting was chosen by the same runs, so its own mean is too good an estimate."
    elif study.claim and study.margin is None and len({finding.answer for finding in found}) > 1:
        yield "The intervals are not corrected: even if nothing differed, about one in twenty would be decided."


def _at_the_end(study: Study, panel: Panel) -> bool:
    found = scores(study, panel)
    curves = panel.curves.items()
    return any(found.get(value, {}).get(seed) == math.log10(max(curve)) for (value, seed), curve in curves)


def _mixed_formats(rows: Sequence[dict]) -> str:
    """Whether a value of `precision` was several number formats, as auto can be, or two values were the same one."""
    made: dict[str, set[str]] = {}
    for row in trained(rows):
        if row.get("computed_in"):
            made.setdefault(row["precision"], set()).add(row["computed_in"])
    if mixed := [value for value, formats in made.items() if len(formats) > 1]:
        return f"Precision {mixed[0]} was {' and '.join(sorted(made[mixed[0]]))}: its differences say little."
    same = len(set(map(frozenset, made.values()))) < len(made)
    return "Two values of precision were one number format: their difference says nothing." if same else ""


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
    if not its_scores or not any(row["status"] == "finished" for row in rows):
        return [], "No run finished"
    first = study.measures[0]
    count = max(1, math.comb(len(others) + 1, 2))  # all pairs: the best was chosen from the same runs
    found = [finding_of(study, first, measure.title, (best, name), (its_scores, side), count) for name, side in others]
    mean = measure.factor * np.mean(list(its_scores.values()))
    seeds = f"mean of {len(its_scores)} seeds" if len(its_scores) > 1 else "one seed"
    answer = f"Best: {best}, with {mean:.4g} {measure.unit} {measure.label} ({seeds})"
    untold: dict[str, list[str]] = {}
    for finding in found:
        if finding.answer == UNDECIDED:  # else it is ahead, with runs missing
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
    name = ", ".join(f"{study.axis_label(key)} {study.value_label(key, best[0][key])}" for key in study.search)
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
        points = list(points_of(study, study.measures[0], row).values())
        mean = float(np.mean(points)) if points else math.nan
        groups.setdefault(name, {}).update({row["seed"]: mean} if math.isfinite(mean) else {})
    sign = _sign(study)
    full = max(map(len, groups.values()))  # settings with missing runs come last
    return sorted(groups.items(), key=lambda item: (len(item[1]) < full, sign * np.mean([*item[1].values()] or [0])))
