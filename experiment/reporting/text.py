"""A comparison as tables: for the terminal, for comparison.md and for the page. Computes nothing new."""

from collections.abc import Sequence

from experiment.evaluation.comparison import Comparison, Difference, Pair
from experiment.evaluation.result import MILESTONES, RunResult
from experiment.reporting.answer import answer, interval, notes, p_value, points, seeds_of, spread, verdict
from experiment.reporting.markdown import plain
from experiment.reporting.markdown import table as markdown_table


def arms(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the essential table: an arm a row, the baseline first; without columns that say nothing."""
    header = ["arm", "seeds", "test %", "95 % interval", "minus baseline", "p (Holm)", "tta %"]
    differences = {each.first.label: each for each in comparison.differences}
    rows = []
    for group in comparison.groups:
        difference = differences.get(group.label)
        rows.append(
            [
                group.label,
                str(len(group.runs)),
                f"{100 * group.mean:.2f}",
                spread(group).removeprefix("95 % interval "),
                "baseline"
                if group is comparison.baseline
                else points(difference.numbers)
                if difference
                else "not compared",
                p_value(difference and difference.numbers["t_test_p_holm"]),
                f"{100 * group.tta['mean']:.2f}" if group.tta else "",
            ]
        )
    telling = [place for place in range(len(header)) if any(row[place] not in ("", "baseline") for row in rows)]
    return [header[place] for place in telling], [[row[place] for place in telling] for row in rows]


def runs_in_short(results: Sequence[RunResult]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the runs, as they fit 80 columns."""
    header = ["run", "best epoch", "validation %", "test %", "seconds"]
    rows = [
        [
            result.name,
            f"{result.summary['best_epoch']} of {result.summary['epochs']}",
            f"{100 * result.summary['val_accuracy']:.2f}",
            f"{100 * result.accuracy:.2f}",
            f"{result.summary['train_seconds']:.0f}",
        ]
        for result in results
    ]
    return header, rows


def differences_table(differences: Sequence[Difference]) -> tuple[list[str], list[list[str]]]:
    header = [
        "arm",
        "minus",
        "points [95 %]",
        "seeds",
        "t test p, Holm's",
        "permutation p, Holm's",
        "so it is",
        "differs in",
    ]
    rows = [
        [
            each.first.label,
            each.second.label,
            points(each.numbers),
            seeds_of(each.numbers),
            f"{p_value(each.numbers['t_test_p'])}, {p_value(each.numbers['t_test_p_holm'])}".strip(", "),
            f"{p_value(each.numbers['permutation_p'])}, {p_value(each.numbers['permutation_p_holm'])}".strip(", "),
            verdict(each),
            ", ".join(each.keys),
        ]
        for each in differences
    ]
    return header, rows


def pairs_table(pairs: Sequence[Pair]) -> tuple[list[str], list[list[str]]]:
    header = ["first", "second", "points [95 %]", "only first correct", "only second correct", "McNemar's p"]
    rows = [
        [
            pair.first.name,
            pair.second.name,
            f"{100 * pair.numbers['difference']:+.2f}{interval(pair.numbers['bootstrap_95'])}",
            f"{pair.numbers['only_first_correct']:,}",
            f"{pair.numbers['only_second_correct']:,}",
            p_value(pair.numbers["mcnemar_p"]),
        ]
        for pair in pairs
    ]
    return header, rows


def _runs(runs: list[dict]) -> str:
    tta = runs[0]["tta"]  # one evaluation averages all its runs over the same views
    header = ["run", "arm", "parameters", "best epoch", "validation", "test accuracy [95 %]"]
    header += [f"--tta {tta}"] if tta != "none" else []
    header += ["loss", "Brier", "ECE", "seconds", "to best epoch", "remarks"]
    rows = [
        [
            run["run"],
            run["arm"],
            f"{run['parameters']:,}",
            f"{run['best_epoch']} of {run['epochs']}",
            f"{run['val_accuracy']:.4f}",
            "{:.4f} [{:.4f}, {:.4f}]".format(run["test_accuracy"], *run["test_accuracy_wilson_95"]),
            *([] if tta == "none" else [f"{run['tta_test_accuracy']:.4f}"]),
            f"{run['test_loss']:.4f}",
            f"{run['brier_score']:.4f}",
            f"{run['expected_calibration_error']:.4f}",
            f"{run['train_seconds']:.0f}",
            f"{run['seconds_to_best_epoch']:.0f}",
            "; ".join(run["remarks"]),
        ]
        for run in runs
    ]
    return markdown_table(header, rows)


def _milestones(runs: list[dict]) -> str:
    def cell(reached: dict | None) -> str:
        return f"{reached['epoch']} ({reached['seconds']:.0f} s)" if reached else "never"

    header = ["run", *(f"{share:.0%}" for share in MILESTONES)]
    return markdown_table(header, [[run["run"], *map(cell, run["milestones"].values())] for run in runs], 1)


def _classes(runs: list[dict]) -> str:
    """A table for each set of class names that occurs: a class a row."""
    parts = []
    for names in dict.fromkeys(tuple(run["class_accuracy"]) for run in runs):
        own = [run for run in runs if tuple(run["class_accuracy"]) == names]
        rows = [[name, *(f"{100 * run['class_accuracy'][name]:.1f}" for run in own)] for name in names]
        parts.append(markdown_table(["class", *(run["run"] for run in own)], rows, 1))
    return "\n\n".join(parts)


# ---- the whole -------------------------------------------------------------------------------------------------------


def markdown(comparison: Comparison, content: dict) -> str:
    """The whole comparison as a page: the answer, then every table, then what each number means."""
    runs = content["runs"]
    parts = [
        "# Comparison",
        *map(plain, answer(comparison)),
        "\n".join(f"- {plain(note)}" for note in notes(comparison)),
    ]
    parts += ["## Arms", markdown_table(*arms(comparison), 1)]
    if comparison.differences:
        parts += ["## Each arm minus the baseline", markdown_table(*differences_table(comparison.differences))]
    parts += ["## Runs", _runs(runs)]
    parts += [f"Epoch (and seconds) at which the validation accuracy first reached so much:\n\n{_milestones(runs)}"]
    if comparison.pairs:
        parts += ["## Pairs of runs, on the same test images", markdown_table(*pairs_table(comparison.pairs), 2)]
    parts += ["## Accuracy of each class, %", _classes(runs)]
    parts += [
        "## What the numbers are",
        "\n".join(f"- `{name}`: {text}" for name, text in content["definitions"].items()),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def print_summary(comparison: Comparison) -> None:
    """The answer, the arms and the runs, on the terminal, in 80 columns."""
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
            narrow = name == "minus baseline" and len(header) > 6  # an interval goes on in a second line
            wrapped = {"max_width": 14} if narrow else {"no_wrap": number > 0}
            table.add_column(name, justify="right" if number else "left", overflow="fold", **wrapped)
        for row in rows:
            table.add_row(*(Text(cell or "") for cell in row))
        console.print(table)
    for note in notes(comparison):
        console.print(note)
