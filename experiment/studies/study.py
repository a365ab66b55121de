"""What a study is: a grid of runs with a question, and how to judge it. See docs/studies.md."""

import itertools
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, model_validator

from experiment.schema import Positive, Section

VARIANT = "variant"  # the name of the axis of variants
_FORMER_NAMES = {"judged": "primary", "score_means": "score_label", "budget": "scope"}


def short_key(key: str) -> str:
    """The last word of a key, or its section: "learning_rate", but "optimizer" for "optimizer.name"."""
    return key.removesuffix(".name").rpartition(".")[2]


class Range(Section):
    """The numbers from `low` to `high`: integers if both are; with `log`, small and large ones equally often."""

    low: int | FiniteFloat
    high: int | FiniteFloat
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self):
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("low must be less than high, and with log above 0")
        return self


class Study(Section):
    """A base configuration, the values of its varied keys, and seeds; then how to draw the figure and test the claim.

    Without a claim, the study is a sweep: which settings are best? With `search` in place of `grid` it is a search.
    """

    base: str
    grid: dict[str, Annotated[list, Field(min_length=1)]] = Field(default_factory=dict)
    variants: dict[Annotated[str, Field(pattern=r"^[A-Za-z][\w .+-]*$")], dict[str, Any]] = Field(default_factory=dict)
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    settings: dict[str, Any] = Field(default_factory=dict)
    search: dict[str, Range | Annotated[list[bool | int | float | str], Field(min_length=2)]] = Field(
        default_factory=dict
    )
    trials: Annotated[int, Field(ge=1, le=2000)] = 20  # the runs of a search
    sampler: Literal["tpe", "random"] = "tpe"
    pruner: Literal["median", "none"] = "median"

    question: str = ""
    measures: Annotated[list[str], Field(min_length=1)] = Field(default_factory=lambda: ["val_accuracy"])
    series: str | None = None  # the grid key whose values are compared, one curve each; default: the first
    x: str | None = None  # the grid key of the x-axis, for measures of one number per run; default: the last
    panel: str | None = None  # the grid key whose values have a panel each
    labels: dict[str, str] = Field(default_factory=dict)  # display names of values and keys

    claim: str = ""
    primary: list[str] = Field(default_factory=list)  # the measures on which the claim is tested; default: the first
    # Two values, or the one that each other value is compared with (default: the first).
    compare: Annotated[list, Field(min_length=2, max_length=2)] | bool | int | float | str | None = None
    score: str = "mean"
    score_label: str = ""
    # The first of each comparison, relative to the second; in a sweep: what is better (default: as the measure says).
    expected: Literal["higher", "lower", "equal"] | None = None
    margin: Positive | None = None  # for equal: the equivalence margin, in the measure's unit
    scope: str = ""  # the limits of the study

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, values: Any) -> Any:
        return {_FORMER_NAMES.get(key, key): value for key, value in values.items()}

    def values_of(self, key: str | None) -> list:
        """The values of a key in the grid, alone or joined with others."""
        return [point[key] for axis in self.points for point in axis if key in point]

    @property
    def axes(self) -> list[list[str]]:
        """The keys of each axis of the grid; joined keys share one."""
        return [joined.split(",") for joined in self.grid] + ([[VARIANT]] if self.variants else [])

    @property
    def points(self) -> list[list[dict[str, Any]]]:
        """The points of each axis, {key: value}; joined keys take their values together."""
        rows = [values if "," in joined else [[value] for value in values] for joined, values in self.grid.items()]
        rows += [[[name] for name in self.variants]] if self.variants else []
        return [[dict(zip(keys, row, strict=True)) for row in own] for keys, own in zip(self.axes, rows, strict=True)]

    @property
    def primary_measures(self) -> list[str]:
        """The measures on which a claim is tested."""
        return self.primary or self.measures[:1]

    @property
    def varied(self) -> list[str]:
        """All keys that vary."""
        return [*self.search, *(key for axis in self.axes for key in axis)]

    def xs_of(self, series: str, panel: Any) -> set[str]:
        """The values of x in the grid's points with this value of the series, and of the panel key if there is one."""
        points = ({key: str(part[key]) for part in parts for key in part} for parts in itertools.product(*self.points))
        fixed = {self.series: series} | ({self.panel: str(panel)} if self.panel else {})
        return {point[self.x] for point in points if self.x and fixed.items() <= point.items()}

    @property
    def comparisons(self) -> list[tuple[str, str]]:
        """The pairs of values that are compared, as strings."""
        if isinstance(self.compare, list):
            return [tuple(map(str, self.compare))]
        values = [*map(str, self.values_of(self.series))]
        baseline = values[0] if self.compare is None else str(self.compare)
        return [(value, baseline) for value in values if value != baseline]

    def label(self, value: Any) -> str:
        """The display name of a value of the grid."""
        return self.labels.get(str(value), str(value))

    def axis_label(self, key: str) -> str:
        """The display name of a key of the grid; by default, that of optimizer.learning_rate is "learning rate"."""
        return self.labels.get(key, short_key(key).replace("_", " "))

    def panel_label(self, value: Any) -> str:
        """The title of a panel: the value's display name, or the key and the number (or True or False)."""
        # In a table True is a word.
        unnamed = isinstance(value, int | float) or value in ("True", "False")
        unnamed = unnamed and str(value) not in self.labels
        return f"{self.axis_label(self.panel or '')} {value}" if unnamed else self.label(value)

    def value_label(self, key: str, value: Any) -> str:
        """A value that a search drew; one of a range with three digits."""
        rounded = isinstance(value, float) and isinstance(self.search[key], Range)
        return f"{value:.3g}" if rounded else self.label(value)
