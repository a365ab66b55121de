"""What a study found: from its runs to a table, and from the table to a figure and a verdict.

The table (`runs.csv`) holds every number; figure and verdict can be made again from it without training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiment import config as configuration
from experiment import files
from experiment.evaluation import metrics
from experiment.reporting import figures, markdown
from experiment.studies.measures import MEASURES
from experiment.studies.scores import Panel, panels, scores
from experiment.studies.study import CurveMeasure, Study
from experiment.studies.table import read_table, write_table


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
