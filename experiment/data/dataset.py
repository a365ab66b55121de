"""CIFAR-10 from disk or the official download, its validation split, and generated images in its shape.

Images are uint8 [n, 32, 32, 3]; labels are int32 [n]. Source: Krizhevsky, "Learning Multiple Layers of Features from
Tiny Images", 2009, https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiment.config import Data
from experiment.data import cifar
from experiment.errors import UserError

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
GENERATED_CLASS_NAMES = (
    "disc", "ring", "square", "frame", "triangle", "cross", "bars across", "bars down", "checkers", "dots",
)  # fmt: skip


class NotFound(UserError):
    """There is no CIFAR-10 where it was looked for."""


class Images(NamedTuple):
    """Images [n, 32, 32, 3] uint8 and their labels [n] int32."""

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

    def fingerprint(self) -> str:
        """A SHA-256, computed once, over every image and label: equal for equal data, wherever it was read from."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for array in (*self.train, *self.test):
            digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()


def load(where: str | None = None, download: bool = True) -> Dataset:
    """The data set that `--data` names, or the CIFAR-10 that is found first.

    Args:
        where: "generated", "download", a directory, or None to look in CIFAR10_DIR, then in Keras's cache, and at last
            to download.
        download: whether it may come to that last step.

    Raises:
        UserError: nothing was found (with what was tried), or a file is not what CIFAR-10's files are.
    """
    if where == "generated":
        return generate()
    if where == "download":
        return _download([])
    if where is not None:
        return read(Path(where))
    tried = []
    named = os.environ.get("CIFAR10_DIR")
    if named:
        return read(Path(named), named_by="the environment variable CIFAR10_DIR")
    tried.append("the environment variable CIFAR10_DIR: not set")
    for folder in _keras_cache():
        if cifar.find(folder):
            return read(folder)
    tried.append(f"Keras's cache {' and '.join(map(str, _keras_folders()))}: no CIFAR-10 there")
    if not download:
        raise NotFound("no CIFAR-10 on this machine. Tried:\n  " + "\n  ".join(tried))
    return _download(tried)


def read(folder: Path, named_by: str = "--data") -> Dataset:
    """Reads CIFAR-10 from a directory that is or holds an official folder, or holds an official archive.

    The images are put into one order that depends on their pixels alone, so every copy of CIFAR-10, whatever its
    format and the order inside it, gives the same arrays and therefore the same split and the same training run.

    Raises:
        UserError: the directory holds no CIFAR-10, or a file in it is damaged or holds something else.
    """
    source = cifar.find(folder)
    if source is None:
        known = ", ".join([*(f"{name}/" for name in cifar.FOLDERS), *cifar.ARCHIVES])
        readable = os.access(folder, os.R_OK | os.X_OK) and folder.is_dir()
        what = "holds no CIFAR-10" if readable else "is not a directory that can be read"
        raise NotFound(f"{folder} ({named_by}) {what}. Name a directory that is or holds one of: {known}")
    train, test = (_canonical_order(pixels, labels) for pixels, labels in cifar.read(source))
    return Dataset("cifar10", train, test, CLASS_NAMES, str(source))


def _canonical_order(pixels: np.ndarray, labels: np.ndarray) -> Images:
    """Sorts by pixels and turns [n, 3072], colour planes first, into [n, 32, 32, 3]."""
    order = np.argsort(np.ascontiguousarray(pixels).view(f"V{pixels.shape[1]}").ravel(), kind="stable")
    images = pixels[order].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Images(np.ascontiguousarray(images), labels[order].astype(np.int32))


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


# ---- finding and downloading -----------------------------------------------------------------------------------------


def _keras_folders() -> list[Path]:
    """The folders of all of Keras's data sets: the second is used where the first cannot be written."""
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    homes = [home] if os.access(home, os.W_OK) else [home, Path("/tmp/.keras")]
    return [home / "datasets" for home in homes]


def _keras_cache() -> list[Path]:
    """The folders in which `keras.datasets.cifar10` of Keras 3 and 2 keeps its files."""
    return [part for folder in _keras_folders() for part in (folder / "cifar-10-batches-py-target", folder)]


def _download(tried: list[str]) -> Dataset:
    from keras.datasets import cifar10

    try:
        cifar10.load_data()  # verifies the archive's SHA-256, shows its progress
    except Exception as error:  # Keras raises a plain Exception for every kind of network failure
        tried = [*tried, f"the official download: {error}"]
        raise NotFound(
            "CIFAR-10 was not found. Tried:\n" + "".join(f"  - {attempt}\n" for attempt in tried) + "Remedies:\n"
            "  --data DIR           a directory with the official files or archive\n"
            "  CIFAR10_DIR=DIR      the same, for every command\n"
            "  --data generated     small made-up images instead, to see that everything works (train.py)"
        ) from None
    kept = _keras_cache()
    return read(next((folder for folder in kept if cifar.find(folder)), kept[0]), named_by="the download")


# ---- generated images ------------------------------------------------------------------------------------------------


def generate(train_images: int = 5_000, test_images: int = 1_000, seed: int = 0) -> Dataset:
    """Ten classes of shapes and textures, made here: nothing to download, the same on every machine.

    Place, size, both colours and noise are random, so a network that sees local patterns learns the classes quickly,
    and a linear classifier on pixels does not.
    """
    rng = np.random.default_rng(seed)
    parts = []
    for count in (train_images, test_images):
        labels = rng.permutation(np.arange(count, dtype=np.int32) % len(GENERATED_CLASS_NAMES))
        parts.append(Images(_draw(labels, rng), labels))
    return Dataset("generated", *parts, GENERATED_CLASS_NAMES, "generated")


def _draw(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n = len(labels)
    centre_y, centre_x = rng.uniform(11, 21, (2, n, 1, 1))
    radius = rng.uniform(7, 11, (n, 1, 1))
    grid = np.arange(32)
    y, x = (grid[None, :, None] - centre_y) / radius, (grid[None, None, :] - centre_x) / radius
    distance, square = np.hypot(y, x), np.maximum(abs(y), abs(x))
    stripes_y, stripes_x = np.sin(4.5 * np.pi * y / 2) > 0, np.sin(4.5 * np.pi * x / 2) > 0
    inside = square < 1
    masks = np.stack(
        [
            distance < 1,
            (distance < 1) & (distance > 0.6),
            square < 0.9,
            (square < 0.95) & (square > 0.55),
            (y < 0.8) & (y > 2 * abs(x) - 0.9),
            inside & (np.minimum(abs(y), abs(x)) < 0.25),
            inside & stripes_y,
            inside & stripes_x,
            inside & (stripes_y ^ stripes_x),
            inside & (np.hypot(y % 0.66 - 0.33, x % 0.66 - 0.33) < 0.2),
        ]
    )[labels, np.arange(n)]
    background = rng.uniform(20, 135, (n, 1, 1, 3))
    contrast = rng.uniform(60, 120, (n, 1, 1, 3))
    pixels = background + contrast * masks[..., None] + rng.normal(0, 14, (n, 32, 32, 3))
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
