"""What a section of a configuration is, and the types of numbers that sections share."""

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
