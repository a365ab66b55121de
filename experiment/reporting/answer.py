"""The answer of a comparison in sentences, and the formats of its numbers. Computes nothing."""

import math
from collections.abc import Callable, Iterable, Sequence

from experiment.evaluation.comparison import Comparison, Difference, Optimism
from experiment.evaluation.groups import Group
from experiment.evaluation.metrics import FEWEST_FOR_AN_INTERVAL
from experiment.evaluation.result import RunResult

_NUMBERS = {1: "one", 2: "two"}
MANY_IMAGES = 1_000  # their Wilson interval is at most 6.2 points wide


def answer(comparison: Comparison) -> list[str]:
    """The best arm, its lead and the evidence for it; then all arms against the baseline."""
    if not comparison.differences:
        only = comparison.baseline
        said = f"{only.quoted}: {_accuracy(only)}. There is no other arm to compare it with."
        return [said, *_few_images(only), *_not_compared(comparison)]
    lines = [headline(comparison) + "."]
    if len(comparison.differences) == 1:
        lines.append(_tests(comparison.differences[0]))
        lines.append(f"They differ in {', '.join(comparison.differences[0].keys)}.")
    else:
        lines.append(_against_the_baseline(comparison))
        lines.append("The best arm was chosen by these test images, so its own mean is too high an estimate.")
    if comparison.best.shared:
        lines.append(f"All arms: {comparison.best.shared}.")
    lines += [*_few_images(comparison.best), *_not_compared(comparison)]
    lines.append("This does not say why, nor that it holds for other learning rates, numbers of epochs or images.")
    return lines


def _few_images(group: Group) -> list[str]:
    """How far the accuracy on a small test set may be from that on other images."""
    images = len(group.first.labels)
    if images >= MANY_IMAGES:
        return []
    low, high = (100 * bound for bound in group.over_images_95)
    likely = f"{low:.0f} to {high:.0f} % instead of {100 * group.mean:.0f} % (95 % interval)"
    return [f"The test set has only {images} images; on others of the same kind the accuracy may be {likely}."]


def _not_compared(comparison: Comparison) -> list[str]:
    """A sentence on the arms on other images, and one on those that chose their weights in another way."""
    images = comparison.on_other_images
    protocol = [group for group in comparison.groups if group not in (*images, *comparison.compared)]
    return [
        f"{why}, and not compared: {_listed(groups)}."
        + (" To compare these with one another, give evaluate.py their directories alone." if len(groups) > 1 else "")
        for why, groups in (("On other images", images), ("Weights chosen by another protocol", protocol))
        if groups
    ]


def headline(comparison: Comparison) -> str:
    """The answer in one sentence, without the full stop."""
    best, others = comparison.best, comparison.best_minus_others
    if not others:
        return f"{best.quoted}: {100 * best.mean:.2f} % test accuracy"
    mean, of = f"{100 * best.mean:.2f} % test accuracy", "" if len(others) == 1 else f" of {len(others) + 1} arms"
    evidence = _evidence(others[0], len(others) + 1)
    lead, second = 100 * others[0].numbers["difference"], others[0].second.quoted
    if not lead and len(others) == 1:
        return f"{best.quoted} and {second} have the same mean: {mean} ({evidence})"
    nearest = f"{lead:.2f} points ahead of {second}" if lead else f"the same as {second}"
    if all(each.decided for each in others):
        return f"{best.quoted} is the best{of}: {mean}, {nearest} ({evidence})"
    told = f"{best.quoted} has the highest mean{of}: {mean}, {nearest}"
    if len(others) == 1:
        return f"{told}, {_why_undecided(others[0])[0]} ({evidence})"
    reasons: dict[str, list[Group]] = {}
    for each in others:
        if not each.decided:
            reasons.setdefault(_why_undecided(each)[1], []).append(each.second)
    undecided = [
        f"{why} {_listed(arms[:3])}" + (f" and {len(arms) - 3} more" if len(arms) > 3 else "")
        for why, arms in reasons.items()
    ]
    return f"{told} ({evidence}); {'; '.join(undecided)}"


