"""Compares the arms of an experiment with a baseline.

All numbers of a comparison are computed here, once, for text, figures and page.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from experiment import config as configuration
from experiment import resuming
from experiment.errors import UserError
from experiment.evaluation import metrics
from experiment.evaluation.groups import Group, groups_of, identity, named
from experiment.evaluation.result import RunResult

_DIFFERENCE = (-1, 1)  # the range of a difference of two accuracies
_TESTS = ("t_test_p", "permutation_p")


@dataclass(frozen=True, eq=False)
class Difference:
    """The accuracy of one group minus that of another. `numbers` are from `metrics.compare_groups` and `holm`."""

    first: Group
    second: Group
    numbers: dict

    @property
    def keys(self) -> list[str]:
        """The keys of the configuration in which the groups differ, and the network's file if it was changed."""
        keys = list(configuration.arm_differences(self.first.config, self.second.config))
        runs = [(run.name, run.summary) for group in (self.first, self.second) for run in group.runs]
        if not any(key.startswith("model.") for key in keys) and resuming.changed_network(runs):
            keys.append(f"models/{self.first.config.model.name}.py")
        return keys

    @property
    def decided(self) -> bool | None:
        """Whether the difference is significant at 5 %, with the correction; None if there are too few runs."""
        ways = ("t_test_p_bonferroni", "t_test_p_holm", "t_test_p")
        p = next(self.numbers[way] for way in ways if way in self.numbers)
        return None if p is None else p < 1 - metrics.CONFIDENCE


@dataclass(frozen=True, eq=False)
class Pair:
    """Two runs on the same test images. `numbers` are from `metrics.compare_predictions`."""

    first: RunResult
    second: RunResult
    numbers: dict


@dataclass(frozen=True, eq=False)
class Optimism:
    """The optimistic bias of a group that selected its weights on the test set."""

    group: Group
    gain: dict  # over the last epoch of the same runs
    held_out: Difference | None  # from the group with the same configuration that selected on held-out images


@dataclass(frozen=True, eq=False)
class Comparison:
    """The result of `compare`."""

    results: tuple[RunResult, ...]
    groups: tuple[Group, ...]  # the baseline, then the groups that are compared with it, then the others
    differences: tuple[Difference, ...]  # each comparable group minus the baseline
    best_minus_others: tuple[Difference, ...]  # the most accurate group minus each other one, the second best first
    pairs: tuple[Pair, ...]
    optimism: tuple[Optimism, ...]
    left_out: tuple[str, ...] = ()  # why runs could not be evaluated

    def __repr__(self) -> str:
        arms = (f"{group.label} {group.mean:.2%} (seeds: {len(group.runs)})" for group in self.groups)
        return f"<Comparison: {', '.join(arms)}>"

    @property
    def baseline(self) -> Group:
        return self.groups[0]

    @property
    def compared(self) -> list[Group]:
        """The groups with the data and the protocol of the baseline, including it."""
        return [group for group in self.groups if group.comparable(self.baseline)]

    @property
    def on_other_images(self) -> list[Group]:
        """The groups with another data set than the baseline, which are not compared with it."""
        return [group for group in self.groups if group.first.data != self.baseline.first.data]

    @property
    def best(self) -> Group:
        return max(self.compared, key=lambda group: group.mean)

    @property
    def rivals(self) -> tuple[Group, Group] | None:
        """The baseline and the most accurate of the others."""
        others = self.compared[1:]
        return (self.baseline, max(others, key=lambda group: group.mean)) if others else None

    @property
    def repeated(self) -> list[RunResult]:
        """The runs that do not count, since their group has another run of the seed."""
        counted = {id(run) for group in self.groups for run in group.runs}
        return [result for result in self.results if id(result) not in counted]

    def group_of(self, result: RunResult) -> Group:
        return next(group for group in self.groups if identity(group.first) == identity(result))

    def as_dict(self) -> dict:
        """All numbers, for JSON."""
        return {
            "baseline": self.baseline.label,
            "best": self.best.label,
            "groups": {group.label: _group_as_dict(group) for group in self.groups},
            "group_differences": [_difference_as_dict(each) for each in self.differences],
            "best_minus_others": [_difference_as_dict(each) for each in self.best_minus_others],
            "pairs": [{"first": each.first.name, "second": each.second.name, **each.numbers} for each in self.pairs],
            "optimism": [_optimism_as_dict(each) for each in self.optimism],
            "repeated": [result.name for result in self.repeated],
            "left_out": self.left_out,
        }


