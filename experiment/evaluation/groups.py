"""Groups runs into the arms of an experiment, and labels them."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from experiment import config as configuration
from experiment import plain_yaml, resuming
from experiment.config import Config
from experiment.errors import UserError
from experiment.evaluation import metrics
from experiment.evaluation.metrics import Calibration
from experiment.evaluation.result import RunResult
from experiment.printable import printable_name
from experiment.sections import Reported


@dataclass(frozen=True, eq=False)
class Group:
    """An arm of the experiment: runs that differ only by their seed."""

    label: str
    runs: tuple[RunResult, ...]
    shared: str = ""  # what all arms' titles end with, and their labels do not repeat

    @property
    def quoted(self) -> str:
        """The label in a sentence: in quotation marks if it has commas."""
        return f'"{self.label}"' if ", " in self.label else self.label

    @property
    def first(self) -> RunResult:
        return self.runs[0]

    @property
    def config(self) -> Config:
        return self.first.config

    @cached_property
    def accuracies(self) -> dict[int, float]:
        """Test accuracy by seed."""
        return {run.config.seed: run.accuracy for run in self.runs}

    @property
    def mean(self) -> float:
        return math.fsum(self.accuracies.values()) / len(self.accuracies)  # the same in any order

    @property
    def interval_95(self) -> tuple[float, float] | None:
        """Student's interval of the mean accuracy over new seeds; None if there are too few runs."""
        return metrics.mean_interval(list(self.accuracies.values()), (0, 1))

    @property
    def over_images_95(self) -> tuple[float, float]:
        """Wilson's interval of the mean accuracy over other test images, with these networks."""
        count = len(self.first.labels)
        return metrics.accuracy_interval(round(self.mean * count), count)

    @property
    def tta(self) -> dict | None:
        """The mean and standard deviation of the accuracy with test-time augmentation, and its kind."""
        if self.first.tta == "none":
            return None
        return {"views": self.first.tta, **metrics.mean_and_sd([run.tta_accuracy for run in self.runs])}

    @property
    def reported(self) -> Reported | None:
        """The accuracy that was reported for this arm elsewhere; None for synthetic images."""
        return None if self.first.synthetic else next((r.config.reported for r in self.runs if r.config.reported), None)

    @cached_property
    def confusion_matrix(self) -> np.ndarray:
        """Counts [true class, predicted class], over all runs."""
        return np.sum([run.confusion_matrix() for run in self.runs], axis=0)

    @property
    def class_accuracy(self) -> np.ndarray:
        """In 0..1, [c]; 0 for a class without test images."""
        return metrics.class_shares(self.confusion_matrix).diagonal()

    @cached_property
    def mean_probabilities(self) -> np.ndarray:
        """The mean over the runs, [n, c]."""
        return np.mean([metrics.probabilities(run.logits) for run in self.runs], axis=0)

    @cached_property
    def pooled_calibration(self) -> Calibration:
        """That of all runs' predictions together."""
        logits, labels = map(np.concatenate, zip(*((run.logits, run.labels) for run in self.runs), strict=True))
        return metrics.calibration(logits, labels)

    @cached_property
    def calibrations(self) -> list[Calibration]:
        return [metrics.calibration(run.logits, run.labels) for run in self.runs]

    def comparable(self, other: "Group") -> bool:
        """Whether both have the same test images, and selected their weights by the same protocol."""
        return (self.first.data, self.config.data.protocol) == (other.first.data, other.config.data.protocol)


def identity(result: RunResult) -> str:
    """A key for the runs of one group: the data, and the configuration without the seed."""
    keys = configuration.experiment_of(result.config)
    return repr((result.data, {key: value for key, value in keys.items() if key != "seed"}))


def groups_of(results: Sequence[RunResult]) -> list[Group]:
    """The groups in order of their first runs. If a group has several runs of a seed, only the first counts.

    Raises:
        UserError: a network, or the teachers of a distillation, were changed between the runs of a group.
    """
    by_experiment: dict[str, dict[int, RunResult]] = {}
    for result in results:
        by_experiment.setdefault(identity(result), {}).setdefault(result.config.seed, result)
    members = [tuple(by_seed.values()) for by_seed in by_experiment.values()]
    for runs in members:
        named = [(run.name, run.summary) for run in runs]
        resuming.refuse_changed_networks(named, runs[0].config.model.name)
        resuming.refuse_changed_teachers(named)
    labels, shared = _labels(members)
    return [Group(printable_name(label), runs, shared) for label, runs in zip(labels, members, strict=True)]


def _labels(members: list[tuple[RunResult, ...]]) -> tuple[list[str], str]:
    """The titles, or else the directories' names, and the end that all had in common and that was cut off.

    Equal names are followed by the data set, the directory or the first run in brackets.
    """
    firsts = [runs[0] for runs in members]
    titles = [next((run.config.title for run in runs if run.config.title), None) for runs in members]
    names = [title or first.directory.rpartition("/")[2] for title, first in zip(titles, firsts, strict=True)]
    names, shared = _without_common_end(names)
    places = [first.directory for first in firsts]
    if len(set(places)) < len(places):
        places = [first.name for first in firsts]
    labels = []
    for name, place, first in zip(names, places, firsts, strict=True):
        data_names = [twin.data_name for twin, own in zip(firsts, names, strict=True) if own == name]
        by_data = data_names.count(first.data_name) == 1
        labels.append(name if len(data_names) == 1 else f"{name} ({first.data_name if by_data else place})")
    repeated = {label: itertools.count(1) for label in labels if labels.count(label) > 1}
    return [f"{label} no. {next(repeated[label])}" if label in repeated else label for label in labels], shared


def _without_common_end(names: list[str]) -> tuple[list[str], str]:
    """The names without what all end with ("epochs=2"), unless they become equal, and this end."""
    parts, shared = [name.split(", ") for name in names], []
    while len(parts) > 1 and min(map(len, parts)) > 1 and len({each[-1] for each in parts}) == 1:
        shared.insert(0, parts[0][-1])
        parts = [each[:-1] for each in parts]
    if len(set(map(tuple, parts))) < len(set(names)):
        return names, ""
    return [", ".join(each) for each in parts], ", ".join(shared)


def named(groups: Sequence[Group], name: str) -> Group:
    """The group with this label, directory or configuration file. Raises a UserError if there is not exactly one."""
    is_file = name.endswith((".yaml", ".yml"))  # its name is that of its runs' directory
    plain = plain_yaml.name_of(name) if is_file else name.rstrip("/")
    directories = (
        lambda group: group.first.directory == plain,
        lambda group: f"/{plain}".endswith(f"/{group.first.directory}"),
        lambda group: group.first.directory.rpartition("/")[2] == plain,
    )
    in_directory = next(filter(None, ([group for group in groups if way(group)] for way in directories)), [])
    found = [group for group in groups if name in (group.label, group.config.title) or group in in_directory]
    found = found or [group for group in groups if group.label.startswith((f"{name}, ", f"{name} ("))]
    if len(found) == 1:
        return found[0]
    arms = "\n".join(f"  {group.label} (in {group.first.directory})" for group in groups)
    raise UserError(f"--baseline {name}: {'several arms have' if found else 'no arm has'} this name. The arms:\n{arms}")
