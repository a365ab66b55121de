"""Images with their labels, and the split of the training set.

Images are uint8 [n, h, w, c] of any size, with one channel or three; labels are int32 [n].
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from experiment.config import Data
from experiment.errors import UserError


class Images(NamedTuple):
    """Images [n, h, w, c] uint8 and their labels [n] int32."""

    images: np.ndarray
    labels: np.ndarray

    def select(self, positions: np.ndarray) -> "Images":
        return Images(self.images[positions], self.labels[positions])


@dataclass(frozen=True)
class Dataset:
    """A training and a test set, what they are called, and where they were read from."""

    name: str  # "cifar10" or "generated"
    train: Images
    test: Images
    class_names: tuple[str, ...]
    source: str

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
        return digest.hexdigest()


def split(dataset: Dataset, settings: Data) -> tuple[Images, Images]:
    """The images that train and those that choose the best weights: (training, validation).

    With `held_out` the same number of each class is split off the training set, drawn by `split_seed`.

    Raises:
        UserError: `validation_images` does not divide evenly among the classes or leaves none to train on.
    """
    if settings.protocol == "test_as_validation":
        return _some_of(dataset.train, settings, classes=len(dataset.class_names)), dataset.test
    labels, classes = dataset.train.labels, len(dataset.class_names)
    if settings.validation_images % classes:
        raise UserError(f"data.validation_images: {settings.validation_images} is not a multiple of {classes} classes")
    count = min(settings.validation_images, len(labels) // 5)  # a small set keeps four fifths to train on
    held_out = _stratified(labels, classes, count // classes, np.random.default_rng(settings.split_seed))
    return _some_of(dataset.train.select(~held_out), settings, classes), dataset.train.select(held_out)


def _some_of(images: Images, settings: Data, classes: int) -> Images:
    """As many training images as the settings ask for, the same number of each class."""
    count = settings.training_images
    if count is None:
        return images
    if count % classes or count > classes * np.bincount(images.labels, minlength=classes).min():
        raise UserError(
            f"data.training_images: {count} cannot be had of {len(images.labels)} images, as many of each of {classes} "
            "classes"
        )
    rng = np.random.default_rng([settings.split_seed, 1])
    return images.select(_stratified(images.labels, classes, count // classes, rng))


def _stratified(labels: np.ndarray, classes: int, each: int, rng: np.random.Generator) -> np.ndarray:
    """A mask that takes `each` images of every class."""
    mask = np.zeros(len(labels), bool)
    mask[np.concatenate([rng.permutation(np.flatnonzero(labels == label))[:each] for label in range(classes)])] = True
    return mask
