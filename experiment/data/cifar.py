"""Parser for the official files of CIFAR-10 and CIFAR-100, unpacked or in their archives.

The files are untrusted input: no code in them is executed, nothing is unpacked to disk, and sizes are limited.
Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiment.data import pickled
from experiment.data.archive import read_members
from experiment.data.dataset import Dataset, Images
from experiment.errors import UserError
from experiment.reading import read_bytes

IMAGE_SHAPE = (32, 32, 3)
_PLANES = (3, 32, 32)
_PIXELS = math.prod(_PLANES)

_CIFAR100_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
    man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
    pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
    skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
    tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


class Version(NamedTuple):
    """The format of one of the two data sets."""

    name: str
    title: str
    train: dict[str, int]  # the official files, with their numbers of images
    test: dict[str, int]
    python: str  # the folder in the archive of the python version
    binary: str  # the folder in the archive of the binary version
    label_key: bytes
    label_bytes: int  # in a binary record; the last one is the label
    largest_file: int  # in bytes
    class_names: tuple[str, ...]

    @property
    def folders(self) -> tuple[str, str]:
        return self.python, self.binary

    @property
    def archives(self) -> dict[str, str]:
        """The names of the official archives, with the folders in them."""
        stem = self.title.lower()
        return {f"{stem}-python.tar.gz": self.python, f"{stem}-binary.tar.gz": self.binary}


CIFAR10 = Version(
    "cifar10",
    "CIFAR-10",
    {f"data_batch_{number}": 10_000 for number in range(1, 6)},
    {"test_batch": 10_000},
    "cifar-10-batches-py",
    "cifar-10-batches-bin",
    b"labels",
    1,
    64 * 2**20,  # the official files have 30 MiB; one written by Python 3 may have 45
    ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)
CIFAR100 = Version(
    "cifar100",
    "CIFAR-100",
    {"train": 50_000},
    {"test": 10_000},
    "cifar-100-python",
    "cifar-100-binary",
    b"fine_labels",
    2,
    176 * 2**20,  # the official training file has 148 MiB
    tuple(_CIFAR100_CLASSES.split()),
)


def find(folder: Path, version: Version) -> Path | None:
    """The official folder or archive that `folder` is or contains; None if there is none."""
    first = next(iter(version.train))
    try:
        for candidate in (folder, *(folder / name for name in version.folders)):
            if (candidate / first).is_file() or (candidate / f"{first}.bin").is_file():
                return candidate
        return next((folder / name for name in version.archives if (folder / name).is_file()), None)
    except OSError:  # no permission, a name that is too long
        return None


def read(source: Path, version: Version) -> Dataset:
    """Reads the folder or archive returned by `find`.

    The images are sorted by their pixels, so that all copies and formats give the same arrays, and therefore the same
    split and the same training run.

    Raises:
        UserError: a file is missing, damaged, or not part of this data set.
    """
    members = None if source.is_dir() else _members(source, version)

    def images(files: dict[str, int]) -> Images:
        batches = [_read_file(source, members, name, count, version) for name, count in files.items()]
        return _canonical_order(*map(np.concatenate, zip(*batches, strict=True)))

    return Dataset(version.name, images(version.train), images(version.test), version.class_names, str(source))


def _members(source: Path, version: Version) -> dict[str, bytes]:
    """The contents of the archive's files, by their names without the folder."""
    folder = version.archives[source.name]
    ending = ".bin" if folder == version.binary else ""
    wanted = {f"{folder}/{name}{ending}" for name in (version.train | version.test)}
    found = read_members(source, wanted, version.largest_file)
    for missing in sorted(wanted - found.keys()):
        raise UserError(f"{source}: the member {missing} is missing, or is not a regular file")
    return {name.removeprefix(f"{folder}/"): content for name, content in found.items()}


def _read_file(
    source: Path, members: dict[str, bytes] | None, name: str, count: int, version: Version
) -> tuple[np.ndarray, np.ndarray]:
    """One official file: pixels uint8 [n, 3072], channels first, and labels [n]."""
    binary = not (source / name).is_file() if members is None else name not in members
    path = source / (f"{name}.bin" if binary else name)
    content = members[path.name] if members is not None else read_bytes(path, version.largest_file, follow=True)
    pixels, labels = (decode_binary if binary else decode_pickle)(content, path, count, version)
    most = len(version.class_names) - 1
    if labels.min() < 0 or labels.max() > most:
        raise UserError(f"{path}: labels must be 0 to {most}, not {labels.min()} to {labels.max()}")
    return pixels, labels


def decode_binary(content: bytes, path: Path, count: int, version: Version) -> tuple[np.ndarray, np.ndarray]:
    record = version.label_bytes + _PIXELS
    if len(content) != count * record:
        sizes = f"{len(content):,} bytes instead of {count * record:,}"
        raise UserError(f"{path}: {sizes}; it is truncated, or not a file of {version.title}")
    records = np.frombuffer(content, np.uint8).reshape(count, record)
    return records[:, version.label_bytes :], records[:, version.label_bytes - 1]


def decode_pickle(content: bytes, path: Path, count: int, version: Version) -> tuple[np.ndarray, np.ndarray]:
    try:
        batch = pickled.read(content)
        labels = batch[version.label_key]
        if type(labels) is not list or not all(type(label) is int for label in labels):
            raise ValueError("its labels are not a list of integers")
        if len(labels) != count:
            raise ValueError(f"it has {len(labels)} labels, not {count}")
        return pickled.as_array(batch[b"data"], (count, _PIXELS)), np.array(labels, np.int64)
    except UserError as error:
        raise UserError(f"{path}: refused: {error}") from None
    except Exception as error:  # a damaged pickle can raise exceptions of any type
        raise UserError(f"{path}: damaged, or not {version.title}'s python version: {str(error)[:200]}") from None


def _canonical_order(pixels: np.ndarray, labels: np.ndarray) -> Images:
    """Sorts by pixels, and converts [n, 3072], channels first, into [n, 32, 32, 3]."""
    order = np.argsort(np.ascontiguousarray(pixels).view(f"V{_PIXELS}").ravel(), kind="stable")
    images = pixels[order].reshape(-1, *_PLANES).transpose(0, 2, 3, 1)
    return Images(np.ascontiguousarray(images), labels[order].astype(np.int32))
