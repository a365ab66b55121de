"""CIFAR-10's official files, unpacked or as the archive, read as files that nobody vouches for.

Nothing of a file is run or unpacked, none is read beyond a size, and whatever is wrong with one is said by its name.
Source: https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import io
import pickle
import tarfile
import zlib
from pathlib import Path
from typing import ClassVar

import numpy as np

from experiment.errors import UserError

IMAGES_PER_FILE = 10_000
_PIXELS = 3 * 32 * 32
_TRAINING_FILES = [f"data_batch_{number}" for number in range(1, 6)]
FOLDERS = _PYTHON_FOLDER, _BINARY_FOLDER = "cifar-10-batches-py", "cifar-10-batches-bin"
ARCHIVES = {"cifar-10-python.tar.gz": _PYTHON_FOLDER, "cifar-10-binary.tar.gz": _BINARY_FOLDER}
_LARGEST_FILE = 64 * 2**20  # the official files have 30 MiB; nothing larger is read into memory


def find(folder: Path) -> Path | None:
    """The official folder or archive that `folder` is or holds."""
    try:
        for candidate in (folder, *(folder / name for name in FOLDERS)):
            if (candidate / "data_batch_1").is_file() or (candidate / "data_batch_1.bin").is_file():
                return candidate
        return next((folder / name for name in ARCHIVES if (folder / name).is_file()), None)
    except OSError:  # a directory that may not be entered, a name that is too long
        return None


def read(source: Path) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The training and the test images, each as pixels uint8 [n, 3072], colour planes first, and labels [n].

    Args:
        source: what `find` found.

    Raises:
        UserError: a file is missing, damaged, or holds something else.
    """
    try:
        return _join([_read_file(source, name) for name in _TRAINING_FILES]), _read_file(source, "test_batch")
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise UserError(f"{source} cannot be read as CIFAR-10: {error}") from None


def _join(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([pixels for pixels, _ in parts]), np.concatenate([labels for _, labels in parts])


def _read_file(source: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """One official file: pixels uint8 [10000, 3072] and labels [10000]."""
    if source.is_dir():
        binary = not (source / name).is_file()
        path = source / (f"{name}.bin" if binary else name)
        if not path.is_file():
            raise UserError(f"{source}: the file {path.name} is missing")
        content = _read_limited(path.open("rb"), path)
    else:
        binary = ARCHIVES[source.name] == _BINARY_FOLDER
        member = f"{ARCHIVES[source.name]}/{name}{'.bin' if binary else ''}"
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
