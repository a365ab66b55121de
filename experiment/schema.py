"""The base class of a configuration's sections, and the messages for invalid ones."""

import difflib
from typing import Annotated, get_origin

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
        """Lists from YAML, where a field is a tuple."""
        wanted = get_origin(cls.model_fields[info.field_name].annotation)
        return tuple(value) if wanted is tuple and isinstance(value, list) else value


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