def _why_undecided(difference: Difference) -> tuple[str, str]:
    """Why a difference is not decided: as a clause, and as the beginning of a list of arms."""
    if difference.decided is not None:
        return "which is not significant", "corrected for all pairs, no significant difference from"
    if min(difference.numbers["runs"]) < FEWEST_FOR_AN_INTERVAL:
        return "with too few runs for a test", "too few runs to test the difference from"
    return "the same for every seed, which has no test", "the same difference for every seed, which has no test, from"


def _evidence(difference: Difference, arms: int) -> str:
    interval = difference.numbers["interval_95"]
    seeds = seeds_of(difference.numbers)
    if interval is None:
        return f"{seeds}, no interval"
    corrected = ", corrected for all pairs of arms" if arms > 2 else ""
    return "95 % interval {:+.2f} to {:+.2f}".format(*(100 * bound for bound in interval)) + f"{corrected}; {seeds}"


def seeds_of(numbers: dict) -> str:
    one, other = numbers["runs"]
    if numbers["paired"]:
        return "1 seed each" if one == 1 else f"{one} seeds each, in pairs"
    return f"{one} and {other} seeds, not in pairs"


def _tests(difference: Difference) -> str:
    """The tests of a single difference, and what they do not show."""
    numbers = difference.numbers
    if min(numbers["runs"]) == 1:
        missing = [(group.quoted, 3 - len(group.runs)) for group in (difference.second, difference.first)]
        few = [f"{_NUMBERS[count]} more of {name}" for name, count in missing if count > 0]
        more = "two more of each" if [count for _, count in missing] == [2, 2] else " and ".join(few)
        return (
            f"One seed of an arm does not show how much of a difference is chance: train {more} "
            "(train.py --seed 1, --seed 2) for an interval."
        )
    permutation = f"p = {numbers['permutation_p']:.2g}"
    if numbers["smallest_possible_p"] > 0.05:
        permutation += f" (so few seeds cannot give less than {numbers['smallest_possible_p']:.2g})"
    if numbers["t_test_p"] is None:
        few = min(numbers["runs"]) < FEWEST_FOR_AN_INTERVAL
        why = "it needs three seeds of each arm" if few else "the difference is the same for every seed"
        return f"There is no interval: {why}. A permutation test gives {permutation}."
    tests = f"A t test gives p = {numbers['t_test_p']:.2g}, a permutation test {permutation}."
    if difference.decided:
        sides, share = (difference.first, difference.second), numbers["chance_of_being_ahead"]
        ahead, behind = sides if numbers["difference"] > 0 else reversed(sides)
        share = share if ahead is difference.first else 1 - share
        if share == 1:
            each = f"Each of the {len(ahead.runs)} runs of {ahead.quoted}"
            return f"{tests} {each} is ahead of each of the {len(behind.runs)} of {behind.quoted}."
        often = f"{math.floor(round(1000 * share, 6)) / 10:g} % of the {math.prod(numbers['runs'])} ways to choose them"
        return f"{tests} A run of {ahead.quoted} is ahead of one of {behind.quoted} in {often}; ties count half."
    farthest = 100 * max(map(abs, numbers["interval_95"]))
    fits = f"differences of up to {farthest:.2f} points are compatible with these runs"
    return f"{tests} That is no evidence that they are equal: {fits}."


def _against_the_baseline(comparison: Comparison) -> str:
    kinds: dict[str, list[Group]] = {"ahead": [], "behind": [], "no significant difference": [], "not tested": []}
    for each in comparison.differences:
        kinds[outcome(each)].append(each.first)
    # Not tested: fewer than three seeds, or no spread.
    found = "; ".join(f"{kind}: {_listed(groups)}" for kind, groups in kinds.items() if groups)
    tests = sum(each.decided is not None for each in comparison.differences)
    how = f" (t tests at 5 %, with Holm's correction for {tests} comparisons)" if tests > 1 else ""
    return f"Against the baseline, {comparison.baseline.quoted}: {found}{how}."


