"""The schema of configurations: every key, its type, its default. A network's own keys are defined in `models/`.

A configuration describes the whole experiment, except for the location of the data and of the results. A file can
extend another one (`extends: other.yaml`, relative to itself) and state only the differences.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, ValidationError, field_validator, model_validator

import models
from experiment import plain_yaml
from experiment.errors import UserError
from experiment.printable import joined
from experiment.schema import Fraction, Section, explain
from experiment.sections import DATA_NAMES, Augmentation, Data, Distillation, Optimizer, Reported, Schedule
from models.network import Network

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
_LONGEST_TITLE = 80  # characters
_MOST_MISTAKES = 20  # in one error message

Precision = Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"]

USUAL_LOSS = "cross-entropy loss"
LABELS = ("title", "reported")  # they describe an arm: not compared, and not inherited through `extends`


class Config(Section):
    """One experiment. The command line can override any key with --set.

    `title` names the arm in tables and figures; the default is the name of its directory. With `steps_per_epoch`, an
    epoch ends after so many batches, and the next one goes on where it ended, so that no image is taken twice before
    every other was taken once.
    """

    title: Annotated[str, Field(max_length=_LONGEST_TITLE, pattern=r"^[^\s|][^|\x00-\x1f]*$")] | None = None
    reported: Reported | None = None
    model: SerializeAsAny[Network] = Field(default_factory=lambda: models.get(models.DEFAULT)())  # type: ignore[call-arg]
    data: Data = Data()
    augmentation: Augmentation = Augmentation()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    label_smoothing: Fraction = 0.0
    distillation: Distillation = Distillation()
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 50
    steps_per_epoch: Annotated[int, Field(ge=1, le=1_000_000)] | None = None  # null: until every image was taken once
    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 128
    precision: Precision = "auto"
    devices: Literal["one", "all"] = "one"  # all: data parallelism over the machine's GPUs
    diagnostics: Literal["none", "gradients", "batch_statistics"] = "none"  # see experiment/training/diagnostics.py
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    def images_per_epoch(self, available: int) -> int:
        """The number of images that an epoch trains on, of so many training images, if all its batches are whole."""
        return self.steps_per_epoch * self.batch_size if self.steps_per_epoch else available

    @property
    def loss_name(self) -> str:
        """What the columns `loss` and `val_loss` of the history are."""
        name = "loss of smoothed labels" if self.label_smoothing else USUAL_LOSS
        return f"{name}, with teachers in training" if self.distillation.teachers else name

    def on_data(self, name: str) -> "Config":
        """A copy with another `data.name`; what was reported for CIFAR is not reported for other images."""
        others = self.data.name in DATA_NAMES and name != self.data.name
        update = {"data": self.data.model_copy(update={"name": name})} | ({"reported": None} if others else {})
        return self.model_copy(update=update)

    @field_validator("model", mode="before")
    @classmethod
    def _of_its_name(cls, value):
        return models.get(_name(value, "model")).model_validate(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _warmup_fits(self):
        if self.schedule.warmup_epochs > self.epochs:
            raise ValueError(f"schedule.warmup_epochs ({self.schedule.warmup_epochs}) exceeds epochs ({self.epochs})")
        if self.schedule.name == "one_cycle" and not self.schedule.warmup_epochs:
            raise ValueError("schedule.name one_cycle needs schedule.warmup_epochs above 0")
        return self


def load(name_or_path: str, overrides: Sequence[str] | Mapping[str, Any] = (), seed: int | None = None) -> Config:
    """Reads a configuration file and the files it extends, applies the overrides, and validates the result.

    Args:
        name_or_path: a path, or the name of a file in `configs/`, with or without `.yaml` or `.yml`.
        overrides: values by dotted key, or strings `key.subkey=value`, whose value is parsed as YAML.
        seed: replaces the configuration's seed, unless None.

    Raises:
        UserError: the file is missing or not valid YAML, `extends` is circular, or a key or value is invalid.
    """
    path = plain_yaml.find(name_or_path, CONFIGS)
    changes = overrides if isinstance(overrides, Mapping) else plain_yaml.assigned(overrides)
    nested = plain_yaml.nested(changes)
    values = _merge(read(path), nested)
    experiment = {key: value for key, value in changes.items() if key.split(".")[0] not in ("seed", *LABELS)}
    if experiment:  # it is not the file's arm any more
        if "title" not in changes:
            title = values.get("title") or plain_yaml.name_of(path)
            assignments = [f"{key}={plain_yaml.text(value)}" for key, value in experiment.items()]
            values["title"] = joined([title, *assignments], _LONGEST_TITLE) if isinstance(title, str) else title
        values["reported"] = nested.get("reported")
    if seed is not None:
        values["seed"] = seed
    return check(values, where=f"{path} (with {', '.join(experiment)} changed)" if experiment else str(path))


def check(values: Any, where: str, kind: type[Section] = Config) -> Section:
    """Validates nested values as a `Config`, or raises a UserError with one line per mistake."""
    if not isinstance(values, dict):
        raise UserError(f"{where}: a configuration is a mapping of keys to values, not {type(values).__name__}")
    try:
        return kind.model_validate(values)
    except UserError as error:  # an unknown network
        raise UserError(f"{where}: {error}") from None
    except ValidationError as error:
        model = values.get("model")
        known = known_keys(kind, _name(model, "model") if isinstance(model, dict) else models.DEFAULT)
        lines = [explain(mistake, known) for mistake in error.errors()[:_MOST_MISTAKES]]
        lines += [f"and {error.error_count() - len(lines)} more"] if error.error_count() > len(lines) else []
        raise UserError("\n  ".join([f"{where} is not a valid configuration:", *lines])) from None


def read_resolved(path: Path) -> Config:
    """Reads the `config.yaml` of a run directory, in which `extends` is already resolved."""
    return check(plain_yaml.read(path, follow=False), where=str(path))


def to_yaml(config: Config) -> str:
    """The resolved configuration as YAML; `load` reads it back to an equal `Config`."""
    return plain_yaml.write(config.model_dump(exclude={key for key in LABELS if getattr(config, key) is None}))


def experiment_of(config: Config) -> dict[str, Any]:
    """The dotted keys and values that determine a run: all but the `LABELS`."""
    values = dict(_flatten(config.model_dump(exclude=set(LABELS))))
    if config.data.own_images:  # the path may change; the run's summary identifies the images by their SHA-256
        values["data.name"] = "own images"
    return values


def differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """The dotted keys in which two experiments differ, with their (old, new) values; None where the key is absent."""
    before, after = experiment_of(old), experiment_of(new)
    return {key: (before.get(key), after.get(key)) for key in before | after if before.get(key) != after.get(key)}


def arm_differences(first: Config, second: Config) -> dict[str, tuple[Any, Any]]:
    """The differences of two arms, whose seeds do not count; the keys of another network are left out for its name."""
    found = differences(first, second)
    hidden = {"seed", *(key for key in found if key.startswith("model.") and "model.name" in found)} - {"model.name"}
    return {key: values for key, values in found.items() if key not in hidden}


def _flatten(values: dict, prefix: str = ""):
    """Nested values as (dotted key, value) pairs."""
    for key, value in values.items():
        yield from _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]


def read(path: Path, seen: tuple[Path, ...] = ()) -> dict:
    """The unvalidated values of a file, merged over those of the file it extends; `seen` are the files that extend it.

    Raises:
        UserError: the file is missing or not valid YAML, or `extends` is circular.
    """
    resolved = path.resolve()
    if resolved in seen:
        raise UserError(f"{path}: extends is circular: {' -> '.join(step.name for step in (*seen, resolved))}")
    values = plain_yaml.read(path)
    values = {} if values is None else values  # an empty file
    if not isinstance(values, dict):
        raise UserError(f"{path}: a configuration is a mapping of keys to values, not {type(values).__name__}")
    base_name = values.pop("extends", None)
    if base_name is None:
        return _merge({}, values)
    base_path = path.parent / str(base_name)
    if not plain_yaml.is_file(base_path):
        raise UserError(f"{path}: extends: {base_name!r}: no file {base_path}; write its path, relative to this file")
    base = {key: value for key, value in read(base_path, (*seen, resolved)).items() if key not in LABELS}
    return _merge(base, values)


def _merge(base: dict, changes: dict) -> dict:
    """Merges `changes` into `base`, key by key; a network or an optimiser of another name replaces that of the base."""
    merged = dict(base)
    for key, value in changes.items():
        before = merged.get(key, {})
        if isinstance(value, dict) and isinstance(before, dict):
            name = _name(before | value, key)
            if key == "model" and name in models.names():
                value = models.get(name).today(value)
            value = _merge(before, value) if name == _name(before, key) else value
        merged[key] = value
    return merged


def _name(section: dict, key: str) -> Any:
    """The name of a network or an optimiser, which determines its other keys; None for other sections."""
    default = {"model": models.DEFAULT, "optimizer": Optimizer.model_fields["name"].default}.get(key)
    return section.get("name", default) if default else None


def known_keys(kind: type[Section] = Config, network: str = models.DEFAULT) -> list[str]:
    """All dotted keys of a configuration with this network."""
    keys = []
    for name, field in kind.model_fields.items():
        section = field.annotation
        if section is Network:
            section = models.get(network)
            keys += [f"{name}.{key}" for key in section.former_keys]
        is_section = isinstance(section, type) and issubclass(section, Section)
        keys += [f"{name}.{key}" for key in known_keys(section)] if is_section else [name]
    return keys
