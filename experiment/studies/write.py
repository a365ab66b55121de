"""Writes the results of a study: runs.csv, verdict.json, verdict.md and the figure."""

import contextlib
import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

from experiment import files
from experiment.errors import UserError
from experiment.evaluation import metrics
from experiment.evaluation.power import runs_needed
from experiment.reporting import figures, markdown, study_figure
from experiment.studies import table
from experiment.studies.findings import UNDECIDED, Finding, Panel, about_of, panels
from experiment.studies.measures import MEASURES
from experiment.studies.study import Study
from experiment.studies.verdict import STOPPED, Verdict, ranked, verdict

_SHOWN = 5  # settings of a search, in verdict.md
_TOLD = 3  # differences, in a figure's title


def write(
    name: str, study: Study, rows: Sequence[dict] | None, results: Path, command: str, figure_format: str = "png"
) -> Path:
    """Writes the table (with None for `rows` it reads the existing one), and from it the rest; returns the folder."""
    folder = folder_of(name, results)
    files.make_folder(folder)
    if rows is not None:
        table.write_table(rows, folder / "runs.csv")
    read = table.read_table(folder / "runs.csv", _needed(study))
    if rows is None and not study.search:
        _check_table(study, read, folder / "runs.csv")
    found = verdict(name, study, read, command)
    cells = _ranking(study, read) if study.search else table_of(found)
    content = dataclasses.asdict(found) | {"table": cells}
    files.write_text(folder / "verdict.json", json.dumps(content, indent=1) + "\n")
    files.write_text(folder / "verdict.md", markdown_of(found, cells))
    figures.save_all({"figure": draw(study, found, read)}, folder, figure_format)
    return folder


def folder_of(name: str, results: Path) -> Path:
    return results / "studies" / name


def _needed(study: Study) -> list[str]:
    """The columns without which a table is not of this study."""
    return [*filter(None, (*study.search, study.series, study.x, study.panel)), "seed", "status"]


def _check_table(study: Study, rows: Sequence[dict], path: Path) -> None:
    """Raises a UserError unless an existing table has the values and the seeds of the study, and no others."""
    wanted = {key: study.values_of(key) for key in study.varied} | {"seed": study.seeds}
    for key, values in wanted.items():
        here, there = (dict.fromkeys(map(str, column)) for column in (values, [row.get(key) for row in rows]))
        if here != there:
            told = f"its values of {key} are {', '.join(there)[:200]}, not {', '.join(here)[:200]}"
            raise UserError(f"{path} is the table of another study: {told}. Give the command at the end of verdict.md")


def power(name: str, study: Study, results: Path) -> list[str]:
    """How many seeds detect differences of several sizes, given the spread of the runs in an existing table."""
    rows, lines = [], []
    with contextlib.suppress(UserError):  # there is none yet, or it is of a former version of the study
        values = {key: set(map(str, study.values_of(key))) for key in study.varied}
        rows = table.read_table(folder_of(name, results) / "runs.csv", _needed(study))
        rows = [row for row in rows if all(str(row.get(key)) in own for key, own in values.items())]
    found = verdict(name, study, rows, "").findings if rows else []
    tests = 1 if study.claim else math.comb(len(found) + 1, 2)  # in a sweep, all pairs of settings
    for finding in found:
        if finding.sd is not None:
            sizes = (0.5, 1, 2) if finding.unit == "points" else [finding.sd * share for share in (0.5, 1, 2)]
            counts = [runs_needed(finding.sd, size, comparisons=tests) or "over 10,000" for size in sizes]
            needed = [f"{count} for {size:.2g}" for count, size in zip(counts, sizes, strict=True)]
            lines.append(f"{_about(finding)}: seeds to detect a difference: {', '.join(needed)} {finding.unit}\n")
    return [*(["With 80 % power, given the spread of the existing runs:"] if lines else []), *lines]


def markdown_of(found: Verdict, cells: list[list[str]]) -> str:
    """verdict.md; `cells` are the header and the rows of its table."""
    question = found.question if found.claim else ""
    parts = [f"# {found.claim or found.question}", f"**{found.answer}.** {question}".strip()]
    parts += found.caveats
    if found.claim:
        parts.append(f"Compared: {found.score}. The claim holds where {found.holds}.")
    header, *rows = cells
    if rows:
        parts.append(markdown.table(header, rows, 1))
    if any(finding.seeds_needed and finding.answer == UNDECIDED for finding in found.findings):
        equal = "if the two are exactly equal, to show it"
        what = equal if found.expected == "equal" else "to detect a difference of the size seen"
        parts.append(
            f"Seeds needed: about how many new ones it takes, {what} with 80 % power, by the spread of these runs."
        )
        parts[-1] += " Adding seeds to these and testing again makes a false positive likelier than 5 %."
    if found.unfinished:
        parts.append(f"{len(found.unfinished)} of {found.runs} runs did not finish:")
        parts.append("\n".join(f"- {line}" for line in found.unfinished))
    parts += [f"Scope: {found.scope}"] if found.scope else []
    return "\n\n".join([*parts, f"`{found.command}`"]) + "\n"


def table_of(found: Verdict) -> list[list[str]]:
    """The header, and a row of strings for each finding."""
    header = ["compared", "first", "second", "difference [95 % interval]", "runs", "answer", "seeds needed"]
    return [header, *(_cells(finding, found.margin) for finding in found.findings)]


