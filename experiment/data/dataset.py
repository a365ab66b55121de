"""Images with their labels, and the split of the training set.

Images are uint8 [n, h, w, c] of any size, with one channel or three; labels are int32 [n].
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiment.config import DATA_NAMES, Config, Data
from experiment.errors import UserError

MOST_CLASSES = 1_000
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
    """A training and a test set, the names of their classes, and where they were read from."""

    name: str  # "cifar10", "cifar100", "synthetic", or of own images the name of the file, or of the folder with a /
    train: Images
    test: Images
    class_names: tuple[str, ...]
    source: str

    @property
    def data_name(self) -> str | None:
        """The `data.name` of a configuration that asks for it; None where it was made in memory."""
        if self.name in DATA_NAMES:
            return self.name
        return self.source if Path(self.source).is_absolute() else None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        return self.train.images.shape[1:]

    def fingerprint(self) -> str:
        """A SHA-256, computed once, over every image and label: equal for equal data, wherever it was read from."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for array in (*self.train, *self.test):
            digest.update(np.ascontiguousarray(array))
        height, width, _ = self.image_shape
        if height != width:  # square images say their shape by the number of their bytes
            digest.update(f"{height} x {width}".encode())
        return digest.hexdigest()

    def checked(self) -> "Dataset":
        """Itself, where it can be trained and tested on.

        Raises:
            UserError: it has fewer than two classes or a class without images, its images are too small, or it has not
                as many labels as images.
        """
        problem = next(self._problems(), None)
        if problem:
            raise UserError(f"{self.source}: {problem}")
        return self

    def _problems(self) -> Iterator[str]:
        for part, images in (("training", self.train), ("test", self.test)):
            count = len(images.images)
            if not count:
                yield f"there are no {part} images"
            if len(images.labels) != count:
                yield f"there are {count:,} {part} images and {len(images.labels):,} labels of them"
            found = set(images.labels.tolist())
            for label, name in enumerate(self.class_names):
                if label not in found:
                    yield f"class {label} ({name}) has no {part} images; number the classes from 0 without gaps"
            if found and max(found) >= len(self.class_names):
                yield f"class {max(found)} has {part} images, and there are {len(self.class_names)} classes"
        if len(self.class_names) < 2:
            yield f"there is one class alone ({', '.join(self.class_names)}), so nothing to tell apart"
        if min(self.image_shape[:2]) < _SMALLEST_SIDE:
            yield f"its images have {self.image_shape[0]} x {self.image_shape[1]} pixels; {_SMALLEST_SIDE} are needed"
        if len(set(self.class_names)) < len(self.class_names):
            yield "two classes have one name"
        for name in self.class_names:
            if not (name.isprintable() and 0 < len(name) <= _LONGEST_NAME):
                yield f"a class cannot be called {name[:100]!r}"


def memory_for_images() -> int:
    """How many bytes a data set's images may have: an eighth of the memory, since training holds them several times."""
    memory = 8 * 2**30  # where the system does not say
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return memory // 8


def training_count(dataset: Dataset, settings: Data) -> int:
    """How many images train, without making the split."""
    count = len(dataset.train.labels)
    held_out = min(settings.validation_images, count // 5) if settings.protocol == "held_out" else 0
    return settings.training_images or count - held_out


def split(dataset: Dataset, settings: Data) -> tuple[Images, Images]:
    """The images that train and those that choose the best weights: (training, validation).

    With `held_out`, `validation_images` are split off the training set, drawn by `split_seed`, of each class as many as
    its share is.

    Raises:
        UserError: there are too few images for that.
    """
    train = dataset.train
    if settings.protocol == "test_as_validation":
        return _some_of(train, settings), dataset.test
    count = min(settings.validation_images, len(train.labels) // 5)  # a small set keeps four fifths to train on
    held_out = _stratified(train.labels, count, np.random.default_rng(settings.split_seed))
    if not held_out.any():
        raise UserError(f"{dataset.source}: {len(train.labels)} training images are too few to hold any out")
    return _some_of(train.select(~held_out), settings), train.select(held_out)


def _some_of(images: Images, settings: Data) -> Images:
    """As many training images as the settings ask for, of each class as many as its share is."""
    count = settings.training_images
    if count is None:
        return images
    if count > len(images.labels):
        raise UserError(f"data.training_images: there are {len(images.labels)}, not {count}")
    return images.select(_stratified(images.labels, count, np.random.default_rng([settings.split_seed, 1])))


def _stratified(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """A mask that takes `count` images, of every class as many as its share is, to the nearest."""
    sizes = np.bincount(labels)
    each, rest = np.divmod(sizes * count, len(labels))
    # What rounding down left over goes to the classes that lost most by it; of equals to the first.
    each[np.argsort(-rest, kind="stable")[: count - each.sum()]] += 1
    mask = np.zeros(len(labels), bool)
    taken = [rng.permutation(np.flatnonzero(labels == label))[:most] for label, most in enumerate(each)]
    mask[np.concatenate(taken)] = True
    return mask


def check_fits(dataset: Dataset, config: Config) -> None:
    """Raises a UserError where a configuration asks of these images what they do not have."""
    split(dataset, config.data)
    most = min(dataset.image_shape[:2]) // 2
    if config.augmentation.shift > most:
        raise UserError(
            f"augmentation.shift: {config.augmentation.shift} is too far for images of {dataset.image_shape[0]} x "
            f"{dataset.image_shape[1]} pixels; {most} at most"
        )
