"""Tables of a comparison for the terminal, comparison.md and the page. Computes nothing."""

from collections.abc import Callable, Sequence
from typing import Any

from experiment.evaluation.comparison import Comparison, Difference, Pair
from experiment.evaluation.groups import Group
from experiment.evaluation.result import MILESTONES, RunResult
from experiment.reporting.answer import answer, interval_of, notes, notes_in_files, outcome, p_value, points, seeds_of
from experiment.reporting.markdown import plain
from experiment.reporting.markdown import table as markdown_table

Table = tuple[list[str], list[list[str]]]  # header, rows


def _table(items: Sequence, columns: dict[str, Callable[[Any], str]]) -> Table:
    """A row for each item; `columns` maps a column's name to the function that gives its cell."""
    return list(columns), [[cell(item) for cell in columns.values()] for item in items]


def arms(comparison: Comparison) -> Table:
    """The main table: one row per arm, the baseline first, without empty columns."""
    differences = {each.first.label: each.numbers for each in comparison.differences}

    def minus_baseline(group: Group) -> str:
        if group is comparison.baseline:
            return "baseline"
        if group.label in differences:
            return points(differences[group.label])
        return "other images" if group in comparison.on_other_images else "other protocol"

    columns = {
        "arm": lambda group: group.label,
        "seeds": lambda group: str(len(group.runs)),
        "test %": lambda group: f"{100 * group.mean:.2f}",
        "95 % interval": interval_of,
        "minus baseline" + " (uncorrected)" * (len(comparison.differences) > 1): minus_baseline,
        "p (Holm)": lambda group: p_value(differences.get(group.label, {}).get("t_test_p_holm")),
        "tta %": lambda group: f"{100 * group.tta['mean']:.2f}" if group.tta else "",
    }
    told = {name: {*map(cell, comparison.groups)} - {"", "baseline"} for name, cell in columns.items()}
    return _table(comparison.groups, {name: cell for name, cell in columns.items() if name == "arm" or told[name]})


def runs_in_short(results: Sequence[RunResult]) -> Table:
    """One row per run, for a terminal of 80 columns."""
    columns = {
        "run": lambda run: run.name,
        "best epoch": lambda run: f"{run.summary['best_epoch']} of {run.summary['epochs']}",
        "validation %": lambda run: f"{100 * run.summary['val_accuracy']:.2f}",
        "test %": lambda run: f"{100 * run.accuracy:.2f}",
        "seconds": lambda run: f"{run.summary['train_seconds']:.0f}",
    }
    return _table(results, columns)


def differences_table(differences: Sequence[Difference]) -> Table:
    def p_values(test: str):
        return lambda each: ", ".join(filter(None, (p_value(each.numbers[key]) for key in (test, f"{test}_holm"))))

    columns = {
        "arm": lambda each: each.first.label,
        "minus": lambda each: each.second.label,
        f"points [95 %{', uncorrected' * (len(differences) > 1)}]": lambda each: points(each.numbers),
        "seeds": lambda each: seeds_of(each.numbers),
        "t test p, Holm's": p_values("t_test_p"),
        "permutation p, Holm's": p_values("permutation_p"),
        "result": outcome,
        "differs in": lambda each: ", ".join(each.keys),
    }
    return _table(differences, columns)


def pairs_table(pairs: Sequence[Pair]) -> Table:
    columns = {
        "first": lambda pair: pair.first.name,
        "second": lambda pair: pair.second.name,
        "points [95 %]": lambda pair: points(pair.numbers, "bootstrap_95"),
        "only first correct": lambda pair: f"{pair.numbers['only_first_correct']:,}",
        "only second correct": lambda pair: f"{pair.numbers['only_second_correct']:,}",
        "McNemar's p": lambda pair: p_value(pair.numbers["mcnemar_p"]),
    }
    return _table(pairs, columns)


