"""CIFAR-10 from disk or the official download, its validation split, and generated images in its shape.

Images are uint8 [n, 32, 32, 3]; labels are int32 [n]. Source: Krizhevsky, "Learning Multiple Layers of Features from
Tiny Images", 2009, https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import hashlib
import io
import os
import pickle
import tarfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from experiment.config import Data
from experiment.errors import UserError

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
GENERATED_CLASS_NAMES = (
    "disc", "ring", "square", "frame", "triangle", "cross", "bars across", "bars down", "checkers", "dots",
)  # fmt: skip
IMAGES_PER_FILE = 10_000
_PIXELS = 3 * 32 * 32
_TRAINING_FILES = [f"data_batch_{number}" for number in range(1, 6)]
_PYTHON_FOLDER, _BINARY_FOLDER = "cifar-10-batches-py", "cifar-10-batches-bin"
_ARCHIVES = {"cifar-10-python.tar.gz": _PYTHON_FOLDER, "cifar-10-binary.tar.gz": _BINARY_FOLDER}
_LARGEST_FILE = 64 * 2**20  # the official files have 30 MiB; nothing larger is read into memory


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
        if _find_source(folder):
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
    source = _find_source(folder)
    if source is None:
        known = ", ".join([f"{_PYTHON_FOLDER}/", f"{_BINARY_FOLDER}/", *_ARCHIVES])
        readable = os.access(folder, os.R_OK | os.X_OK) and folder.is_dir()
        what = "holds no CIFAR-10" if readable else "is not a directory that can be read"
        raise NotFound(f"{folder} ({named_by}) {what}. Name a directory that is or holds one of: {known}")
    try:
        train = _canonical_order(*_join([_read_file(source, name) for name in _TRAINING_FILES]))
        test = _canonical_order(*_read_file(source, "test_batch"))
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise UserError(f"{source} cannot be read as CIFAR-10: {error}") from None
    return Dataset("cifar10", train, test, CLASS_NAMES, str(source))


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


def _find_source(folder: Path) -> Path | None:
    """The official folder or archive that `folder` is or holds."""
    try:
        for candidate in (folder, folder / _PYTHON_FOLDER, folder / _BINARY_FOLDER):
            if (candidate / "data_batch_1").is_file() or (candidate / "data_batch_1.bin").is_file():
                return candidate
        return next((folder / name for name in _ARCHIVES if (folder / name).is_file()), None)
    except OSError:  # a directory that may not be entered, a name that is too long
        return None


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
    return read(next((folder for folder in kept if _find_source(folder)), kept[0]), named_by="the download")


# ---- reading ---------------------------------------------------------------------------------------------------------


def _read_file(source: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """One official file: pixels uint8 [10000, 3072] and labels [10000]."""
    if source.is_dir():
        binary = not (source / name).is_file()
        path = source / (f"{name}.bin" if binary else name)
        if not path.is_file():
            raise UserError(f"{source}: the file {path.name} is missing")
        content = _read_limited(path.open("rb"), path)
    else:
        binary = _ARCHIVES[source.name] == _BINARY_FOLDER
        member = f"{_ARCHIVES[source.name]}/{name}{'.bin' if binary else ''}"
        path = source / member
        # Members are read by their exact names and into memory: nothing is unpacked, so none can land elsewhere.
        with tarfile.open(source, "r:gz") as archive:
            try:
                stream = archive.extractfile(member)
            except (KeyError, RecursionError):  # absent, a link to what is absent, a link to itself
                stream = None
            if stream is None:
                raise UserError(f"{source}: the member {member} is missing")
            content = _read_limited(stream, path)
    pixels, labels = _decode_binary(content, path) if binary else _decode_pickle(content, path)
    if labels.min() < 0 or labels.max() > 9:
        raise UserError(f"{path}: labels are 0 to 9; this file has {labels.min()} to {labels.max()}")
    return pixels, labels


def _read_limited(stream, path: Path) -> bytes:
    with stream:
        content = stream.read(_LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise UserError(f"{path}: larger than any file of CIFAR-10")
    return content


def _decode_binary(content: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    expected = IMAGES_PER_FILE * (1 + _PIXELS)
    if len(content) != expected:
        raise UserError(
            f"{path}: {len(content):,} bytes instead of {expected:,}; the file is truncated or not CIFAR-10's"
        )
    records = np.frombuffer(content, np.uint8).reshape(IMAGES_PER_FILE, 1 + _PIXELS)
    return records[:, 1:], records[:, 0]


class _PickledArray:
    """Stands in for a NumPy array while unpickling: keeps the raw bytes, runs nothing."""

    def __init__(self, *arguments):
        self.state = None

    def __setstate__(self, state):
        self.state = state


class _PickledDtype:
    def __init__(self, *arguments):
        self.name = arguments[0] if arguments else None

    def __setstate__(self, state):
        pass


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """`_codecs.encode` as Python 3 uses it to write bytes into a protocol 2 pickle."""
    return text.encode("latin-1")


class _RestrictedUnpickler(pickle._Unpickler):
    """Reads only what CIFAR-10's files need: containers, numbers, strings, and stand-ins for NumPy's arrays.

    It builds on Python's own unpickler and not on the C one, whose memo can be made to grow without bound.
    """

    _ALLOWED: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"): _PickledArray,
        ("numpy._core.multiarray", "_reconstruct"): _PickledArray,
        ("numpy", "ndarray"): _PickledArray,
        ("numpy", "dtype"): _PickledDtype,
        ("_codecs", "encode"): _latin1_bytes,
    }

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self._tuples = 0

    def _count_tuple(self):
        # Tuples of tuples as keys take time without bound to hash; the official files have a handful.
        self._tuples += 1
        if self._tuples > 20:
            raise UserError("it holds more tuples than any file of CIFAR-10")

    def _counted(load):
        def counting(self):
            self._count_tuple()
            load(self)

        return counting

    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)
    for _opcode in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3):
        dispatch[_opcode[0]] = _counted(dispatch[_opcode[0]])

    def find_class(self, module, name):
        try:
            return self._ALLOWED[module, name]
        except KeyError:
            raise UserError(
                f"it names {module}.{name}, which no file of CIFAR-10 does; nothing of it was run"
            ) from None

    def persistent_load(self, pid):
        raise UserError("it names a persistent object, which no file of CIFAR-10 does")


def _decode_pickle(content: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        batch = _RestrictedUnpickler(io.BytesIO(content), encoding="bytes").load()
        state = batch[b"data"].state
        shape, raw, labels = state[1], state[4], np.array(batch[b"labels"], np.int64)
        if tuple(shape) != (IMAGES_PER_FILE, _PIXELS) or len(raw) != IMAGES_PER_FILE * _PIXELS or state[3]:
            raise ValueError(f"its array has the shape {shape}, not {(IMAGES_PER_FILE, _PIXELS)}")
        if labels.shape != (IMAGES_PER_FILE,):
            raise ValueError(f"it has {labels.size} labels, not {IMAGES_PER_FILE}")
        return np.frombuffer(raw, np.uint8).reshape(shape), labels
    except UserError as error:
        raise UserError(f"{path}: refused: {error}") from None
    except Exception as error:  # a damaged pickle fails in any way it likes
        raise UserError(f"{path}: not a file of CIFAR-10's python version, or damaged: {str(error)[:200]}") from None


def _join(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([pixels for pixels, _ in parts]), np.concatenate([labels for _, labels in parts])


def _canonical_order(pixels: np.ndarray, labels: np.ndarray) -> Images:
    """Sorts by pixels and turns [n, 3072], colour planes first, into [n, 32, 32, 3]."""
    order = np.argsort(np.ascontiguousarray(pixels).view(f"V{_PIXELS}").ravel(), kind="stable")
    images = pixels[order].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Images(np.ascontiguousarray(images), labels[order].astype(np.int32))


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
