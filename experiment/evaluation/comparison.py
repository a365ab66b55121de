"""What finished runs say of each other: groups of seeds, pairs of runs, and what choosing on the test set is worth.

`compare` gives every number; `wording` says them; `write` keeps them, with the figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiment import config as configuration
from experiment.evaluation import metrics
from experiment.evaluation.result import RunResult
from experiment.reporting import figures


@dataclass(frozen=True)
class Group:
    """Runs that differ by their seed alone."""

    label: str
    colour: str
    runs: tuple[RunResult, ...]

    @property
    def network(self) -> str:
        return self.runs[0].network

    @property
    def protocol(self) -> str:
        return self.runs[0].config.data.protocol

    @property
    def accuracies(self) -> dict[int, float]:
        """Test accuracy by seed."""
        return {run.config.seed: run.accuracy for run in self.runs}

    @property
    def tta(self) -> dict | None:
        """The accuracy with test-time augmentation, and over which views."""
        first = self.runs[0].tta
        if first == "none":
            return None
        return {"views": first, **metrics.mean_and_sd([run.tta_accuracy for run in self.runs])}

    @property
    def confusion_matrix(self) -> np.ndarray:
        return np.sum([run.confusion_matrix() for run in self.runs], axis=0)

    @property
    def mean_probabilities(self) -> np.ndarray:
        return np.mean([metrics.probabilities(run.logits) for run in self.runs], axis=0)

    def but_for(self, key: str) -> tuple:
        """What must be equal for two groups to be compared: the data, and the configuration but for one key."""
        return experiment_of(self.runs[0], key)


def experiment_of(run: RunResult, *left_out: str) -> tuple:
    """What an experiment is: the data and every key of the configuration, but for the seed and some more."""
    keys = dict(configuration.flatten(run.config.model_dump()))
    kept = (item for item in keys.items() if item[0] != "seed" and not item[0].startswith(left_out))
    return run.data_name, *kept


def groups(evaluations: Sequence[RunResult]) -> list[Group]:
    """Runs that differ by their seed alone, labelled by the network, and by the directory where that does not tell.

    A seed counts once: of two runs of the same, the first.
    """
    by_experiment: dict[tuple, dict[int, RunResult]] = {}
    for evaluation in evaluations:
        by_experiment.setdefault(experiment_of(evaluation), {}).setdefault(evaluation.config.seed, evaluation)
    together = [tuple(by_seed.values()) for by_seed in by_experiment.values()]
    labels = [_label(runs[0]) for runs in together]
    places = [runs[0].name.removesuffix(f"/seed{runs[0].config.seed}") for runs in together]
    if len(set(places)) < len(places):
        places = [runs[0].name for runs in together]
    colours = figures.colours_of([runs[0].network for runs in together])
    return [
        Group(label if labels.count(label) == 1 else f"{label} ({place})", colour, runs)
        for label, place, colour, runs in zip(labels, places, colours, together, strict=True)
    ]


def _label(run: RunResult) -> str:
    made_up = "" if run.data_name == "cifar10" else ", generated images"
    chosen = ", chosen on the test set" if run.config.data.protocol == "test_as_validation" else ""
    return figures.NETWORK_NAMES[run.network] + made_up + chosen


def comparable(every_group: Sequence[Group]) -> list[Group]:
    """The groups that belong on common axes: one data set, one protocol; real images before generated ones."""

    def kind(group: Group) -> tuple:
        return (group.runs[0].data_name, group.protocol)

    order = [("cifar10", "held_out"), ("cifar10", "test_as_validation")]
    present = {kind(group) for group in every_group}
    chosen = next((candidate for candidate in order if candidate in present), None) or min(present)
    return [group for group in every_group if kind(group) == chosen]


# ---- numbers ---------------------------------------------------------------------------------------------------------


def compare(evaluations: Sequence[RunResult]) -> dict:
    """Every number of the comparison, ready for JSON.

    Groups are compared where one is normalised, the other plain, and all else is equal; where there are just two
    groups, or just two runs, those are compared, whatever they are.
    """
    every_group = groups(evaluations)
    together = comparable(every_group)
    compared = _compared_groups(together)
    pairs = [pair for first, second in compared for pair in _pairs_of_runs(first, second)]
    if not pairs and len(evaluations) == 2:
        pairs = [tuple(evaluations)]
    return {
        "groups": {
            group.label: {
                "network": group.network,
                "protocol": group.protocol,
                "data": group.runs[0].data_name,
                "runs": len(group.runs),
                "seeds": sorted(group.accuracies),
                **metrics.mean_and_sd([run.accuracy for run in group.runs]),
                "tta": group.tta,
            }
            for group in every_group
        },
        "group_differences": [
            {
                "first": a.label,
                "second": b.label,
                "differ_in": list(configuration.differences(a.runs[0].config, b.runs[0].config)),
                **metrics.compare_groups(a.accuracies, b.accuracies),
            }
            for a, b in compared
        ],
        "pairs": [
            {"first": a.name, "second": b.name, **metrics.compare_answers(a.right, b.right)}
            for a, b in pairs
            if np.array_equal(a.labels, b.labels)
        ],
        "optimism": _optimism(every_group),
    }


def _compared_groups(together: Sequence[Group]) -> list[tuple[Group, Group]]:
    found = [
        (group, plain)
        for plain in together
        for group in together
        if plain.network == "none" != group.network and group.but_for("model.norm") == plain.but_for("model.norm")
    ]
    return found or ([(together[1], together[0])] if len(together) == 2 else [])


def _pairs_of_runs(first: Group, second: Group) -> list[tuple[RunResult, RunResult]]:
    by_seed = {run.config.seed: run for run in second.runs}
    return [(run, by_seed[run.config.seed]) for run in first.runs if run.config.seed in by_seed]


def _optimism(every_group: Sequence[Group]) -> list[dict]:
    """For each group that was chosen on the test set, how much that flatters it."""
    content = []
    for group in every_group:
        if group.protocol != "test_as_validation":
            continue
        alike = (
            other
            for other in every_group
            if other.protocol == "held_out" and other.but_for("data.protocol") == group.but_for("data.protocol")
        )
        held_out = next(alike, None)
        gains = [run.summary["val_accuracy"] - run.history[-1]["val_accuracy"] for run in group.runs]
        entry = {
            "group": group.label,
            "network": group.network,
            "runs": len(gains),
            "gain_over_last_epoch": {"mean": float(np.mean(gains)), "interval_95": metrics.mean_interval(gains)},
        }
        if held_out:
            entry["gain_over_held_out"] = {
                "second": held_out.label,
                "training_images": [g.runs[0].summary["data"].get("training_images") for g in (group, held_out)],
                **metrics.compare_groups(group.accuracies, held_out.accuracies),
            }
        content.append(entry)
    return content
