"""The numbers of a comparison as sentences and tables. Reads what `write.write` writes, computes nothing new."""

from experiment.evaluation.result import MILESTONES
from experiment.reporting import figures
from experiment.reporting.markdown import table as markdown_table

REPORT = {"none": 0.8193, "after_activation": 0.8238}  # the student report's, one run each, chosen on the test set


def table(content: dict) -> str:
    """What the terminal shows: the runs, and the comparison in sentences."""
    pairs = content["comparison"]["pairs"]
    parts = [_runs(content["runs"]), *([_pairs(pairs)] if pairs else []), "\n".join(sentences(content["comparison"]))]
    return "\n\n".join(parts)


def markdown(content: dict) -> str:
    """The whole comparison as a page: the answer, then every table, then what each number means."""
    comparison = content["comparison"]
    parts = ["# Comparison", "\n\n".join(sentences(comparison)), "## Runs", _runs(content["runs"])]
    parts += [
        f"Epoch (and seconds) at which the validation accuracy first reached a mark:\n\n{_milestones(content['runs'])}"
    ]
    if comparison["pairs"]:
        parts += ["## Pairs of runs, on the same test images", _pairs(comparison["pairs"])]
    parts += ["## Accuracy of each class, %", _classes(content["runs"])]
    parts += [
        "## What the numbers are",
        "\n".join(f"- `{name}`: {text}" for name, text in content["definitions"].items()),
    ]
    return "\n\n".join(parts) + "\n"


def sentences(comparison: dict) -> list[str]:
    """The answer in words: each group, each difference with what it supports and what not, the optimism."""
    lines = []
    for label, group in comparison["groups"].items():
        spread = f" ± {100 * group['sd']:.2f} (standard deviation)" if group["sd"] is not None else ""
        runs = "1 run" if group["runs"] == 1 else f"{group['runs']} runs"
        reported = REPORT.get(group["network"]) if group["data"] == "cifar10" else None
        report = f"; the report's: {100 * reported:.2f}" if reported else ""
        if group["tta"] is not None:
            report = f"; averaged over views ({group['tta']['views']}): {100 * group['tta']['mean']:.2f} %{report}"
        lines.append(f"{label}: {100 * group['mean']:.2f} %{spread}, {runs}{report}")
    for difference in comparison["group_differences"]:
        lines += verdict(difference)
    for entry in comparison["optimism"]:
        lines += _optimism(entry)
    return lines


def verdict(difference: dict) -> list[str]:
    """What the numbers support, and what they do not."""
    keys = [key for key in difference["differ_in"] if key != "seed"]
    remark = [] if all(key.startswith("model.norm") for key in keys) else [f"They differ in {', '.join(keys)}."]
    return [*_verdict(difference), *remark]


def _verdict(difference: dict) -> list[str]:
    first, second = difference["first"], difference["second"]
    points = 100 * difference["difference"]
    if difference["interval_95"] is None:
        return [
            f"{first} minus {second}: {points:+.2f} percentage points, on {_seeds(difference)}.",
            "One seed of a network cannot tell how much of that is the network and how much is chance."
            if min(difference["runs"]) == 1
            else "Every seed gave just this difference, so there is no spread to judge it by.",
        ]
    low, high = (100 * bound for bound in difference["interval_95"])
    evidence = f"{points:+.2f} percentage points, 95 % interval [{low:+.2f}, {high:+.2f}], {_seeds(difference)}"
    p = difference["permutation_p"]
    permutation = f"A permutation test gives p = {p:.3g}"
    if difference["smallest_possible_p"] > 0.05:
        permutation += f", and with so few seeds could not give less than {difference['smallest_possible_p']:.3g}"
    if low <= 0 <= high:
        return [
            f"These runs do not tell {first} and {second} apart: {evidence}.",
            "That is no evidence that they are equal: "
            f"a difference of {max(-low, high):.2f} points would fit them, too. {permutation}.",
        ]
    ahead, chance = (first, difference["chance_of_being_ahead"])
    if points < 0:
        ahead, chance = second, 1 - chance
    pairs = difference["runs"][0] * difference["runs"][1]
    return [
        f"{ahead} is ahead. {first} minus {second}: {evidence}; "
        f"{ahead} is ahead in {100 * chance:.0f} % of the {pairs} pairs of runs.",
        f"This does not say why, nor that it holds for other learning rates, lengths or images. {permutation}.",
    ]


def _seeds(difference: dict) -> str:
    one, other = difference["runs"]
    if difference["paired"]:
        return "1 seed each" if one == 1 else f"{one} seeds each, in pairs"
    return f"{one} and {other} seeds, not in pairs"


def _optimism(entry: dict) -> list[str]:
    gain = entry["gain_over_last_epoch"]
    lines = [
        f"{entry['group']}: choosing the epoch on the test set gains {100 * gain['mean']:.2f} points over the last "
        f"epoch{_interval(gain['interval_95'])}, {entry['runs']} runs"
    ]
    if "gain_over_held_out" in entry:
        total = entry["gain_over_held_out"]
        images = total["training_images"]
        lines.append(
            f"{entry['group']}: {100 * total['difference']:+.2f} points against {total['second']}"
            f"{_interval(total['interval_95'])} (trained on {images[0]:,} and {images[1]:,} images)"
        )
    return lines


def _interval(interval) -> str:
    return "" if interval is None else " [{:+.2f}, {:+.2f}]".format(*(100 * bound for bound in interval))


def _runs(runs: list[dict]) -> str:
    header = ["run", "network", "parameters", "best epoch", "validation", "test accuracy [95 %]"]
    tta = runs[0]["tta"]  # one evaluation averages all its runs over the same views
    header += [] if tta == "none" else [f"--tta {tta}"]
    header += ["loss", "Brier", "ECE", "seconds", "to best epoch", ""]
    rows = [
        [
            run["run"],
            figures.NETWORK_NAMES[run["network"]],
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
            "; ".join(run["marks"]),
        ]
        for run in runs
    ]
    return markdown_table(header, rows)


def _milestones(runs: list[dict]) -> str:
    def cell(reached: dict | None) -> str:
        return f"{reached['epoch']} ({reached['seconds']:.0f} s)" if reached else "never"

    header = ["run", *(f"{share:.0%}" for share in MILESTONES)]
    return markdown_table(header, [[run["run"], *map(cell, run["milestones"].values())] for run in runs], 1)


def _pairs(pairs: list[dict]) -> str:
    header = ["first", "second", "difference [95 %], points", "only first right", "only second right", "McNemar's p"]
    rows = [
        [
            pair["first"],
            pair["second"],
            f"{100 * pair['difference']:+.2f}{_interval(pair['bootstrap_95'])}",
            f"{pair['only_first_right']:,}",
            f"{pair['only_second_right']:,}",
            f"{pair['mcnemar_p']:.2g}",
        ]
        for pair in pairs
    ]
    return markdown_table(header, rows, 2)


def _classes(runs: list[dict]) -> str:
    """One table for each set of class names that occurs."""
    parts = []
    for names in dict.fromkeys(tuple(run["class_accuracy"]) for run in runs):
        rows = [
            [run["run"], *(f"{100 * value:.1f}" for value in run["class_accuracy"].values())]
            for run in runs
            if tuple(run["class_accuracy"]) == names
        ]
        parts.append(markdown_table(["run", *names], rows, 1))
    return "\n\n".join(parts)
