"""Reads a study from its file or from the command line, and checks it: a mistake is told before the training."""

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from experiment import config as configuration
from experiment import plain_yaml
from experiment.config import CONFIGS
from experiment.errors import UserError
from experiment.schema import nearest
from experiment.studies.measures import MEASURES
from experiment.studies.scores import SCORES
from experiment.studies.study import Study, short_key

FOLDER = CONFIGS / "studies"


def load(name_or_path: str, seeds: str | None = None) -> tuple[str, Study]:
    """Reads a study's file; returns its name and the study. `seeds`, such as "0-2", replaces those of the file.

    Raises:
        UserError: the file is missing, or a key or value is invalid.
    """
    path = plain_yaml.find(name_or_path, FOLDER)
    name, folder = plain_yaml.name_of(path), path.resolve().parent
    name = str(folder.relative_to(FOLDER) / name) if folder.is_relative_to(FOLDER) else name
    values = configuration.read(path) | ({"seeds": seeds_of(seeds)} if seeds else {})
    if isinstance(base := values.get("base"), str):
        # The working directory last: the same study is the same experiment everywhere.
        beside = [] if (folder / base).resolve() == path.resolve() else [folder]
        values["base"] = str(plain_yaml.find(base, CONFIGS, [*beside, CONFIGS, Path()]))
    return name, _checked(values, str(path))


def sweep(base: str, grid: Sequence[str], seeds: str, settings: Sequence[str]) -> tuple[str, Study]:
    """The name and the study of a sweep on the command line.

    Args:
        base: a configuration, as for `train.py --config`.
        grid: strings such as "optimizer.learning_rate=0.001,0.01"; the values are parsed as YAML.
        seeds: a string such as "0-2" or "0,3,5".
        settings: strings such as "epochs=10", for all runs.
    """
    pairs = [plain_yaml.assignment(text) for text in (*grid, *settings)]
    for number, (key, _) in enumerate(pairs):
        if key in (other for other, _ in pairs[:number]):
            raise UserError(f"the sweep: {key} is set twice; write all its values in one --grid")
    axes = {key: f"[{values}]" for key, values in pairs[: len(grid)]}
    values = {"base": str(plain_yaml.find(base, CONFIGS)), "seeds": seeds_of(seeds), "settings": {}, "grid": {}}
    for section, texts in (("grid", axes), ("settings", dict(pairs[len(grid) :]))):
        values[section] = {key: plain_yaml.parse(text, f"{key}={text}") for key, text in texts.items()}
    keys = [key for joined in axes for key in joined.split(",")]
    name = "-".join([plain_yaml.name_of(base), *map(short_key, keys)])
    return name, _checked(values, "the sweep")


def seeds_of(text: str) -> list[int]:
    """Parses seeds such as "0-2" or "0,3,5-7"."""
    if not re.fullmatch(r"[0-9]{1,9}(-[0-9]{1,9})?(,[0-9]{1,9}(-[0-9]{1,9})?)*", text):
        raise UserError(f"--seeds {text!r}: write them as 0-2 or 0,3,5")
    parts = [list(map(int, part.split("-"))) for part in text.split(",")]
    if backwards := next((part for part in parts if part[-1] < part[0]), None):
        raise UserError(f"--seeds {text}: {backwards[0]}-{backwards[-1]} has no seeds; write the smaller one first")
    if sum(part[-1] - part[0] for part in parts) > 10_000:
        raise UserError(f"--seeds {text}: more than 10,000 seeds")
    return [seed for part in parts for seed in range(part[0], part[-1] + 1)]


# ---- mistakes --------------------------------------------------------------------------------------------------------


def _checked(values: dict, where: str) -> Study:
    study = _with_axes(configuration.check(values, where, Study))
    if mistake := next(_mistakes(study), None):
        raise UserError(f"{where}: {mistake}")
    return study


def _with_axes(study: Study) -> Study:
    """Assigns the remaining axes of the grid to series, x and panel; of a sweep, also what is better."""
    free = [axis[0] for axis in study.axes if not {study.series, study.x, study.panel} & set(axis)]
    places = {"series": study.series or (free.pop(0) if free else study.x)}
    if not study.x and any(not MEASURES[name].over for name in study.measures if name in MEASURES):
        places["x"] = free.pop() if free else places["series"]
    if not study.panel and free:
        places["panel"] = free.pop(0)
    if not study.claim and not study.expected and study.measures[0] in MEASURES:
        places["expected"] = MEASURES[study.measures[0]].better
    return study.model_copy(update=places)


def _mistakes(study: Study) -> Iterator[str]:
    keys = study.varied
    if study.search:
        yield from _wrong_search(study)
    for joined, values in study.grid.items():
        count = len(joined.split(","))
        for row in values if count > 1 else []:
            if not isinstance(row, list) or len(row) != count:
                yield f"grid: {joined}: {row!r} is not a list of {count} values, one for each key"
        if len(set(map(str, values))) < len(values):
            yield f"grid: {joined}: duplicate value"
    yield from _wrong_keys(study, keys[:-1] if study.variants else keys)  # the last is that of the variants
    if len({name.replace(" ", "-") for name in study.variants}) < len(study.variants):
        yield "variants: two names differ only by a space and a hyphen, and would share a directory"
    for field, key in (("series", study.series), ("x", study.x), ("panel", study.panel)):
        if key is not None and key not in keys:
            yield f"{field}: {key} is missing from the grid ({', '.join(keys)})"
        elif key is not None and None in study.values_of(key):
            yield f"grid: {key}: null cannot be drawn in a figure"
    yield from _wrong_measures(study)
    yield from _wrong_claim(study)


