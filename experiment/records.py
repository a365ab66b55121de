"""Schemas of a run's files: the type and range of every number that is read from them."""

import math
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from experiment.printable import printable
from experiment.schema import explain

MOST_EPOCHS = 10_000
LARGEST_PREDICTIONS = 96 * 2**20  # bytes; 50,000 images of 1,000 classes
_LARGEST = 3.5e38  # about float32's maximum, so that sums stay finite in float64

Epochs = Annotated[int, Field(ge=0, le=MOST_EPOCHS)]
Number = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, le=_LARGEST, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1 + 1e-6, allow_inf_nan=False)]  # a float32 mean of ones can exceed 1


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class Epoch(_Record):
    """A row of history.csv."""

    epoch: Epochs
    loss: Number
    accuracy: Share
    val_loss: Number
    val_accuracy: Share
    learning_rate: Amount
    seconds: Amount
    images_per_second: Amount


class Images(_Record):
    """What a run was trained on; older summaries have the name alone."""

    name: str
    sha256: str | None = None
    training_images: Annotated[int, Field(gt=0)] | None = None
    class_names: Annotated[list[str], Field(min_length=2)] | None = None
    image_shape: Annotated[list[Annotated[int, Field(gt=0, lt=2**14)]], Field(min_length=3, max_length=3)] | None = None

    @field_validator("image_shape")
    @classmethod
    def _of_pictures(cls, shape):
        if shape and shape[2] not in (1, 3):
            raise ValueError(f"images of {shape[2]} channels; 1 or 3 are possible")
        return shape


class _Summary(_Record):
    """summary.json; before the end of the run only the status is required."""

    status: str
    epochs: Epochs | None = None
    best_epoch: Epochs | None = None
    val_accuracy: Share | None = None
    train_seconds: Amount | None = None
    images_per_second: Amount | None = None
    parameters: Annotated[int, Field(ge=0, le=10**12)] | None = None
    precision: str | None = None
    data: Images | None = None
    weights: str | None = None  # the SHA-256 of best.keras
    architecture: str | None = None  # Keras's version, and the SHA-256 of the network's layers

    @model_validator(mode="after")
    def _complete_if_finished(self):
        later = ("weights", "architecture")  # older runs do not have them
        missing = [key for key in type(self).model_fields if key not in later and getattr(self, key) is None]
        if self.status == "finished" and missing:
            raise ValueError(f"{missing[0]} is missing")
        return self


def check_summary(values: Any) -> dict:
    """Validates a summary and returns it with printable strings. Raises ValueError if it is invalid."""
    _check(_Summary, values)
    return _cleaned(values)


def check_history(rows: Any) -> list[dict]:
    """Validates the rows of a history. Raises ValueError if they are not the epochs 1, 2, 3, ... with valid numbers."""
    if not isinstance(rows, list) or len(rows) > MOST_EPOCHS:
        raise ValueError(f"its history is not a list of at most {MOST_EPOCHS:,} epochs")
    for number, row in enumerate(rows, start=1):
        _check(Epoch, row)
        if row["epoch"] != number:
            raise ValueError(f"epoch: {row['epoch']} in row {number}")
    return rows


def check_diagnostics(rows: list[dict]) -> list[dict]:
    """Validates the rows of diagnostics.csv; a dead layer has the value NaN. Raises ValueError if they are invalid."""
    for row in rows:
        if not (1 <= row["epoch"] <= MOST_EPOCHS and 1 <= row["layer"] <= MOST_EPOCHS):
            raise ValueError(f"epoch {row['epoch']}, layer {row['layer']}: must be 1 to {MOST_EPOCHS:,}")
        if math.isfinite(row["value"]) and abs(row["value"]) > _LARGEST:
            raise ValueError(f"value: {row['value']} is out of range")
    return rows


def check_predictions(found: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, str | None]:
    """The logits [n, classes], labels [n] and digest of the weights. Raises ValueError if they are invalid."""
    logits, labels = found["logits"], found["labels"]
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not logits.size:
        raise ValueError(f"logits {logits.shape} do not match labels {labels.shape}")
    if logits.dtype.kind != "f" or not np.isfinite(logits.astype(np.float32)).all():
        raise ValueError("its logits are not all finite numbers")
    if labels.dtype.kind not in "iu" or not 0 <= labels.min() <= labels.max() < logits.shape[1]:
        raise ValueError(f"its labels are not 0 to {logits.shape[1] - 1}")
    return logits, labels, str(found["weights"]) if "weights" in found else None


def _check(kind: type[_Record], values: Any) -> None:
    try:
        kind.model_validate(values)
    except ValidationError as error:
        raise ValueError(explain(error.errors()[0], [])) from None


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(key): _cleaned(each) for key, each in value.items()}
    return [_cleaned(each) for each in value] if isinstance(value, list) else value
