"""A study, a grid of runs with a question: its file, checked before anything runs."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from experiment import config as configuration
from experiment.config import CONFIGS, Section
from experiment.errors import UserError

FOLDER = CONFIGS / "studies"
VARIANT = "variant"  # what stands in the place of a key where a study has variants
_DIAGNOSTICS = {
    "gradient_norm": "gradients",
    "gradient_variation": "gradients",
    "mean_scatter": "batch_statistics",
    "variance_scatter": "batch_statistics",
}

CurveMeasure = Literal["epochs_to", "seconds_to", "gradient_norm", "gradient_variation"]  # several numbers a run
NumberMeasure = Literal["test_accuracy", "val_accuracy", "mean_scatter", "variance_scatter"]  # one number a run


class Study(Section):
    """One question. `grid` names configuration keys, each with the values that it takes; keys that are joined by commas
    take their values together. `variants` names groups of settings that are tried one after the other; they make an
    axis of the grid that is called `variant`. The values of the key `series` are what is compared: the two in
    `compare`, or every other one with the first. What is measured, and how it is judged, stands in `verdict`."""

    claim: str
    question: str
    base: str
    settings: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, Annotated[list, Field(min_length=1)]] = Field(default_factory=dict)
    variants: dict[Annotated[str, Field(pattern=r"^[A-Za-z][\w .+-]*$")], dict[str, Any]] = Field(default_factory=dict)
    series: str = "model.batch_norm"
    compare: Annotated[list, Field(min_length=2, max_length=2)] | None = None
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    measures: Annotated[list[CurveMeasure | NumberMeasure], Field(min_length=1)]
    judged: list[CurveMeasure | NumberMeasure] = Field(default_factory=list)  # default: the first; all are drawn
    x: str | None = None  # the grid key along the figure's x-axis, for measures of one number a run
    panel: str | None = None  # the grid key of which each value has a panel of its own
    score: Literal["mean", "range", "imbalance", "largest_usable", "loss_at_smallest"]
    score_means: str
    expected: Literal["higher", "lower"]
    budget: str = ""

    def values_of(self, key: str) -> list:
        """The values that a key takes in the grid, whether it stands there alone or joined with others."""
        if key == VARIANT:
            return list(self.variants)
        joined = next((joined for joined in self.grid if key in joined.split(",")), key)
        keys, values = joined.split(","), self.grid.get(joined, [])
        return values if len(keys) == 1 else [row[keys.index(key)] for row in values]

    @property
    def comparisons(self) -> list[tuple[str, str]]:
        """The pairs of values that are compared, as texts: of each the first is expected as `expected` says."""
        first, *others = map(str, self.values_of(self.series))
        return [tuple(map(str, self.compare))] if self.compare else [(other, first) for other in others]


def load(name_or_path: str) -> tuple[str, Study]:
    """A study's name and its checked file. Raises UserError where it is missing or a key or value is not allowed."""
    path = configuration.find(name_or_path, FOLDER)
    study = configuration.check(configuration.read(path), str(path), Study)
    mistake = next(_mistakes(study), None)
    if mistake:
        raise UserError(f"{path}: {mistake}")
    inside = path.resolve().is_relative_to(FOLDER.resolve())
    return str(path.resolve().relative_to(FOLDER.resolve()).with_suffix("")) if inside else path.stem, study


def _mistakes(study: Study) -> Iterator[str]:
    """What would only be noticed after hours of training."""
    axes = [joined.split(",") for joined in study.grid]
    varied = [key for settings in study.variants.values() for key in settings]
    keys = [key for axis in axes for key in axis]
    yield from _wrong_keys(study, keys, varied)
    for joined, values in study.grid.items():
        count = len(joined.split(","))
        for row in values if count > 1 else []:
            if not isinstance(row, list) or len(row) != count:
                yield f"grid: {joined}: {row!r} is not a list of {count} values, one for each key"
        if len(set(map(str, values))) < len(values):
            yield f"grid: {joined}: a value stands there twice"
    if len({name.replace(" ", "-") for name in study.variants}) < len(study.variants):
        yield "variants: two names differ by a space and a hyphen alone, and would share a directory"
    if study.variants:
        axes.append([VARIANT])
        keys.append(VARIANT)
    for field, key in (("series", study.series), ("x", study.x), ("panel", study.panel)):
        if key is not None and key not in keys:
            yield f"{field}: {key} is missing from the grid ({', '.join(keys)})"
        elif key is not None and None in study.values_of(key):
            yield f"grid: {key}: null has no place in a figure"
    values, chosen = (set(map(str, each)) for each in (study.values_of(study.series), study.compare or []))
    if len(values) < 2:
        yield f"grid: {study.series}: one value alone can be compared with nothing"
    if study.compare and not (chosen <= values and len(chosen) == 2):
        yield f"compare: {', '.join(map(str, study.compare))}: not two values of the grid's {study.series}"
    yield from _wrong_measures(study, axes)


def _wrong_keys(study: Study, keys: list[str], varied: list[str]) -> Iterator[str]:
    known = configuration.known_keys()
    for key in (*keys, *study.settings, *varied):
        if key not in known:
            yield f"{key}: no such key in a configuration{configuration.nearest(key, known)}"
    if not study.grid and not study.variants:
        yield "grid: it is empty; name at least one key with its values"
    if "seed" in (*keys, *study.settings, *varied):
        yield "seed: the seeds of a study stand in its seeds, not in grid, variants or settings"
    twice = [key for key in keys if [*keys, *dict.fromkeys(varied)].count(key) > 1]
    if twice:
        yield f"{twice[0]}: it varies in the grid, so no other entry of it and no variant may set it"
    if len(set(study.seeds)) < len(study.seeds):
        yield "seeds: one stands there twice"


def _wrong_measures(study: Study, axes: list[list[str]]) -> Iterator[str]:
    numbers = [measure for measure in study.measures if measure in configuration.allowed(NumberMeasure)]
    if study.x is None and numbers:
        yield f"x: {numbers[0]} is one number a run; name the key of the grid to draw it over"
    # A measure of several numbers a run has an x-axis of its own.
    drawn = {study.series, study.panel} | ({study.x} if len(numbers) == len(study.measures) else set())
    for axis in axes:
        if not drawn & set(axis):
            yield f"grid: {','.join(axis)}: neither series nor x nor panel, so its values would be mixed up"
    if not set(study.judged) <= set(study.measures):
        yield f"judged: {', '.join(study.judged)}: not all are among the measures"
    for measure in study.measures:
        needed = _DIAGNOSTICS.get(measure)
        if needed and study.settings.get("diagnostics") != needed:
            yield f"measures: {measure} needs diagnostics: {needed} in the settings"
    if study.score == "imbalance" and not set(study.judged or study.measures[:1]) <= {"gradient_norm"}:
        yield "score: imbalance is between the layers of gradient_norm"
    if study.score == "largest_usable":
        for value in study.values_of(study.x or ""):
            if not isinstance(value, int | float) or value <= 0:
                yield f"score: largest_usable needs numbers above 0 along x, not {value!r}"
