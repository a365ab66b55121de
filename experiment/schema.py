"""The base class of a configuration's sections, and the messages for invalid ones."""

import difflib
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, field_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A frozen, strict pydantic model that forbids unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def __hash__(self):
        return hash(self.model_dump_json())  # values may be lists, which are not hashable

    @field_validator("*", mode="before")
    @classmethod
    def _tuples(cls, value, info):
        return _with_tuples(value, cls.model_fields[info.field_name].annotation)


def _with_tuples(value: Any, wanted: Any) -> Any:
    """A value from YAML, with tuples in place of lists where the type `wanted` has tuples."""
    kind, parts = get_origin(wanted) or wanted, get_args(wanted)
    if list in (get_origin(part) or part for part in parts) and kind in (Union, UnionType):
        return value  # it may be a list
    if kind in (Union, UnionType, Annotated):
        changed = (_with_tuples(value, part) for part in parts)
        return next((each for each in changed if each != value), value)
    if kind not in (tuple, list) or not isinstance(value, list):
        return value
    alike = kind is list or parts[-1:] == (...,)
    wanted_of = [parts[0 if alike else min(at, len(parts) - 1)] if parts else Any for at in range(len(value))]
    return kind(map(_with_tuples, value, wanted_of))


def explain(mistake: dict, known: list[str]) -> str:
    """One of pydantic's errors as a line of text; for an unknown key it suggests a known one."""
    location = ".".join(str(part) for part in mistake["loc"])
    if mistake["type"] == "extra_forbidden":
        return f"{location[:100]}: unknown key{nearest(location[:100], known)}"
    message = mistake["msg"].removeprefix("Value error, ")
    if not location:
        return message
    value = mistake["input"]
    if isinstance(value, dict | list | BaseModel):
        return f"{location}: {message}"
    return f"{location}: {message}, not {value!r:.100}"


def nearest(location: str, known: list[str]) -> str:
    """The end of a message about an unknown key: the most similar known key, or a list of the keys of its section."""
    candidates = [*known, *{key.split(".")[0] for key in known if "." in key}]
    # Compare the whole dotted name, then only the last part, for a key in the wrong section.
    by_last_name = {key.rsplit(".", 1)[-1]: key for key in candidates}
    ways = (location, {key: key for key in candidates}, 0.7), (location.rsplit(".", 1)[-1], by_last_name, 0.85)
    for name, keys, cutoff in ways:
        if match := difflib.get_close_matches(name, keys, n=1, cutoff=cutoff):
            return f"; did you mean {keys[match[0]]!r}?"
    section = location.rpartition(".")[0]
    siblings = [key for key in known if key.rpartition(".")[0] == section]
    if not section or not siblings:  # the sections, too
        siblings = sorted({key.split(".")[0] for key in known})
    return f"; known keys: {', '.join(siblings)}"
