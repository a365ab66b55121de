"""What a section of a configuration is, and the types of numbers that sections share."""

import difflib
from typing import Annotated, get_origin

from pydantic import BaseModel, ConfigDict, Field, field_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """Frozen, strict, and without room for a key that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def __hash__(self):
        return hash(self.model_dump_json())  # of its values, which may be lists

    @field_validator("*", mode="before")
    @classmethod
    def _tuples(cls, value, info):
        """YAML has lists alone."""
        wanted = get_origin(cls.model_fields[info.field_name].annotation)
        return tuple(value) if wanted is tuple and isinstance(value, list) else value


def explain(mistake: dict, known: list[str]) -> str:
    """One of pydantic's mistakes in a line; an unknown key is answered with the nearest of those that are known."""
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
    """How an error about an unknown key goes on: with the known one that was meant, or with those that there are."""
    sections = {key.split(".")[0] for key in known if "." in key}
    candidates = [*known, *sections]
    # A misspelt subkey is compared with its whole dotted name and, for a key put in the wrong place, with last names.
    by_last_name = {key.rsplit(".", 1)[-1]: key for key in candidates}
    match = difflib.get_close_matches(location, candidates, n=1, cutoff=0.7)
    if match:
        return f"; did you mean {match[0]!r}?"
    match = difflib.get_close_matches(location.rsplit(".", 1)[-1], by_last_name, n=1, cutoff=0.7)
    if match:
        return f"; did you mean {by_last_name[match[0]]!r}?"
    section = location.rpartition(".")[0]
    siblings = [key for key in known if key.rpartition(".")[0] == section]
    siblings = siblings or sorted({key.split(".")[0] for key in known})
    return f"; known here: {', '.join(siblings)}"
