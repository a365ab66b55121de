"""Plans the runs of a study: their configurations and directories, and which of them already exist."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiment import config as configuration
from experiment import finding
from experiment.config import Config
from experiment.data import sources
from experiment.data.dataset import Dataset, split_counts
from experiment.errors import UserError
from experiment.resuming import difference, is_finished
from experiment.run_directory import RunDirectory
from experiment.sections import Data
from experiment.studies.study import VARIANT, Study

_TYPICAL_IMAGES = 45_000  # for training, if the data set is not on this machine
_MOST_RUNS = 2000
_TYPICAL_SPEED = 2500.0  # images per second, on two cores
_OVERHEAD_SECONDS = 6.0  # per run: start, validation, evaluation

Loader = Callable[[Data], Dataset | None]  # returns None if the data set is not on this machine


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study: its point in the grid, its configuration, and its directory."""

    point: dict[str, Any]
    config: Config
    run: RunDirectory

    @property
    def name(self) -> str:
        return ", ".join([*_settings(self.point), f"seed={self.config.seed}"])


def plan(name: str, study: Study, checkpoints: Path, data: str | None = None) -> list[PlannedRun]:
    """The runs of a study, in the order of training: all points for the first seed, then for the next.

    `data` is the value of `--data`.

    Raises:
        UserError: there are more than 2,000, or a configuration is invalid.
    """
    count = len(study.seeds) * math.prod(map(len, study.points))
    if count > _MOST_RUNS:
        raise UserError(f"study {name}: {count:,} runs; the limit is {_MOST_RUNS:,}")
    points = [{key: part[key] for part in parts for key in part} for parts in itertools.product(*study.points)]
    order = itertools.product(study.seeds, points)
    return [plan_run(name, study, point, seed, checkpoints, data) for seed, point in order]


def plan_run(
    name: str, study: Study, point: dict[str, Any], seed: int, checkpoints: Path, data: str | None = None
) -> PlannedRun:
    """The run at a point; raises a UserError if its configuration is invalid."""
    unlabelled = dict.fromkeys(configuration.LABELS)  # the labels of the base do not apply
    values = {**unlabelled, **study.settings, **point, **study.variants.get(point.get(VARIANT), {})}
    values.pop(VARIANT, None)
    try:
        config = configuration.load(study.base, values, seed)
    except UserError as error:
        raise UserError(f"study {name}, {point}: {error}") from None
    varies = "data.name" in point.keys() | study.variants.get(point.get(VARIANT), {}).keys()
    if varies and sources.with_data(config, None).data.name != sources.with_data(config, data).data.name:
        raise UserError(f"study {name}: data.name varies, so --data {data} cannot name the images: leave it out")
    config = sources.with_data(config, data)
    folder = ",".join(_settings(point)).replace(" ", "-")
    return PlannedRun(point, config, RunDirectory(checkpoints / "studies" / name / folder / f"seed{seed}"))


def _settings(point: dict[str, Any]) -> list[str]:
    return [f"{key.rpartition('.')[2]}={value}" for key, value in point.items()]


def take_equal_runs(planned: Sequence[PlannedRun], roots: Sequence[Path], images: Loader) -> list[PlannedRun]:
    """Replaces the directories of planned runs by those of equal finished runs anywhere under `roots`.

    Configuration and images determine a run, so that none has to be trained twice; but with a distillation, the
    teachers may have been others.
    """
    keys = [_key(each.config, images(each.config.data)) for each in planned]
    wanted, finished = set(keys), {}
    for run, summary in _summaries(roots):
        if summary["status"] == "finished" and "teachers" not in summary:
            with contextlib.suppress(UserError):  # damaged runs are trained again
                config = run.read_config()
                experiment = str(configuration.experiment_of(config))
                own = {(experiment, summary["data"].get(key)) for key in ("sha256", "name")} & wanted
                if own and is_finished(config, run) and (run.has_weights() or run.has_predictions()):
                    finished |= dict.fromkeys(own - finished.keys(), run)
    return [replace(each, run=finished.get(key, each.run)) for key, each in zip(keys, planned, strict=True)]


def _summaries(roots: Sequence[Path]) -> Iterator[tuple[RunDirectory, dict]]:
    """The runs under `roots` with valid summaries, each once."""
    for run in {run.path.resolve(): run for root in roots for run in finding.find(root)}.values():
        with contextlib.suppress(UserError):
            yield run, run.read_summary()


def _key(config: Config, dataset: Dataset | None) -> tuple[str, str]:
    """The experiment and its images: their SHA-256, or their name if they are not on this machine."""
    return str(configuration.experiment_of(config)), dataset.fingerprint() if dataset else config.data.name


def has_ended(planned: PlannedRun, images: Loader) -> bool:
    """Whether the run is complete: finished and evaluated, or diverged, or damaged; raises as `own_summary`."""
    if planned.run.has_summary() and _is_damaged(planned.run):
        return True  # its row says what is damaged
    summary = own_summary(planned, images)
    return summary["status"] == "diverged" or (summary["status"] == "finished" and planned.run.has_predictions())


def _is_damaged(run: RunDirectory) -> bool:
    """Whether its summary cannot be read. (A configuration cannot, either, if a key of its network was renamed.)"""
    try:
        run.read_summary()
    except UserError:
        return True
    return False


def own_summary(planned: PlannedRun, images: Loader) -> dict:
    """The summary of a planned run; "not begun" is the status of one without.

    Raises:
        UserError: the directory contains a run of another configuration or on other images.
    """
    run = planned.run
    if not run.has_summary():
        return {"status": "not begun"}
    summary = run.read_summary()
    differing = configuration.differences(run.read_config(), planned.config)
    dataset, facts = images(planned.config.data), summary.get("data") or {}
    same = facts.get("sha256") == dataset.fingerprint() if dataset else facts.get("name") == planned.config.data.name
    if what := difference(differing, same):
        raise UserError(f"{run.path} contains another run: {what}. Remove it, or use --checkpoints DIR")
    return summary


def estimate_seconds(planned: Sequence[PlannedRun], roots: Sequence[Path], images: Loader) -> float:
    """An estimate of the time for all runs, one after the other, from the speed of the runs under the first root.

    The following roots are for one without runs.
    """
    found = ([summary.get("images_per_second") for _, summary in _summaries([root])] for root in roots)
    speeds = next(filter(None, ([*filter(None, own)] for own in found)), [_TYPICAL_SPEED])
    speed = float(np.median(speeds))
    count = 0
    for each in planned:
        dataset, settings = images(each.config.data), each.config.data
        most = split_counts(dataset, settings)[0] if dataset else settings.training_images or _TYPICAL_IMAGES
        count += each.config.epochs * each.config.images_per_epoch(most)
    return count / speed + _OVERHEAD_SECONDS * len(planned)