def _wrong_keys(study: Study, keys: list[str]) -> Iterator[str]:
    varied = [key for settings in study.variants.values() for key in settings]
    networks = [*study.values_of("model.name"), configuration.load(study.base).model.name]
    searched = study.search.get("model.name")
    networks += searched if isinstance(searched, list) else []
    networks += [each["model.name"] for each in (study.settings, *study.variants.values()) if "model.name" in each]
    names = dict.fromkeys(name for name in networks if isinstance(name, str))  # the configuration refuses the others
    known = [key for network in names for key in configuration.known_keys(network=network)]
    for key in (*keys, *study.settings, *varied):
        if key not in known:
            yield f"{key}: unknown key of a configuration{nearest(key, known)}"
    for key in keys:
        if key.partition(".")[0] in configuration.LABELS:
            yield f"{key}: it only labels runs, so it cannot vary"
    if not study.grid and not study.variants and not study.search:
        yield "grid: it is empty; name at least one key with its values"
    if "seed" in (*keys, *study.settings, *varied):
        yield "seed: write seeds in the study's seeds, not in grid, variants or settings"
    twice = [key for key in keys if [*keys, *dict.fromkeys(varied)].count(key) > 1]
    if twice:
        yield f"{twice[0]}: it varies in the grid, so no other entry of it and no variant may set it"
    if len(set(study.seeds)) < len(study.seeds):
        yield "seeds: duplicate seed"


def _wrong_search(study: Study) -> Iterator[str]:
    if study.grid or study.variants or study.claim:
        yield "search: a search has no grid, no variants and no claim"
    if len(study.seeds) > 1:
        yield "seeds: a search has one seed; compare the best settings with more seeds in a sweep"
    if study.measures != ["val_accuracy"]:
        yield "measures: a search is for the best val_accuracy"


def _wrong_measures(study: Study) -> Iterator[str]:
    for measure in study.measures:
        if measure not in MEASURES:
            yield f"measures: unknown measure {measure}{nearest(measure, list(MEASURES))}"
            return
        if measure == "epochs_to" and "epochs" in {*study.varied, *itertools.chain(*study.variants.values())}:
            yield "measures: epochs_to needs runs of the same length: epochs cannot vary"
        needed = MEASURES[measure].diagnostics
        if needed not in ("none", study.settings.get("diagnostics")):
            yield f"measures: {measure} needs diagnostics: {needed} in the settings"
    if not study.claim and not study.expected:
        yield f"measures: which {study.measures[0]} is the best? Say expected: higher or lower, or measure val_accuracy"
    drawn = {study.series, study.panel}
    if not any(MEASURES[name].over for name in study.measures):  # a curve has an x-axis of its own
        drawn.add(study.x)
    for axis in study.axes:
        if not drawn & set(axis):
            yield f"grid: {','.join(axis)}: neither series nor x nor panel, so the figure would mix its values"


def _wrong_claim(study: Study) -> Iterator[str]:
    if not set(study.primary) <= set(study.measures):
        yield f"primary: {', '.join(study.primary)}: not all are among the measures"
    if study.score not in SCORES:
        yield f"score: unknown score {study.score}{nearest(study.score, list(SCORES))}"
    if study.score == "imbalance" and not set(study.primary_measures) <= {"gradient_norm"}:
        yield "score: imbalance needs the measure gradient_norm"
    if study.score == "largest_usable" and not all(name.endswith("_accuracy") for name in study.primary_measures):
        yield "score: largest_usable needs an accuracy as its measure"
    for value in study.values_of(study.x) if study.score in ("largest_usable", "loss_at_smallest") else ():
        least = 0.0 if study.score == "largest_usable" else -math.inf
        if not isinstance(value, int | float) or value <= least:
            yield f"score: {study.score} needs numbers{' above 0' * (least == 0)} along x, not {value!r}"
    if study.claim and not study.expected:
        yield "expected: a claim needs higher, lower or equal"
    for key in ("compare", "primary", "score", "score_label", "margin") if not study.claim else ():
        if getattr(study, key) != Study.model_fields[key].get_default(call_default_factory=True):
            yield f"{key}: it belongs to a study with a claim"
    if not study.claim and study.expected == "equal":
        yield "expected: in a sweep, higher or lower is better"
    if (study.expected == "equal") != (study.margin is not None):
        yield "margin: required for expected: equal, and not allowed otherwise"
    named = study.compare if isinstance(study.compare, list) else [study.compare] * (study.compare is not None)
    values, chosen = (set(map(str, each)) for each in (study.values_of(study.series), named))
    if study.claim and len(values) < 2:
        yield f"grid: {study.series}: a comparison needs at least two values"
    if not chosen <= values or len(chosen) < len(named):
        yield f"compare: {', '.join(map(str, named))}: name one or two of the grid's values of {study.series}"
