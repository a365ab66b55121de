"""The runs that a study needs: their configurations and directories, and which of them are there already."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiment import config as configuration
from experiment import finding
from experiment.config import Config
from experiment.errors import UserError
from experiment.run_directory import RunDirectory
from experiment.studies.study import VARIANT, Study

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
    points = [dict(itertools.chain(*parts)) for parts in itertools.product(*_axes(study))]
    planned = []
    for seed, point in itertools.product(study.seeds, points):
        values = {**study.settings, **point, **study.variants.get(point.get(VARIANT), {})}
        overrides = [f"{key}={_as_yaml(value)}" for key, value in values.items() if key != VARIANT]
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


def _as_yaml(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def take_equal_runs(planned: Sequence[PlannedRun], roots: Sequence[Path], data_name: str) -> list[PlannedRun]:
    """The plan with directories of finished runs of just the same configuration, wherever under `roots` there is one.

    A run is determined by its configuration, so none is trained twice.
    """
    finished = {}
    for run in itertools.chain(*(finding.find(root) for root in roots)):
        try:
            summary = run.read_summary()
            if summary["status"] == "finished" and summary["data"]["name"] == data_name:
                finished.setdefault(run.read_config(), run)
        except (UserError, KeyError, TypeError):
            continue  # a run that cannot be read is trained again
    return [PlannedRun(each.point, each.config, finished.get(each.config, each.run)) for each in planned]


def has_ended(planned: PlannedRun, data_name: str) -> bool:
    """Whether there is nothing more to train and to predict: finished and evaluated, or diverged.

    Raises:
        UserError: the directory holds a run of another configuration or on other images.
    """
    run = planned.run
    if not run.summary_file.exists():
        return False
    summary = run.read_summary()
    differing = configuration.differences(run.read_config(), planned.config)
    made_on = summary["data"].get("name") if isinstance(summary.get("data"), dict) else None
    if differing or made_on != data_name:
        what = f"{next(iter(differing))} differs" if differing else f"it was made on {made_on}"
        raise UserError(f"{run.path} holds another run than this study's: {what}. Remove it, or use --checkpoints DIR")
    return summary["status"] == "diverged" or (summary["status"] == "finished" and run.has_predictions())


def estimate_seconds(planned: Sequence[PlannedRun], roots: Sequence[Path]) -> float:
    """About how long the runs take, one after the other, by the speed of the runs that there are."""
    speeds = []
    for run in itertools.chain(*(finding.find(root) for root in roots)):
        try:
            speeds.append(float(run.read_summary()["images_per_second"]))
        except (UserError, KeyError, TypeError, ValueError):
            continue
    speed = float(np.median(speeds)) if speeds else _TYPICAL_SPEED
    images = [each.config.epochs * (each.config.data.training_images or 45_000) for each in planned]
    return sum(images) / speed + _SECONDS_AROUND_A_RUN * len(planned)
