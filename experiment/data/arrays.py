"""Data sets in .npz files with Keras's keys: x_train, y_train, x_test, y_test, and optional class_names."""

from pathlib import Path

import numpy as np

from experiment.data.dataset import MOST_CLASSES, Dataset, Images, memory_for_images
from experiment.errors import UserError
from experiment.reading import read_arrays

_KEYS = ("x_train", "y_train", "x_test", "y_test")


def read(path: Path) -> Dataset:
    """Reads an .npz file.

    Images must be uint8 [n, h, w, c] or [n, h, w], with one or three channels and at least 8 x 8 pixels; labels must be
    integers from 0, [n] or [n, 1]; every class needs training and test images.

    Raises:
        UserError: the file is missing, damaged or too large for the memory, or an array is missing or invalid; the
            message says how to convert it.
    """
    found = read_arrays(path, memory_for_images(), dict, follow=True)
    for key in _KEYS:
        if key not in found:
            raise UserError(f"{path}: the array {key} is missing; the file contains {', '.join(found)[:200] or 'none'}")
    train, test = (
        Images(_pixels(found[f"x_{part}"], f"{path}: x_{part}"), _labels(found[f"y_{part}"], f"{path}: y_{part}"))
        for part in ("train", "test")
    )
    if train.images.shape[1:] != test.images.shape[1:]:
        raise UserError(
            f"{path}: images of x_train are {train.images.shape[1:]} (height, width, channels), but those of x_test "
            f"are {test.images.shape[1:]}; resize one of them"
        )
    names = _names(found.get("class_names"), int(train.labels.max()) + 1 if train.labels.size else 0, path)
    return Dataset(path.name, train, test, names, str(path.absolute())).checked()


def _pixels(array: np.ndarray, where: str) -> np.ndarray:
    if array.dtype != np.uint8:
        remedy = "multiply by 255 if they are 0 to 1, round, and .astype('uint8')"
        remedy = remedy if array.dtype.kind in "fb" else "keep 0 to 255 as .astype('uint8')"
        raise UserError(f"{where}: images must be uint8, 0 to 255, not {array.dtype}: {remedy}")
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4:
        raise UserError(f"{where}: images must be [n, height, width, channels] or [n, height, width]: {array.shape}")
    if array.shape[3] not in (1, 3):
        kept = 1 if array.shape[3] == 2 else 3  # grey with transparency
        remedy = f"use x[..., :{kept}]"
        remedy = "channels come last: np.moveaxis(x, 1, -1)" if array.shape[1] in (1, 3) else remedy
        raise UserError(f"{where}: images must have one or three channels, not {array.shape[3]}: {remedy}")
    return np.ascontiguousarray(array)


def _labels(array: np.ndarray, where: str) -> np.ndarray:
    if array.ndim == 2 and array.shape[1] > 1:
        raise UserError(f"{where}: labels must be [n] or [n, 1], not {array.shape}; for one-hot rows use y.argmax(1)")
    if array.dtype.kind not in "iu" or array.ndim not in (1, 2):
        raise UserError(f"{where}: labels must be integers from 0, [n] or [n, 1], not {array.dtype} {array.shape}")
    labels = array.reshape(-1)
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < MOST_CLASSES:
        raise UserError(
            f"{where}: labels must be 0 to {MOST_CLASSES - 1:,}, not {labels.min()} to {labels.max()}; number the "
            "classes from 0 without gaps: np.unique(y, return_inverse=True)[1]"
        )
    return labels.astype(np.int32)


def _names(array: np.ndarray | None, classes: int, path: Path) -> tuple[str, ...]:
    if array is None:
        return tuple(map(str, range(classes)))
    if array.dtype.kind != "U" or array.shape != (classes,):
        raise UserError(f"{path}: class_names must be {classes} strings, one a class, not {array.dtype} {array.shape}")
    return tuple(array.tolist())
