"""Reads the weights of a `.keras` archive as data: whatever someone put into it, nothing of it is run.

A network that cannot be kept in such an archive is refused before it trains.
"""

import io
import json
import tempfile
from pathlib import Path

import numpy as np

from experiment import reading
from experiment.errors import UserError

_MEMBERS = ("metadata.json", "config.json", "model.weights.h5")
_VALUES = ("__keras_tensor__", "__tensor__", "__numpy__", "__ellipsis__", "__slice__")  # what Keras writes like a class
_LARGEST_MEMBER = 4 * reading.MIB  # beside the numbers of the weights
_MOST_OBJECTS = 20_000  # groups and arrays


def check_archive(model, network: str) -> None:
    """Saves the model and reads it back, as an evaluation does and as Keras without this project.

    Raises:
        UserError: it has other layers than Keras's own, or cannot be written or read.
    """
    import keras

    registered = keras.saving.get_custom_objects()
    before = dict(registered)
    try:
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder, "best.keras"))
            load_weights(model, Path(folder, "best.keras"))
        registered.clear()  # what a network's file registers, other programs do not know
        keras.models.model_from_json(model.to_json())
    except OSError as error:
        raise UserError(f"{tempfile.gettempdir()} cannot be written: {error.strerror or error}") from None
    except Exception as error:
        reason = _first_line(error).rpartition("refused: ")[2]
        raise UserError(f"models/{network}.py: best.keras could not be read back from Keras alone: {reason}") from None
    finally:
        registered.update(before)


def load_weights(model, path: Path) -> None:
    """Reads the archive's weights into `model`, which the caller built; the archive's own description builds nothing.

    Raises:
        UserError: the archive is damaged, holds other classes than Keras's own or code (Lambda), or its weights are
            not those of `model`.
    """
    numbers = model.count_params()
    largest = _LARGEST_MEMBER + 8 * numbers
    members = _read_members(path, largest)
    try:
        description = json.loads(members["config.json"])
        _check_classes(description)
        layers = [layer["class_name"] for layer in description["config"]["layers"]]
        # Keras reads the weights it knows and passes over the rest, so another network's could seem to fit.
        if layers != [type(operation).__name__ for operation in model.operations]:
            raise UserError("its layers are not those of the configuration's network")
        if _count_weights(members["model.weights.h5"], largest) != numbers:
            raise UserError("its weights are not those of the configuration's network")
        with tempfile.TemporaryDirectory() as folder:  # just what was checked
            checked = Path(folder, "model.weights.h5")
            checked.write_bytes(members["model.weights.h5"])
            model.load_weights(checked)
        if not all(np.isfinite(array).all() for array in model.get_weights()):
            raise UserError("its weights are not all numbers (NaN or infinite)")
    except UserError as error:
        raise UserError(f"{path}: refused: {error}") from None
    except Exception as error:  # Keras, h5py and zipfile raise what they like at a damaged file
        reason = _first_line(error)
        raise UserError(f"{path} is damaged, or its weights are not those of the configuration: {reason}") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _read_members(path: Path, largest: int) -> dict[str, bytearray]:
    """The archive's members, each checked against its CRC by being read."""
    with reading.opened_zip(path, largest + 2 * _LARGEST_MEMBER) as archive:
        for member in archive.infolist():
            if member.filename not in _MEMBERS:
                raise ValueError(f"it holds {member.filename!r}, which no archive of this project's networks does")
        members = [archive.getinfo(name) for name in _MEMBERS]
        if any(member.file_size > _LARGEST_MEMBER for member in members[:2]):
            raise ValueError(f"{members[0].filename} or {members[1].filename} is larger than {_LARGEST_MEMBER:,} bytes")
        return {member.filename: reading.unpack(archive, member) for member in members}


def _check_classes(description) -> None:
    """Refuses every class in an archive's description that is not a plain one of Keras's own."""
    if isinstance(description, list):
        for part in description:
            _check_classes(part)
    elif isinstance(description, dict):
        name, module = description.get("class_name"), description.get("module")
        own = isinstance(module, str) and module.split(".")[0] == "keras"
        own &= description.get("registered_name") in (None, name)  # a class that was registered has "package>name"
        if name not in (None, *_VALUES) and (not own or name in ("Lambda", "__lambda__", "function")):
            raise UserError(f"it names the class {module}.{name}; only Keras's own layers are read")
        for part in description.values():
            _check_classes(part)


def _count_weights(content: bytearray, largest: int) -> int:
    """How many numbers there are; refuses weights that lie in other files, stand there twice, or are too large."""
    import h5py  # comes with Keras

    seen = set()

    def count(group) -> int:
        numbers = 0
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise UserError(f"its weights point elsewhere ({name})")
            item = group[name]
            place = h5py.h5o.get_info(item.id).addr
            if place in seen or len(seen) > _MOST_OBJECTS:
                raise UserError(f"its weights stand there twice, or are too many ({name})")
            seen.add(place)
            if isinstance(item, h5py.Group):
                numbers += count(item)
            elif item.external or item.is_virtual or item.chunks or item.nbytes > largest:
                raise UserError(f"its weights point elsewhere, are packed or too large ({name})")
            elif item.dtype.kind not in "fiu":
                raise UserError(f"its weights are no numbers ({name})")
            else:
                numbers += item.size
        return numbers

    with h5py.File(io.BytesIO(content)) as file:
        return count(file)