def outcome(difference: Difference) -> str:
    """The result of the test of a difference from the baseline."""
    if difference.decided is None:
        return "not tested"
    if not difference.decided:
        return "no significant difference"
    return "ahead" if difference.numbers["difference"] > 0 else "behind"


def _listed(groups: Sequence[Group]) -> str:
    return ", ".join(group.quoted for group in groups)


def _accuracy(group: Group) -> str:
    """The mean test accuracy of a group, with its interval or range."""
    values, mean = list(group.accuracies.values()), f"{100 * group.mean:.2f} %"
    if len(values) == 1:
        return f"{mean}, 1 seed"
    spread = f"95 % interval {_range(group.interval_95)}" if group.interval_95 else f"from {_range(sorted(values))}"
    return f"{mean} ({spread}, {len(values)} seeds)"


def interval_of(group: Group) -> str:
    """The 95 % interval of the mean, in per cent; empty if there is none."""
    return _range(group.interval_95) if group.interval_95 else ""


def _range(shares: Sequence[float]) -> str:
    return f"{100 * shares[0]:.2f} to {100 * shares[-1]:.2f}"


def notes_in_files(comparison: Comparison) -> list[str]:
    """Why runs were left out, which evaluate.py prints as errors, and the notes."""
    return [*(f"left out: {reason}" for reason in comparison.left_out), *notes(comparison)]


def notes(comparison: Comparison) -> list[str]:
    """Remarks on the arms: reported accuracies, repeated runs, the gain from choosing on the test set, precisions."""
    mixed = len({run.summary["precision"] for run in comparison.results}) > 1
    lines = []
    for group in comparison.groups:
        remarks = _remarks(group)
        for entry in comparison.optimism:
            remarks += _optimism(entry) if entry.group is group else []
        if reported := group.reported:
            remarks.append(f"reported by {reported.source}: {100 * reported.test_accuracy:.2f} %")
        if repeated := [run.name for run in comparison.repeated if comparison.group_of(run) is group]:
            remarks.append(f"not counted, since another run has the same seed: {', '.join(repeated)}")
        remarks += [_precisions(group)] if mixed else []
        lines += [f"{group.label}: {'; '.join(remarks)}."] if remarks else []
    return lines


def _remarks(group: Group) -> list[str]:
    return _by_seeds(group, lambda run: run.remarks)


def _precisions(group: Group) -> str:
    return f"computed in {' and '.join(_by_seeds(group, lambda run: [str(run.summary['precision'])]))}"


def _by_seeds(group: Group, said: Callable[[RunResult], Iterable[str]]) -> list[str]:
    """What is said of the runs, with the seeds of those of which it is, unless it is of all."""
    seeds: dict[str, list[str]] = {}
    for run in group.runs:
        for each in said(run):
            seeds.setdefault(each, []).append(str(run.config.seed))
    return [
        each if len(own) == len(group.runs) else f"{each} (seed{'s' * (len(own) > 1)} {', '.join(own)})"
        for each, own in seeds.items()
    ]


def _optimism(entry: Optimism) -> list[str]:
    gain, total = entry.gain, entry.held_out
    lines = [f"choosing so gains {100 * gain['mean']:.2f} points{interval(gain['interval_95'])} over the last epoch"]
    if total:
        images = [group.first.summary["data"].get("training_images") for group in (total.first, total.second)]
        trained = f" (trained on {images[0]:,} and {images[1]:,} images)" if all(images) else ""
        lines.append(f"{points(total.numbers)} points against {total.second.label}{trained}")
    return lines


# ---- numbers ----


def interval(interval) -> str:
    return "" if interval is None else " [{:+.2f}, {:+.2f}]".format(*(100 * bound for bound in interval))


def points(numbers: dict, key: str = "interval_95") -> str:
    return f"{100 * numbers['difference']:+.2f}{interval(numbers[key])}"


def p_value(p: float | None) -> str:
    return "" if p is None else f"{p:.2g}"
