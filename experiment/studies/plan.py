"""The runs that a study needs: their configurations and directories, and which of them are there already."""

import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiment import config as configuration
from experiment import finding
from experiment.config import Config, Data
from experiment.data.dataset import Dataset, training_count
from experiment.errors import UserError
from experiment.run_directory import RunDirectory
from experiment.studies.study import VARIANT, Study

_TYPICAL_IMAGES = 45_000  # that train, where they are not on this machine
_MOST_RUNS = 2000
_TYPICAL_SPEED = 2500.0  # images a second, on two cores
_SECONDS_AROUND_A_RUN = 6.0  # start, validation, evaluation


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study: where it stands in the grid, its configuration, and its directory."""

    point: dict[str, Any]
    config: Config
    run: RunDirectory

    @property
    def name(self) -> str:
        values = (f"{key.rpartition('.')[2]}={value}" for key, value in self.point.items())
        return ", ".join([*values, f"seed={self.config.seed}"])


def plan(name: str, study: Study, checkpoints: Path) -> list[PlannedRun]:
    """The runs of a study, in the order in which they are trained: all points of one seed before the next seed's."""
    count = len(study.seeds) * math.prod(map(len, _axes(study)))
    if count > _MOST_RUNS:
        raise UserError(f"study {name}: {count:,} runs; more than {_MOST_RUNS:,} are not planned at once")
    points = [dict(itertools.chain(*parts)) for parts in itertools.product(*_axes(study))]
    planned = []
    for seed, point in itertools.product(study.seeds, points):
        values = {**study.settings, **point, **study.variants.get(point.get(VARIANT), {})}
        overrides = [f"{key}=null" for key in configuration.LABELS]  # those of the base say nothing of this run
        overrides += [
            f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items() if key != VARIANT
        ]
        try:
            config = configuration.load(study.base, overrides, seed)
        except UserError as error:
            raise UserError(f"study {name}, {point}: {error}") from None
        folder = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in point.items()).replace(" ", "-")
        planned.append(PlannedRun(point, config, RunDirectory(checkpoints / "studies" / name / folder / f"seed{seed}")))
    return planned


def _axes(study: Study) -> list[list[list[tuple[str, Any]]]]:
    """For each entry of the grid its values, each as the (key, value) pairs that it sets; the variants last."""
    axes = []
    for joined, values in study.grid.items():
        keys = joined.split(",")
        rows = values if len(keys) > 1 else [[value] for value in values]
        axes.append([list(zip(keys, row, strict=True)) for row in rows])
    return [*axes, [[(VARIANT, name)] for name in study.variants]] if study.variants else axes


def take_equal_runs(
    planned: Sequence[PlannedRun], roots: Sequence[Path], images: Callable[[Data], Dataset | None]
) -> list[PlannedRun]:
    """The plan with directories of finished runs of just the same configuration, wherever under `roots` there is one.

    A run is determined by its configuration and its images, so none is trained twice.

    Args:
        images: gives the data set that a configuration names, or None where it is not on this machine.
    """
    keys = [_key(each.config, images(each.config.data)) for each in planned]
    experiments = {experiment for experiment, _ in keys}
    finished: dict[tuple[str, str], RunDirectory] = {}
    for run in itertools.chain(*(finding.find(root) for root in roots)):
        try:
            summary = run.read_summary()
            experiment = str(configuration.experiment_of(run.read_config()))
            if experiment in experiments and summary["status"] == "finished":
                for images_of in (summary["data"].get("sha256"), summary["data"]["name"]):
                    finished.setdefault((experiment, images_of), run)
        except (UserError, KeyError, TypeError):
            continue  # a run that cannot be read is trained again
    return [replace(each, run=finished.get(key, each.run)) for key, each in zip(keys, planned, strict=True)]


def _key(config: Config, dataset: Dataset | None) -> tuple[str, str]:
    """An experiment and its images, of which the name must do where they are not on this machine."""
    return str(configuration.experiment_of(config)), dataset.fingerprint() if dataset else config.data.name


def _made_on(summary: dict, config: Config, dataset: Dataset | None) -> bool:
    """Whether a run saw these images; where they are not on this machine, their name must do."""
    facts = summary.get("data")
    if not isinstance(facts, dict):
        return False
    if dataset is None:
        return facts.get("name") == config.data.name
    return facts.get("sha256") == dataset.fingerprint()


def has_ended(planned: PlannedRun, images: Callable[[Data], Dataset | None]) -> bool:
    """Whether there is nothing more to train and to predict: finished and evaluated, or diverged.

    Raises:
        UserError: the directory holds a run of another configuration or on other images.
    """
    run = planned.run
    if not run.summary_file.exists():
        return False
    summary = run.read_summary()
    differing = configuration.differences(run.read_config(), planned.config)
    if differing or not _made_on(summary, planned.config, images(planned.config.data)):
        what = f"{next(iter(differing))} differs" if differing else "it was made on other images"
        raise UserError(f"{run.path} holds another run than this study's: {what}. Remove it, or use --checkpoints DIR")
    return summary["status"] == "diverged" or (summary["status"] == "finished" and run.has_predictions())


def estimate_seconds(
    planned: Sequence[PlannedRun], roots: Sequence[Path], images: Callable[[Data], Dataset | None]
) -> float:
    """About how long the runs take, one after the other, by the speed of the runs that there are."""
    speeds = []
    for run in itertools.chain(*(finding.find(root) for root in roots)):
        try:
            speeds.append(float(run.read_summary()["images_per_second"]))
        except (UserError, KeyError, TypeError, ValueError):
            continue
    speed = float(np.median(speeds)) if speeds else _TYPICAL_SPEED
    count = 0
    for each in planned:
        dataset, settings = images(each.config.data), each.config.data
        most = training_count(dataset, settings) if dataset else settings.training_images or _TYPICAL_IMAGES
        count += each.config.epochs * most
    return count / speed + _SECONDS_AROUND_A_RUN * len(planned)
