"""Labelled images, their validation, and the split into training and validation images.

Images are uint8 [n, h, w, c] of any size, with one or three channels; labels are int32 [n].
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiment import records
from experiment.config import Config
from experiment.errors import UserError
from experiment.sections import DATA_NAMES, Data

MOST_CLASSES = 1_000
EVALUATION_BATCH = 500  # images
_SMALLEST_SIDE = 8  # pixels; the networks halve an image three times
_LONGEST_NAME = 100  # of a class, in characters


class Images(NamedTuple):
    """Images [n, h, w, c] uint8 and their labels [n] int32."""

    images: np.ndarray
    labels: np.ndarray

    def select(self, positions: np.ndarray) -> "Images":
        return Images(self.images[positions], self.labels[positions])


@dataclass(frozen=True)
class Dataset:
    """A training and a test set, the names of their classes, and their source."""

    name: str  # "cifar10", "cifar100", "synthetic", or the name of the user's file, or folder with a trailing /
    train: Images
    test: Images
    class_names: tuple[str, ...]
    source: str

    @property
    def data_name(self) -> str | None:
        """The `data.name` of a configuration for this data set; None if it was created in memory."""
        if self.name in DATA_NAMES:
            return self.name
        return self.source if Path(self.source).is_absolute() else None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        return self.train.images.shape[1:]

    def fingerprint(self) -> str:
        """The SHA-256 of all images and labels."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for array in (*self.train, *self.test):
            digest.update(np.ascontiguousarray(array))
        height, width, _ = self.image_shape
        if height != width:  # for square images, the number of bytes determines the shape
            digest.update(f"{height} x {width}".encode())
        return digest.hexdigest()

    def checked(self) -> "Dataset":
        """Returns itself if it is valid.

        Raises:
            UserError: a class has no images or an invalid name, there are fewer than two classes, images are too small,
                or the numbers of images and labels differ.
        """
        if problem := next(self._problems(), None):
            raise UserError(f"{self.source}: {problem}")
        return self

    def _problems(self) -> Iterator[str]:
        for part, images in (("training", self.train), ("test", self.test)):
            count = len(images.images)
            if not count:
                yield f"there are no {part} images"
            if len(images.labels) != count:
                yield f"there are {count:,} {part} images, but {len(images.labels):,} labels"
            found = set(images.labels.tolist())
            for label, name in enumerate(self.class_names):
                if label not in found:
                    numbered = "; labels count from 0 without gaps" if name == str(label) else ""
                    yield f"class {label} ({name}) has no {part} images; every class needs some{numbered}"
            if found and max(found) >= len(self.class_names):
                yield f"class {max(found)} has {part} images, but there are {len(self.class_names)} classes"
        if len(self.class_names) < 2:
            yield f"there is only one class ({', '.join(self.class_names)}); at least two are needed"
        if min(self.image_shape[:2]) < _SMALLEST_SIDE:
            side = _SMALLEST_SIDE
            yield f"its images have {self.image_shape[0]} x {self.image_shape[1]} pixels; {side} x {side} are needed"
        if len(set(self.class_names)) < len(self.class_names):
            yield "two classes have the same name"
        for name in self.class_names:
            if not (name.isprintable() and 0 < len(name) <= _LONGEST_NAME):
                yield f"the class name {name[:100]!r} is empty, too long, or not printable"


def memory_for_images() -> int:
    """The limit for a data set's images, in bytes: an eighth of the memory, since training makes several copies."""
    memory = 8 * 2**30  # if the system does not tell
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return memory // 8


def split(dataset: Dataset, settings: Data) -> tuple[Images, Images]:
    """Splits the training set into (training, validation) images, as `settings.protocol` says.

    Raises:
        UserError: there are too few images.
    """
    train = dataset.train
    training, held_out = _positions(dataset, settings)
    every = len(training) == len(train.labels)  # then a copy would only cost memory
    return train if every else train.select(training), dataset.test if held_out is None else train.select(held_out)


def last_batch(images: int, batch_size: int) -> int:
    """The number of images in the last batch of an epoch."""
    return images % batch_size or batch_size


def split_counts(dataset: Dataset, settings: Data) -> tuple[int, int]:
    """The numbers of training and validation images; copies no image. Raises UserError as `split`."""
    training, held_out = _positions(dataset, settings)
    return len(training), len(dataset.test.labels if held_out is None else held_out)


def _positions(dataset: Dataset, settings: Data) -> tuple[np.ndarray, np.ndarray | None]:
    """The training images' positions in the training set, and the held-out ones' (None: the test set validates)."""
    labels = dataset.train.labels
    training, held_out = np.arange(len(labels)), None
    if not settings.optimistic:
        count = min(settings.validation_images, len(labels) // 5)  # at least four fifths remain for training
        mask = _stratified(labels, count, np.random.default_rng(settings.split_seed), left=1)
        if not mask.any():
            raise UserError(
                f"{dataset.source}: {len(labels)} training images are too few to hold out a fifth for validation"
            )
        training, held_out = training[~mask], training[mask]
    count = settings.training_images
    if count is None:
        return training, held_out
    if count > len(training):
        raise UserError(f"data.training_images: {count} is more than the {len(training)} left for training")
    some = _stratified(labels[training], count, np.random.default_rng([settings.split_seed, 1]))
    return training[some], held_out


def _stratified(labels: np.ndarray, count: int, rng: np.random.Generator, left: int = 0) -> np.ndarray:
    """A random mask of `count` images, stratified by class; fewer where a class would not have `left` others."""
    sizes = np.bincount(labels)
    each, rest = np.divmod(sizes * count, len(labels))
    # Largest remainder method: the images lost by rounding down go to the classes that lost most; ties to the first.
    each[np.argsort(-rest, kind="stable")[: count - each.sum()]] += 1
    each = np.clip(each, 0, np.maximum(sizes - left, 0))
    mask = np.zeros(len(labels), bool)
    taken = [rng.permutation(np.flatnonzero(labels == label))[:most] for label, most in enumerate(each)]
    mask[np.concatenate(taken)] = True
    return mask


def check_fits(dataset: Dataset, config: Config) -> None:
    """Raises a UserError if the data set does not fit the split, the augmentation, or the files of a run."""
    split_counts(dataset, config.data)
    size = config.data.image_size
    if size != Data().image_size and not dataset.name.endswith("/"):
        raise UserError(
            f"data.image_size: {size} has no effect on {dataset.name}: only a folder's pictures are resized"
        )
    count, classes = len(dataset.test.labels), len(dataset.class_names)
    most = records.LARGEST_PREDICTIONS // (2 * classes + 4)  # bytes of an image's logits, and of its label
    if count > most:
        told = f"{count:,} test images of {classes} classes are too many for predictions.npz; at most {most:,}"
        raise UserError(f"{dataset.source}: {told}")
    height, width, _ = dataset.image_shape
    side = min(height, width)
    for key, most in (("shift", side // 2), ("cutout", side)):
        if (value := getattr(config.augmentation, key)) > most:
            raise UserError(
                f"augmentation.{key}: {value} is too much for images of {height} x {width} pixels; at most {most}"
            )
