"""Own images from a folder of classes: train/<class>/*.png and test/<class>/*.png (or .jpg, .jpeg)."""

import itertools
import os
from pathlib import Path

import numpy as np

from experiment.data.dataset import MOST_CLASSES, Dataset, Images, memory_for_images
from experiment.errors import UserError
from experiment.reading import opened

_ENDINGS = (".png", ".jpg", ".jpeg")
_LARGEST_FILE = 64 * 2**20
_MOST_PIXELS = 64 * 2**20  # of a picture before it is resized: 8,000 by 8,000
_NO_PICTURES = {"thumbs.db", "desktop.ini"}  # put there by Windows


def is_one(path: Path) -> bool:
    """Whether this is a folder of classes: it has a folder `train` (CIFAR-100's official `train` is a file)."""
    try:
        return (path / "train").is_dir()
    except OSError:
        return False


def read(path: Path, size: int) -> Dataset:
    """The data set of a folder of classes: the classes by name, the pictures of each by file name.

    Every picture is turned as its camera says, resized to `size` by `size` pixels (bilinear, smoothed), and kept in
    colour, or in grey where all of them are grey.

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
    loaded = {part: _load(groups, size) for part, groups in files.items()}
    channels = slice(None) if any(coloured for _, coloured in loaded.values()) else slice(1)
    train, test = (
        Images(
            loaded[part][0][..., channels],
            np.repeat(np.arange(len(class_names), dtype=np.int32), [*map(len, files[part])]),
        )
        for part in ("train", "test")
    )
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


def _load(groups: list[list[str]], size: int) -> tuple[np.ndarray, bool]:
    """The pictures of all groups [n, size, size, 3], and whether any of them has colours."""
    files = [file for group in groups for file in group]
    images, coloured = np.empty((len(files), size, size, 3), np.uint8), False
    for position, file in enumerate(files):
        images[position], grey = _picture(Path(file), size)
        coloured |= not grey
    return images, coloured


def _picture(path: Path, size: int) -> tuple[np.ndarray, bool]:
    from PIL import Image, ImageOps  # comes with matplotlib

    # A link may lead to a picture; whatever is not a regular file is refused, as is what Pillow cannot read.
    with opened(path, _LARGEST_FILE, follow=True) as file, Image.open(file, formats=("PNG", "JPEG")) as picture:
        if picture.width * picture.height > _MOST_PIXELS:
            raise UserError(f"{path}: {picture.width:,} x {picture.height:,} pixels are too many for a picture here")
        if picture.mode.startswith(("I", "F")):
            raise UserError(f"{path}: it has more than 8 bits a channel; save it with 8")
        picture.draft("RGB", (size, size))  # a large JPEG is decoded at a part of its size
        grey = picture.mode in ("1", "L", "LA")
        turned = ImageOps.exif_transpose(picture).convert("RGB")
        return np.asarray(turned.resize((size, size), Image.Resampling.BILINEAR)), grey
