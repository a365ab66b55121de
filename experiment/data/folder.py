"""Own images from a folder of classes: train/<class>/*.png and test/<class>/*.png (or .jpg, .jpeg)."""

import itertools
import os
from pathlib import Path

import numpy as np

from experiment.data.dataset import MOST_CLASSES, Dataset, Images, memory_for_images
from experiment.data.pictures import read_square
from experiment.errors import UserError

_ENDINGS = (".png", ".jpg", ".jpeg")
_FORMATS = ("PNG", "JPEG")
_NO_PICTURES = {"thumbs.db", "desktop.ini"}  # put there by Windows


def is_one(path: Path) -> bool:
    """Whether this is a folder of classes: it has a folder `train` (CIFAR-100's official `train` is a file)."""
    try:
        return (path / "train").is_dir()
    except OSError:
        return False


def read(path: Path, size: int) -> Dataset:
    """The data set of a folder of classes: the classes by name, the pictures of each by file name.

    Every picture is read as `read_square` reads it, at `size` by `size` pixels, and kept in colour, or with one channel
    where all of them are grey.

    Raises:
        UserError: a class is empty or missing from `test`, a file is no picture or damaged (it is named), or they are
            more than there is memory for.
    """
    class_names = [entry.name for entry in _entries(path / "train", MOST_CLASSES) if entry.is_dir()]
    files = {part: [_pictures(path / part / name, size) for name in class_names] for part in ("train", "test")}
    for entry in _entries(path / "test", MOST_CLASSES):
        if entry.is_dir() and entry.name not in class_names:
            raise UserError(f"{entry.path}: there is no class of this name in {path / 'train'}")
    count = sum(len(group) for groups in files.values() for group in groups)
    if count * size * size * 3 > memory_for_images():
        raise UserError(
            f"{path}: {count:,} pictures of {size} x {size} need more memory than the "
            f"{memory_for_images() / 2**30:.1f} GiB that this machine has for them; use a lower data.image_size"
        )
    train, test = (
        Images(
            _load(files[part], size), np.repeat(np.arange(len(class_names), dtype=np.int32), [*map(len, files[part])])
        )
        for part in ("train", "test")
    )
    if all((images == images[..., :1]).all() for images, _ in (train, test)):
        train, test = (part._replace(images=part.images[..., :1]) for part in (train, test))
    return Dataset(f"{path.name}/", train, test, tuple(class_names), str(path.absolute())).checked()


def _entries(path: Path, most: int) -> list[os.DirEntry]:
    """What lies in a folder, by name, without hidden files."""
    try:
        with os.scandir(path) as entries:
            shown = (
                entry for entry in entries if not entry.name.startswith(".") and entry.name.lower() not in _NO_PICTURES
            )
            found = list(itertools.islice(shown, most + 1))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. It must hold a folder for each class") from None
    if len(found) > most:
        raise UserError(f"{path}: it holds more than {most:,} entries")
    return sorted(found, key=lambda entry: entry.name)


def _pictures(path: Path, size: int) -> list[str]:
    files = _entries(path, memory_for_images() // (3 * size * size))
    for file in files:
        if not file.name.lower().endswith(_ENDINGS):
            raise UserError(f"{file.path}: only {', '.join(_ENDINGS)} are read; convert it or move it away")
    return [file.path for file in files]


def _load(groups: list[list[str]], size: int) -> np.ndarray:
    """The pictures of all groups, uint8 [n, size, size, 3]."""
    files = [file for group in groups for file in group]
    images = np.empty((len(files), size, size, 3), np.uint8)
    for position, file in enumerate(files):
        images[position] = read_square(Path(file), images.shape[1:], _FORMATS)
    return images
