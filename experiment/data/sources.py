"""Finds the data set that `--data` names: on disk, in Keras's cache, or by the official download.

Source of CIFAR-10: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import os
from pathlib import Path

import numpy as np

from experiment.data import cifar
from experiment.data.dataset import Dataset, Images
from experiment.data.synthetic import generate
from experiment.errors import UserError

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class NotFound(UserError):
    """There is no CIFAR-10 where it was looked for."""


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
