"""A study, a grid of runs with a question: its file or its command line, checked before anything runs.

Every key is told in docs/studies.md.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from experiment import config as configuration
from experiment import plain_yaml
from experiment.config import CONFIGS, Positive, Section
from experiment.errors import UserError
from experiment.schema import nearest
from experiment.studies.measures import MEASURES
from experiment.studies.scores import SCORES

FOLDER = CONFIGS / "studies"
VARIANT = "variant"  # what stands in the place of a key where a study has variants
_FORMER_NAMES = {"judged": "primary", "score_means": "score_label", "budget": "scope"}


class Study(Section):
    """A base configuration, the values that its keys take, and seeds. All else says how it is drawn, and how a claim,
    where there is one, is tested. Without a claim the study is a sweep: which settings are best?"""

    base: str
    grid: dict[str, Annotated[list, Field(min_length=1)]] = Field(default_factory=dict)
    variants: dict[Annotated[str, Field(pattern=r"^[A-Za-z][\w .+-]*$")], dict[str, Any]] = Field(default_factory=dict)
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    settings: dict[str, Any] = Field(default_factory=dict)

    question: str = ""
    measures: Annotated[list[str], Field(min_length=1)] = Field(default_factory=lambda: ["val_accuracy"])
    series: str | None = None  # the grid key whose values are compared: a curve each; default: the first
    x: str | None = None  # the grid key along the x-axis, for measures of one number a run; default: the last
    panel: str | None = None  # the grid key of which each value has a panel of its own
    labels: dict[str, str] = Field(default_factory=dict)  # what a reader calls a value or a key

    claim: str = ""
    primary: list[str] = Field(default_factory=list)  # the measures that the claim is tested on; default: the first
    compare: Annotated[list, Field(min_length=2, max_length=2)] | None = None  # default: each value with the first
    score: str = "mean"
    score_label: str = ""
    expected: Literal["higher", "lower", "equal"] | None = None  # of the first of each comparison
    margin: Positive | None = None  # for equal: the largest difference that does not matter, in the measure's unit
    scope: str = ""  # what was cut

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, values: Any) -> Any:
        return {_FORMER_NAMES.get(key, key): value for key, value in values.items()}

    def values_of(self, key: str | None) -> list:
        """The values that a key takes in the grid, whether it stands there alone or joined with others."""
        if key == VARIANT:
            return list(self.variants)
        joined = next((joined for joined in self.grid if key in joined.split(",")), "")
        keys, values = joined.split(","), self.grid.get(joined, [])
        return values if len(keys) == 1 else [row[keys.index(key)] for row in values]

    @property
    def comparisons(self) -> list[tuple[str, str]]:
        """The pairs of values that are compared, as texts: of each the first is expected as `expected` says."""
        first, *others = map(str, self.values_of(self.series))
        return [tuple(map(str, self.compare))] if self.compare else [(other, first) for other in others]

    def label(self, value: Any) -> str:
        """What a reader calls a value of the grid."""
        return self.labels.get(str(value), str(value))

    def axis_label(self, key: str) -> str:
        """What a reader calls a key of the grid: optimizer.learning_rate is "learning rate"."""
        return self.labels.get(key, key.rpartition(".")[2].replace("_", " "))


def load(name_or_path: str, seeds: str | None = None) -> tuple[str, Study]:
    """A study's name and its checked file; `seeds`, a text like "0-2", replaces those of the file.

    Raises:
        UserError: it is missing, or a key or value is not allowed.
    """
    path = plain_yaml.find(name_or_path, FOLDER)
    name, folder = plain_yaml.name_of(path), path.resolve().parent
    name = str(folder.relative_to(FOLDER) / name) if folder.is_relative_to(FOLDER) else name
    values = configuration.read(path)
    return name, _checked(values | ({"seeds": seeds_of(seeds)} if seeds else {}), str(path))


def sweep(base: str, grid: Sequence[str], seeds: str, settings: Sequence[str]) -> tuple[str, Study]:
    """A name and a study of what the command line says.

    Args:
        base: a configuration, as for `train.py --config`.
        grid: texts like "optimizer.learning_rate=0.001,0.01"; the values are read as YAML.
        seeds: a text like "0-2" or "0,3,5".
        settings: texts like "epochs=10", the same for all runs.
    """
    axes = {key: f"[{values}]" for key, values in map(_assignment, grid)}
    values = {"base": base, "seeds": seeds_of(seeds), "settings": {}, "grid": {}}
    for section, texts in (("grid", axes), ("settings", dict(map(_assignment, settings)))):
        values[section] = {key: plain_yaml.parse(text, f"{key}={text}") for key, text in texts.items()}
    name = "-".join([plain_yaml.name_of(base), *(key.rpartition(".")[2] for key in axes)])
    return name, _checked(values, "the sweep")


def _assignment(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"{text!r}: write it as key=value or section.key=value")
    return key.strip(), value


def seeds_of(text: str) -> list[int]:
    """The seeds of a text like "0-2" or "0,3,5-7"."""
    if not re.fullmatch(r"[0-9]{1,9}(-[0-9]{1,9})?(,[0-9]{1,9}(-[0-9]{1,9})?)*", text):
        raise UserError(f"--seeds {text!r}: write them as 0-2 or 0,3,5")
    parts = [list(map(int, part.split("-"))) for part in text.split(",")]
    if sum(part[-1] - part[0] for part in parts) > 10_000:
        raise UserError(f"--seeds {text}: so many runs are not planned at once")
    return [seed for part in parts for seed in range(part[0], part[-1] + 1)]


# ---- mistakes that would only be noticed after hours of training ----------------------------------------------------


def _checked(values: dict, where: str) -> Study:
    study = _with_axes(configuration.check(values, where, Study))
    mistake = next(_mistakes(study), None)
    if mistake:
        raise UserError(f"{where}: {mistake}")
    return study


def _axes(study: Study) -> list[list[str]]:
    """The keys of each axis of the grid; those that are joined share one."""
    return [joined.split(",") for joined in study.grid] + ([[VARIANT]] if study.variants else [])


def _with_axes(study: Study) -> Study:
    """The study with a place in the figure for each axis that was given none."""
    free = [axis[0] for axis in _axes(study) if not {study.series, study.x, study.panel} & set(axis)]
    places = {"series": study.series or (free.pop(0) if free else study.x)}
    if not study.x and any(not MEASURES[name].over for name in study.measures if name in MEASURES):
        places["x"] = free.pop() if free else places["series"]
    if not study.panel and free:
        places["panel"] = free.pop(0)
    return study.model_copy(update=places)


def _mistakes(study: Study) -> Iterator[str]:
    axes = _axes(study)
    keys = [key for axis in axes for key in axis]
    for joined, values in study.grid.items():
        count = len(joined.split(","))
        for row in values if count > 1 else []:
            if not isinstance(row, list) or len(row) != count:
                yield f"grid: {joined}: {row!r} is not a list of {count} values, one for each key"
        if len(set(map(str, values))) < len(values):
            yield f"grid: {joined}: a value stands there twice"
    yield from _wrong_keys(study, [key for key in keys if key != VARIANT])
    if len({name.replace(" ", "-") for name in study.variants}) < len(study.variants):
        yield "variants: two names differ by a space and a hyphen alone, and would share a directory"
    for field, key in (("series", study.series), ("x", study.x), ("panel", study.panel)):
        if key is not None and key not in keys:
            yield f"{field}: {key} is missing from the grid ({', '.join(keys)})"
        elif key is not None and None in study.values_of(key):
            yield f"grid: {key}: null has no place in a figure"
    yield from _wrong_measures(study, axes)
    yield from _wrong_claim(study)


def _wrong_keys(study: Study, keys: list[str]) -> Iterator[str]:
    varied = [key for settings in study.variants.values() for key in settings]
    networks = [*study.values_of("model.name"), configuration.load(study.base).model.name]
    networks += [
        settings["model.name"] for settings in (study.settings, *study.variants.values()) if "model.name" in settings
    ]
    known = [key for network in dict.fromkeys(networks) for key in configuration.known_keys(network=network)]
    for key in (*keys, *study.settings, *varied):
        if key not in known:
            yield f"{key}: no such key in a configuration{nearest(key, known)}"
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
    for measure in study.measures:
        if measure not in MEASURES:
            yield f"measures: no such measure: {measure}{nearest(measure, list(MEASURES))}"
            return
        needed = MEASURES[measure].diagnostics
        if needed not in ("none", study.settings.get("diagnostics")):
            yield f"measures: {measure} needs diagnostics: {needed} in the settings"
    # A measure of several numbers a run has an x-axis of its own.
    drawn = {study.series, study.panel} | (
        {study.x} if not any(MEASURES[name].over for name in study.measures) else set()
    )
    for axis in axes:
        if not drawn & set(axis):
            yield f"grid: {','.join(axis)}: neither series nor x nor panel, so its values would be mixed up"


def _wrong_claim(study: Study) -> Iterator[str]:
    if not set(study.primary) <= set(study.measures):
        yield f"primary: {', '.join(study.primary)}: not all are among the measures"
    if study.score not in SCORES:
        yield f"score: no such score: {study.score}{nearest(study.score, list(SCORES))}"
    if study.score == "imbalance" and not set(study.primary or study.measures[:1]) <= {"gradient_norm"}:
        yield "score: imbalance is between the layers of gradient_norm"
    if study.score == "largest_usable":
        for value in study.values_of(study.x):
            if not isinstance(value, int | float) or value <= 0:
                yield f"score: largest_usable needs numbers above 0 along x, not {value!r}"
    if study.claim and not study.expected:
        yield "expected: a claim needs it: higher, lower or equal"
    if (study.expected == "equal") != (study.margin is not None):
        yield "margin: expected: equal needs it, and nothing else has it"
    values, chosen = (set(map(str, each)) for each in (study.values_of(study.series), study.compare or []))
    if study.claim and len(values) < 2:
        yield f"grid: {study.series}: one value alone can be compared with nothing"
    if study.compare and not (chosen <= values and len(chosen) == 2):
        yield f"compare: {', '.join(map(str, study.compare))}: not two values of the grid's {study.series}"
