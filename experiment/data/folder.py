"""Data sets in folders of classes: train/<class>/*.png and test/<class>/*.png (or .jpg, .jpeg, .webp)."""

import itertools
import os
from pathlib import Path

import numpy as np

from experiment.data.dataset import MOST_CLASSES, Dataset, Images, memory_for_images
from experiment.data.pictures import read_square
from experiment.errors import UserError

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
_FORMATS = ("PNG", "JPEG", "WEBP")
_BELONG = "pictures belong into folders, train/<class>/ and test/<class>/"
_NO_PICTURES = {"thumbs.db", "desktop.ini"}  # created by Windows


def is_one(path: Path) -> bool:
    """Whether this is a folder of classes: it contains a folder `train` (in CIFAR-100, `train` is a file)."""
    return os.path.isdir(path / "train")  # noqa: PTH112 (never raises)


def read(path: Path, size: int) -> Dataset:
    """Reads a folder of classes, sorted by class name and file name.

    Pictures are cropped and resized to `size` x `size` pixels by `read_square`. If all are grey, images have one
    channel, otherwise three.

    Raises:
        UserError: a class is empty or missing from `test`, a file is damaged or not a picture, or the images are too
            large for the memory.
    """
    class_names = _classes(path / "train")
    if not class_names:
        raise UserError(f"{path / 'train'} contains no classes; {_BELONG}")
    for place in (Path("test"), *(Path("test", name) for name in class_names)):
        if not os.path.isdir(path / place):  # noqa: PTH112 (never raises)
            named = f"the class {place.name}" if place.name != "test" else f"the classes {', '.join(class_names)}"
            raise UserError(f"{path}: there is no {place}, but train has {named}")
    files = {part: [_pictures(path / part / name, size) for name in class_names] for part in ("train", "test")}
    if unknown := set(_classes(path / "test")) - set(class_names):
        raise UserError(f"{path / 'test' / min(unknown)}: {path / 'train'} contains no class of this name")
    count = sum(len(group) for groups in files.values() for group in groups)
    if count * size * size * 3 > memory_for_images():
        raise UserError(
            f"{path}: {count:,} pictures of {size} x {size} exceed the limit of {memory_for_images() / 2**30:.1f} GiB "
            "on this machine; use a lower data.image_size"
        )
    train, test = (_load(files[part], size) for part in ("train", "test"))
    if all((images == images[..., :1]).all() for images, _ in (train, test)):
        train, test = (part._replace(images=part.images[..., :1]) for part in (train, test))
    return Dataset(f"{path.name}/", train, test, tuple(class_names), str(path.absolute())).checked()


def _classes(path: Path) -> list[str]:
    names = []
    for entry in _entries(path, MOST_CLASSES):
        if os.path.isdir(entry.path):  # noqa: PTH112 (never raises)
            names.append(entry.name)
        elif entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110
            raise UserError(f"{entry.path} is a link that leads nowhere; mend or remove it")
        elif entry.name.lower().endswith(_ENDINGS):
            raise UserError(f"{entry.path} is in no class; {_BELONG}")
    return names


def _entries(path: Path, most: int) -> list[os.DirEntry]:
    """The entries of a folder, sorted by name, without hidden files."""
    try:
        with os.scandir(path) as entries:
            shown = (e for e in entries if not e.name.startswith(".") and e.name.lower() not in _NO_PICTURES)
            found = list(itertools.islice(shown, most + 1))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. It must contain a folder for each class") from None
    if len(found) > most:
        raise UserError(f"{path} contains more than {most:,} entries")
    return sorted(found, key=lambda entry: entry.name)


def _pictures(path: Path, size: int) -> list[str]:
    files = _entries(path, memory_for_images() // (3 * size * size))
    for file in files:
        if not file.name.lower().endswith(_ENDINGS):
            raise UserError(f"{file.path}: only {', '.join(_ENDINGS)} files are supported; convert or remove it")
    return [file.path for file in files]


def _load(classes: list[list[str]], size: int) -> Images:
    """Images uint8 [n, size, size, 3] and labels of the files of each class."""
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), [*map(len, classes)])
    images = np.empty((len(labels), size, size, 3), np.uint8)
    for position, file in enumerate(itertools.chain(*classes)):
        images[position] = read_square(Path(file), images.shape[1:], _FORMATS)
    return Images(images, labels)