def compare(results: Sequence[RunResult], baseline: str | None = None, left_out: Sequence[str] = ()) -> Comparison:
    """Groups runs into arms, and compares each arm with the baseline.

    Args:
        results: the evaluated runs.
        baseline: the label of an arm, its directory, or its configuration's file (default: the arm of the first run).
        left_out: why other runs could not be evaluated, for the reader of the comparison.

    Raises:
        UserError: there is no run, a network was changed between the runs of an arm, or the baseline is no arm, or
            several.
    """
    if not results:
        raise UserError("there is no run to compare")
    groups = groups_of(results)
    chosen = named(groups, baseline) if baseline else groups[0]
    groups.sort(key=lambda group: (group is not chosen, not group.comparable(chosen)))
    compared = [group for group in groups if group.comparable(chosen)]
    differences = _family([_difference(group, chosen) for group in compared[1:]])
    ranked = sorted(compared, key=lambda group: -group.mean)
    # The best was chosen from the same runs, so its differences are corrected for all pairs of arms.
    pairs = max(1, math.comb(len(ranked), 2))
    places = {identity(group.first): place for place, group in enumerate(groups)}
    return Comparison(
        results=tuple(sorted(results, key=lambda result: places[identity(result)])),
        groups=tuple(groups),
        differences=tuple(differences),
        best_minus_others=tuple(_difference(ranked[0], other, pairs) for other in ranked[1:]),
        pairs=tuple(_pairs(differences, results)),
        optimism=tuple(_optimism(groups)),
        left_out=tuple(left_out),
    )


# ---- differences, pairs, optimism ------------------------------------------------------------------------------------


def _difference(first: Group, second: Group, comparisons: int | None = None) -> Difference:
    """The difference of two groups, with Bonferroni's correction of interval and p-values for so many `comparisons`."""
    numbers = metrics.compare_groups(first.accuracies, second.accuracies, _DIFFERENCE, comparisons or 1)
    for test in _TESTS if comparisons else ():
        numbers[f"{test}_bonferroni"] = None if numbers[test] is None else min(1.0, comparisons * numbers[test])
    return Difference(first, second, numbers)


def _family(differences: Sequence[Difference]) -> list[Difference]:
    """Adds the p-values corrected for all these comparisons."""
    corrected = {test: metrics.holm([each.numbers[test] for each in differences]) for test in _TESTS}
    return [
        replace(each, numbers=each.numbers | {f"{test}_holm": corrected[test][place] for test in _TESTS})
        for place, each in enumerate(differences)
    ]


def _pairs(differences: Sequence[Difference], results: Sequence[RunResult]) -> list[Pair]:
    """The pairs of runs with the same seed in compared groups; if there are only two runs, that pair in any case."""
    found = []
    for difference in differences:
        by_seed = {run.config.seed: run for run in difference.second.runs}
        found += [(run, by_seed[run.config.seed]) for run in difference.first.runs if run.config.seed in by_seed]
    if not found and len(results) == 2:
        found = [tuple(results)]
    return [
        Pair(first, second, metrics.compare_predictions(first.correct, second.correct))
        for first, second in found
        if first.data == second.data and np.array_equal(first.labels, second.labels)
    ]


def _optimism(groups: Sequence[Group]) -> list[Optimism]:
    found = []
    for group in groups:
        if not group.config.data.optimistic:
            continue
        held_out = next((other for other in groups if _held_out_twin(other, group)), None)
        courses = [[row["val_accuracy"] for row in run.history] for run in group.runs]
        gains = [max(course) - course[-1] for course in courses]
        gain = {"mean": float(np.mean(gains)), "interval_95": metrics.mean_interval(gains, (0, 1))}
        found.append(Optimism(group, gain, held_out and _difference(group, held_out)))
    return found


def _held_out_twin(other: Group, group: Group) -> bool:
    """Whether another group, on the same images, differs from a group in the protocol alone."""
    keys = configuration.arm_differences(other.config, group.config)
    return other.first.data == group.first.data and list(keys) == ["data.protocol"]


# ---- as JSON ---------------------------------------------------------------------------------------------------------


def _group_as_dict(group: Group) -> dict:
    return {
        "directory": group.first.directory,
        "protocol": group.config.data.protocol,
        "data": group.first.data_name,
        "runs": len(group.runs),
        "seeds": sorted(group.accuracies),
        **metrics.mean_and_sd(list(group.accuracies.values())),
        "interval_95": group.interval_95,
        "tta": group.tta,
        "reported": group.reported and group.reported.model_dump(),
    }


def _difference_as_dict(each: Difference) -> dict:
    return {"first": each.first.label, "second": each.second.label, "differ_in": each.keys, **each.numbers}


def _optimism_as_dict(each: Optimism) -> dict:
    content = {"group": each.group.label, "runs": len(each.group.runs), "gain_over_last_epoch": each.gain}
    if gain := each.held_out:
        images = [group.first.summary["data"].get("training_images") for group in (gain.first, gain.second)]
        content["gain_over_held_out"] = {"second": gain.second.label, "training_images": images, **gain.numbers}
    return content
