"""Reads the weights of a `.keras` archive as data: whatever someone put into it, nothing of it is run.

A network that cannot be kept in such an archive is refused before it trains.
"""

import io
import json
import tempfile
import zipfile
from pathlib import Path

from experiment.errors import UserError

_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
_VALUES = ("__keras_tensor__", "__tensor__", "__numpy__", "__ellipsis__", "__slice__")  # what Keras writes like a class
_LARGEST_MEMBER = 64 * 2**20  # bytes, beside those of the weights


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
    try:
        numbers = model.count_params()
        largest = _LARGEST_MEMBER + 8 * numbers
        members = _read_members(path, largest)
        description = json.loads(members["config.json"])
        _check_classes(description)
        layers = [layer["class_name"] for layer in description["config"]["layers"]]
        # Keras reads the weights it knows and passes over the rest, so another network's could seem to fit.
        if layers != [type(operation).__name__ for operation in model.operations]:
            raise UserError("its layers are not those of the configuration's network")
        if _count_weights(members["model.weights.h5"], largest) != numbers:
            raise UserError("its weights are not those of the configuration's network")
        model.load_weights(path)
    except UserError as error:
        raise UserError(f"{path}: refused: {error}") from None
    except Exception as error:  # Keras, h5py and zipfile raise what they like at a damaged file
        reason = _first_line(error)
        raise UserError(f"{path} is damaged, or its weights are not those of the configuration: {reason}") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _read_members(path: Path, largest: int) -> dict[str, bytes]:
    """The archive's members, each checked against its CRC by being read."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename not in _MEMBERS:
                raise UserError(f"it holds {member.filename!r}, which no archive of this project's networks does")
            if member.file_size > largest:
                raise UserError(f"{member.filename} unpacks to {member.file_size:,} bytes")
        return {name: archive.read(name) for name in _MEMBERS}


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


def _count_weights(content: bytes, largest: int) -> int:
    """How many numbers there are; refuses weights that lie in other files, or that are larger than these networks'."""
    import h5py  # comes with Keras

    def count(group) -> int:
        numbers = 0
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise UserError(f"its weights point elsewhere ({name})")
            item = group[name]
            if isinstance(item, h5py.Group):
                numbers += count(item)
            elif item.external or item.nbytes > largest:
                raise UserError(f"its weights point elsewhere or are too large ({name})")
            else:
                numbers += item.size
        return numbers

    with h5py.File(io.BytesIO(content)) as file:
        return count(file)