def _ranking(study: Study, rows: Sequence[dict]) -> list[list[str]]:
    """The header, and a row of strings for each of the best settings of a search."""
    header = [*map(study.axis_label, study.search), "validation accuracy (%)"]
    rows = ranked(rows)[:_SHOWN]
    settings = [[study.value_label(key, row[key]) for key in study.search] for row in rows]
    return [header, *([*own, f"{100 * row['val_accuracy']:.2f}"] for own, row in zip(settings, rows, strict=True))]


def _cells(finding: Finding, margin: float | None) -> list[str]:
    about = _about(finding)
    if finding.means is None:
        return [about, "", "", "too few runs have a score", "", finding.answer, ""]
    known = finding.answer == UNDECIDED and finding.sd is not None
    # No number of seeds shows that two are equal whose difference is so large.
    too_many = "" if margin and abs(finding.difference) >= margin else "over 10,000"
    needed = (f"{finding.seeds_needed:,}" if finding.seeds_needed else too_many) if known else ""
    means = (f"{mean:.2f}" if finding.unit == "points" else f"{mean:.4g}" for mean in finding.means)
    return [about, *means, _difference(finding), _runs(finding), finding.answer, needed]


def _runs(finding: Finding) -> str:
    first, second = finding.runs
    return f"{first} pair{'s' * (first > 1)}" if finding.paired else f"{first} and {second}"


def _about(finding: Finding) -> str:
    return f"{finding.about}: {finding.first} vs. {finding.second}"


def _difference(finding: Finding) -> str:
    interval = finding.interval_95
    why = "too few runs" if min(finding.runs) < metrics.FEWEST_FOR_AN_INTERVAL else "no spread"
    digits = "+.2f" if finding.unit == "points" else "+.3g"
    told = f"[unknown: {why}]" if interval is None else f"[{', '.join(format(end, digits) for end in interval)}]"
    return f"{finding.difference:{digits}} {told}"


# ---- the figure ------------------------------------------------------------------------------------------------------


def draw(study: Study, found: Verdict, rows: Sequence[dict]):
    """The figure: the claim or question, the answer with the difference and its interval, and all runs."""
    answer = found.answer
    if study.claim and len({(finding.first, finding.second) for finding in found.findings}) == 1:
        finding = found.findings[0]
        pair = f"{finding.first} − {finding.second}"
        answer += f": {pair} = {_in_words(finding)}" if len(found.findings) == 1 else f" ({pair})"
    elif study.claim and len(found.findings) <= _TOLD:
        told = [f"{finding.first} − {finding.second} = {_in_words(finding)}" for finding in found.findings]
        answer += f": {'; '.join(told)}"
    drawn = _searched(study, rows) if study.search else [_drawn(study, found, each) for each in panels(study, rows)]
    if study.claim and (study.score != "mean" or study.score_label):
        answer += f"; compared: {found.score}"
    return study_figure.draw(drawn, f"Claim: {found.claim}" if found.claim else found.question, answer)


def _in_words(finding: Finding) -> str:
    """The difference with its interval and the number of runs, for a title."""
    if finding.difference is None:
        return "too few runs have a score"
    told = f"{_difference(finding)} {finding.unit}, n = {_runs(finding)}"
    return told.replace("-", "−").replace(" ", "\N{NO-BREAK SPACE}")


def _drawn(study: Study, found: Verdict, panel: Panel) -> study_figure.Panel:
    measure = MEASURES[panel.measure]
    title = "" if panel.value is None else study.panel_label(panel.value)
    tested = panel.measure in study.primary_measures
    own = [finding for finding in found.findings if tested and finding.about == about_of(study, panel)]
    if len(own) == 1 < len(found.findings) and study.claim:
        title = ": ".join([*filter(None, [title]), own[0].answer]) + f"\n{_in_words(own[0])}"
    # If the series is the x-axis, its numbers form one curve.
    one_curve = study.series == study.x and not any(isinstance(_shown(study, x), str) for x in study.values_of(study.x))
    curves: dict = {}
    for (value, seed), curve in panel.curves.items():
        points = {_shown(study, x): measure.factor * y for x, y in curve.items()}
        curves.setdefault(("" if one_curve else study.label(value), seed), {}).update(points)
    # In the order of the grid.
    order = {} if measure.over else {str(value): place for place, value in enumerate(study.values_of(study.x))}
    found_xs = {x for curve in panel.curves.values() for x in curve}
    xs = sorted(found_xs, key=None if measure.over else lambda x: order.get(str(x), len(order)))
    x_label = measure.over or study.axis_label(study.x or "")
    baseline = study.label(study.comparisons[0][1]) if study.claim and study.series == study.x else ""
    shown = [_shown(study, x) for x in xs]
    series = [] if one_curve else [study.label(value) for value in study.values_of(study.series)]
    return study_figure.Panel(title, x_label, measure.title, measure.log, shown, curves, series, baseline)


def _searched(study: Study, rows: Sequence[dict]) -> list[study_figure.Panel]:
    """A panel for each key of a search, with a point for each run."""
    drawn = []
    for key in study.search:
        curves = {
            (row["status"], number): {_shown(study, row[key]): 100 * row["val_accuracy"]}
            for number, row in enumerate(rows)
            if row["status"] in ("finished", STOPPED) and "val_accuracy" in row
        }
        xs = sorted({x for curve in curves.values() for x in curve}, key=lambda x: (isinstance(x, str), x))
        label = MEASURES["val_accuracy"].title
        drawn.append(
            study_figure.Panel("", study.axis_label(key), label, False, xs, curves, ["finished", STOPPED], means=False)
        )
    return drawn


def _shown(study: Study, x):
    """An x of the figure: a number, or the display name of another value."""
    return x if isinstance(x, int | float) and str(x) not in study.labels else study.label(x)
