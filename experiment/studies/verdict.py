"""What a study found: from its runs to a table, and from the table to a figure and a verdict.

The table (`runs.csv`) holds every number; figure and verdict can be made again from it without training.
"""

import csv
import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiment import config as configuration
from experiment import files
from experiment.errors import UserError
from experiment.evaluation import metrics
from experiment.reporting import figures, markdown
from experiment.studies.measures import MEASURES, TIMES
from experiment.studies.study import CurveMeasure, Study

# ---- the table -------------------------------------------------------------------------------------------------------


def write_table(rows: Sequence[dict], path: Path) -> None:
    """One row a run, the columns in order of appearance, those of time last; floats with all their digits."""
    columns = list(dict.fromkeys(key for row in rows for key in row if key not in TIMES)) + list(TIMES)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)
    files.write_text(path, text.getvalue())


def read_table(path: Path, needed: Sequence[str] = ()) -> list[dict]:
    """The rows of `runs.csv`, numbers as numbers, empty cells left out.

    Args:
        needed: columns in which every row must have a value.

    Raises:
        UserError: it is not there, or not a table with these columns.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file, strict=True))
        rows = [{key: _number(value) for key, value in row.items() if value != ""} for row in table]
        missing = [key for key in needed if not all(key in row for row in rows)]
        if missing or not rows:
            raise ValueError(f"the column {missing[0]} is missing or not filled" if missing else "it has no rows")
        return rows
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{path} is missing or damaged: {error}") from None


def _number(text: str):
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


# ---- curves, scores, verdict -----------------------------------------------------------------------------------------

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


@dataclass(frozen=True)
class Judgement:
    """Two values of the series against each other in one panel: their scores by seed, and the word for it."""

    panel: Panel
    names: tuple[str, str]
    first: dict[int, float]
    second: dict[int, float]
    comparison: dict | None
    word: str


def judge(study: Study, panel: Panel) -> list[Judgement]:
    """A judgement for each of the study's comparisons."""
    by_value = scores(study, panel)
    judgements = []
    for values in study.comparisons:
        first, second = (by_value.get(value, {}) for value in values)
        comparison = metrics.compare_groups(first, second) if first and second else None
        word = _word(comparison and comparison["interval_95"], study.expected)
        names = tuple(map(figures.name_of, values))
        judgements.append(Judgement(panel, names, first, second, comparison, word))
    return judgements


def _word(interval, expected: str) -> str:
    sign = 1 if expected == "higher" else -1
    low, high = sorted(sign * bound for bound in interval) if interval else (-1, 1)
    return "supported" if low > 0 else "contradicted" if high < 0 else "not decided by these runs"


def marks(rows: Sequence[dict]) -> list[str]:
    """What a reader must know before trusting any number of the study."""
    found = ["On generated images, not CIFAR-10."] if any(row.get("data") == "generated" for row in rows) else []
    if any(row.get("protocol") == "test_as_validation" for row in rows):
        found.append("Optimistic: weights chosen on the test set.")
    return found


def verdict(name: str, study: Study, rows: Sequence[dict]) -> str:
    """The answer as a Markdown page."""
    judged = [
        judgement
        for panel in panels(study, rows)
        if panel.measure in (study.judged or study.measures[:1])
        for judgement in judge(study, panel)
    ]
    words = {judgement.word for judgement in judged}
    overall = words.pop() if len(words) == 1 else "not decided by these runs: the rows below do not agree"
    troubled = [row for row in rows if row["status"] != "finished"]
    header = ["compared", study.score_means, "difference [95 % interval]", "seeds", "verdict"]
    parts = [
        f"# {study.claim}",
        f"**{overall[0].upper()}{overall[1:]}.** {study.question}",
        *marks(rows),
        markdown.table(header, [_judgement_row(study, judgement) for judgement in judged], 1),
        f'Where the claim holds, what stands before "against" is {study.expected} than what stands behind it.',
    ]
    if len(judged) > 5:
        parts.append(f"Of {len(judged)} comparisons, each at 95 %, about one in twenty is decided by chance alone.")
    if troubled:
        parts.append(f"{len(troubled)} of {len(rows)} runs did not finish:")
        parts.append("\n".join(f"- {row['run']}: {row['status']}; {row.get('reason', '')}" for row in troubled))
    parts += [f"Budget: {study.budget}"] if study.budget else []
    return "\n\n".join([*parts, f"`python study.py --config {name}.yaml`"]) + "\n"


_IN_UNITS_OF_THE_MEASURE = ("mean", "range", "loss_at_smallest")  # of the scores


def _judgement_row(study: Study, judgement: Judgement) -> list[str]:
    measure = MEASURES[judgement.panel.measure]
    about = ", ".join(filter(None, [measure.label, judgement.panel.title])) + ": " + " against ".join(judgement.names)
    comparison = judgement.comparison
    if comparison is None:
        return [about, "", "too few runs ended", "", judgement.word]
    factor = measure.factor if study.score in _IN_UNITS_OF_THE_MEASURE else 1
    means = [f"{factor * np.mean(list(side.values())):.4g}" for side in (judgement.first, judgement.second)]
    interval = comparison["interval_95"]
    told = "[{:+.3g}, {:+.3g}]".format(*(factor * bound for bound in interval)) if interval else "[unknown: no spread]"
    seeds = f"{comparison['runs'][0]} in pairs" if comparison["paired"] else "{} and {}".format(*comparison["runs"])
    return [about, " against ".join(means), f"{factor * comparison['difference']:+.3g} {told}", seeds, judgement.word]


def _drawn(study: Study, panel: Panel) -> figures.StudyPanel:
    measure = MEASURES[panel.measure]
    curves = {key: {x: measure.factor * y for x, y in curve.items()} for key, curve in panel.curves.items()}
    return figures.StudyPanel(panel.title, _x_label(study, panel.measure), measure.label, measure.log, curves)


def _x_label(study: Study, measure: str) -> str:
    if measure not in configuration.allowed(CurveMeasure):
        return study.x
    return "validation accuracy (%)" if measure.endswith("_to") else "layer"


def write(name: str, study: Study, rows: Sequence[dict], results: Path) -> Path:
    """Writes runs.csv, and from it figure.png and verdict.md; returns the folder."""
    folder = results / "studies" / name
    files.make_folder(folder)
    if rows:
        write_table(rows, folder / "runs.csv")
    table = read_table(folder / "runs.csv", [*filter(None, (study.series, study.x, study.panel)), "seed", "status"])
    shown = [_drawn(study, panel) for panel in panels(study, table)]
    figures.save(figures.study(shown, " ".join([study.claim, *marks(table)])), folder / "figure.png")
    files.write_text(folder / "verdict.md", verdict(name, study, table))
    return folder