def _runs(runs: list[dict]) -> Table:
    tta = runs[0]["tta"]  # the same for all runs of an evaluation
    tta_column = {f"--tta {tta} %": lambda run: f"{100 * run['tta_test_accuracy']:.2f}"} if tta != "none" else {}
    columns = {
        "run": lambda run: run["run"],
        "arm": lambda run: run["arm"],
        "parameters": lambda run: f"{run['parameters']:,}",
        "best epoch": lambda run: f"{run['best_epoch']} of {run['epochs']}",
        "validation %": lambda run: f"{100 * run['val_accuracy']:.2f}",
        "test % [95 %]": lambda run: "{:.2f} [{:.2f}, {:.2f}]".format(
            *(100 * share for share in (run["test_accuracy"], *run["test_accuracy_wilson_95"]))
        ),
        **tta_column,
        "loss": lambda run: f"{run['test_loss']:.4f}",
        "Brier": lambda run: f"{run['brier_score']:.4f}",
        "calibration error, points": lambda run: f"{100 * run['expected_calibration_error']:.2f}",
        "seconds": lambda run: f"{run['train_seconds']:.0f}",
        "to best epoch": lambda run: f"{run['seconds_to_best_epoch']:.0f}",
        "remarks": lambda run: "; ".join(run["remarks"]),
    }
    return _table(runs, columns)


def _milestones(runs: list[dict]) -> str:
    def cell(reached: dict | None) -> str:
        return f"{reached['epoch']} ({reached['seconds']:.0f} s)" if reached else "never"

    header = ["run", *(f"{share:.0%}" for share in MILESTONES)]
    return markdown_table(header, [[run["run"], *map(cell, run["milestones"].values())] for run in runs], 1)


def _classes(runs: list[dict]) -> str:
    """A table for each set of class names, one row per class."""
    parts = []
    for names in dict.fromkeys(tuple(run["class_accuracy"]) for run in runs):
        own = [run for run in runs if tuple(run["class_accuracy"]) == names]
        rows = [[name, *(f"{100 * run['class_accuracy'][name]:.1f}" for run in own)] for name in names]
        parts.append(markdown_table(["class", *(run["run"] for run in own)], rows, 1))
    return "\n\n".join(parts)


# ---- the whole -------------------------------------------------------------------------------------------------------


def markdown(comparison: Comparison, content: dict) -> str:
    """comparison.md: the answer, all tables, and the definition of each number."""
    runs = content["runs"]
    remarks = "\n".join(f"- {plain(note)}" for note in notes_in_files(comparison))
    parts = ["# Comparison", *map(plain, answer(comparison)), remarks]
    parts += ["## Arms", markdown_table(*arms(comparison), 1)]
    if comparison.differences:
        parts += ["## Each arm minus the baseline", markdown_table(*differences_table(comparison.differences))]
    parts += ["## Runs", markdown_table(*_runs(runs))]
    parts += [f"Epoch (and seconds) at which the validation accuracy first reached so much:\n\n{_milestones(runs)}"]
    if comparison.pairs:
        parts += ["## Pairs of runs, on the same test images", markdown_table(*pairs_table(comparison.pairs), 2)]
    parts += ["## Accuracy of each class, %", _classes(runs)]
    definitions = "\n".join(f"- `{name}`: {text}" for name, text in content["definitions"].items())
    parts += ["## What the numbers are", definitions]
    return "\n\n".join(filter(None, parts)) + "\n"


def print_summary(comparison: Comparison) -> None:
    """Prints the answer, the arms and the runs, in 80 columns."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=80, highlight=False, markup=False, emoji=False)
    for line in answer(comparison):
        console.print(line)
    for header, rows in (arms(comparison), runs_in_short(comparison.results)):
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for number, name in enumerate(header):
            narrow = name.startswith("minus baseline") and len(header) > 5  # wrap the interval to a second line
            wrapped = {"max_width": 14} if narrow else {"no_wrap": number > 0}
            table.add_column(name, justify="right" if number else "left", overflow="fold", **wrapped)
        for row in rows:
            table.add_row(*(Text(cell or "") for cell in row))
        console.print(table)
    for note in notes(comparison):
        console.print(note)
