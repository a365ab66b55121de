"""What a run's summary and history may say: the type and range of every number that is read off them."""

import math
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from experiment.printable import printable

MOST_EPOCHS = 10_000
_LARGEST = 3.5e38  # float32 has none above, and so many of them have a sum in float64

Epochs = Annotated[int, Field(ge=0, le=MOST_EPOCHS)]
Number = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, le=_LARGEST, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1 + 1e-6, allow_inf_nan=False)]  # float32's mean of ones may be above one


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _Epoch(_Record):
    """A row of history.csv."""

    epoch: Epochs
    loss: Number
    accuracy: Share
    val_loss: Number
    val_accuracy: Share
    learning_rate: Amount
    seconds: Amount
    images_per_second: Amount


class _Summary(_Record):
    """summary.json, of which a run that has not ended need only have the status."""

    status: str
    epochs: Epochs | None = None
    best_epoch: Epochs | None = None
    val_accuracy: Share | None = None
    train_seconds: Amount | None = None
    images_per_second: Amount | None = None
    parameters: Annotated[int, Field(ge=0, le=10**12)] | None = None
    precision: str | None = None
    data: Any = None
    weights: str | None = None  # the SHA-256 of best.keras; older runs have none

    @model_validator(mode="after")
    def _whole_when_finished(self):
        missing = [key for key in type(self).model_fields if key != "weights" and getattr(self, key) is None]
        if not missing and not (isinstance(self.data, dict) and isinstance(self.data.get("name"), str)):
            missing = ["data.name"]
        if self.status == "finished" and missing:
            raise ValueError(f"{missing[0]} is missing")
        return self


def check_summary(values: Any) -> dict:
    """The summary, its texts made printable. Raises ValueError where it is none."""
    _check(_Summary, values)
    return _cleaned(values)


def check_history(rows: Any) -> list[dict]:
    """The rows of a history. Raises ValueError where they are not those of epochs 1, 2, 3 and so on."""
    if not isinstance(rows, list) or len(rows) > MOST_EPOCHS:
        raise ValueError(f"its history is no list of at most {MOST_EPOCHS:,} epochs")
    for number, row in enumerate(rows, start=1):
        _check(_Epoch, row)
        if row["epoch"] != number:
            raise ValueError(f"epoch: row {number} says {row['epoch']}")
    return rows


def check_diagnostics(rows: list[dict]) -> list[dict]:
    """The rows of diagnostics.csv; a layer that died has no value (NaN). Raises ValueError where they are odd."""
    for row in rows:
        if not (1 <= row["epoch"] <= MOST_EPOCHS and 1 <= row["layer"] <= MOST_EPOCHS):
            raise ValueError(f"epoch {row['epoch']}, layer {row['layer']}: they count from 1")
        if math.isfinite(row["value"]) and abs(row["value"]) > _LARGEST:
            raise ValueError(f"value: {row['value']} is out of range")
    return rows


def check_predictions(found: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, str | None]:
    """The logits [n, classes], the labels [n] and the weights' digest. Raises ValueError where they do not fit."""
    logits, labels = found["logits"], found["labels"]
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not logits.size:
        raise ValueError(f"logits {logits.shape} do not fit labels {labels.shape}")
    if logits.dtype.kind != "f" or not np.isfinite(logits.astype(np.float32)).all():
        raise ValueError("its logits are not all numbers")
    if labels.dtype.kind not in "iu" or not 0 <= labels.min() <= labels.max() < logits.shape[1]:
        raise ValueError(f"its labels are not 0 to {logits.shape[1] - 1}")
    return logits, labels, str(found["weights"]) if "weights" in found else None


def _check(kind: type[_Record], values: Any) -> None:
    try:
        kind.model_validate(values)
    except ValidationError as error:
        mistake = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, mistake["loc"]))
        message = mistake["msg"].removeprefix("Value error, ")
        raise ValueError(f"{where}: {message}" if where else message) from None


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(key): _cleaned(each) for key, each in value.items()}
    return [_cleaned(each) for each in value] if isinstance(value, list) else value
