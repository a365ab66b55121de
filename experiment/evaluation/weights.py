"""Reads weights from untrusted `.keras` archives, without executing any code in them."""

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from experiment import files, reading
from experiment.errors import UserError

_MEMBERS = ("metadata.json", "config.json", "model.weights.h5")
_VALUES = ("__keras_tensor__", "__tensor__", "__numpy__", "__ellipsis__", "__slice__")  # Keras writes them like classes
# Of a layer's description, what does not change its predictions: momentum is that of moving averages in training.
_WITHOUT_EFFECT = {"name", "dtype", "trainable", "momentum", "seed", "build_config", "registered_name"}
_LARGEST_MEMBER = 4 * reading.MIB  # in addition to the size of the weights
_OWN_LAYERS = "only Keras's own layers are allowed"
_MOST_OBJECTS = 20_000  # groups and arrays


def check_archive(model, network: str) -> None:
    """Saves a model and loads it again, before training, as evaluation does, and as Keras without this project does.

    Raises:
        UserError: the model has layers that are not Keras's own, or cannot be saved or loaded.
    """
    import keras

    registered = keras.saving.get_custom_objects()
    before = dict(registered)
    try:
        with files.temporary_folder() as folder:
            model.save(folder / "best.keras")
            load_weights(model, folder / "best.keras")
        registered.clear()  # other programs do not know the classes that a network's file registers
        keras.models.model_from_json(model.to_json())
    except files.Unwritable:
        raise
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}") from None
    except Exception as error:
        reason = _first_line(error).rpartition("refused: ")[2]
        remedy = "" if reason.endswith(_OWN_LAYERS) else "; use Keras's own layers and operations"
        raise UserError(f"models/{network}.py: Keras cannot load it from best.keras: {reason}{remedy}") from None
    finally:
        registered.update(before)


def load_weights(model, path: Path) -> None:
    """Loads the archive's weights into `model`; the network described in the archive is not built.

    Raises:
        UserError: the archive is damaged, contains code (Lambda) or classes that are not Keras's own, or its weights
            do not match `model`.
    """
    numbers = model.count_params()
    largest = _LARGEST_MEMBER + 8 * numbers
    members = _read_members(path, largest)
    with _refused(path):
        description = json.loads(members["config.json"])
        _check_classes(description)
        # Keras ignores weights that it does not expect, so those of another network could seem to match.
        _check_same_network(description, model)
        if _count_weights(members["model.weights.h5"], largest) != numbers:
            raise UserError("its weights are not those of the configuration's network")
    with files.temporary_folder() as folder:  # load exactly the content that was checked
        checked = folder / "model.weights.h5"
        try:
            checked.write_bytes(members["model.weights.h5"])
        except OSError as error:
            raise files.Unwritable(f"{checked} cannot be written: {error.strerror or error}") from None
        with _refused(path):
            model.load_weights(checked)
            if not all(np.isfinite(array).all() for array in model.get_weights()):
                raise UserError("its weights are not all finite numbers")


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Any exception inside the context becomes a UserError that names the archive."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: refused: {error}") from None
    except Exception as error:  # Keras, h5py and zipfile raise exceptions of any type for a damaged file
        reason = _first_line(error)
        raise UserError(f"{path} is damaged, or its weights are not those of the configuration: {reason}") from None


def architecture(model) -> str:
    """Keras's version, which determines how it describes layers, and a digest of the layers with all their options."""
    import keras

    layers = json.loads(model.to_json())["config"]["layers"]
    # Keras numbers the names of layers on, from model to model, and draws the seeds of initialisers.
    numbers = {name: at for at, name in enumerate(_names(layers))}

    def described(part):
        if isinstance(part, dict):
            return {key: described(part[key]) for key in part.keys() - {"seed", "build_config"}}
        if isinstance(part, list):
            return [described(each) for each in part]
        return numbers.get(part, part) if isinstance(part, str) else part

    scales = [getattr(layer, "initial_scale", 1.0) for layer in model._flatten_layers()]
    text = json.dumps([described(layers), scales], sort_keys=True)
    # The 2 sets it apart from the digests of earlier versions, which left out the initial weights.
    return f"{keras.__version__}-2 {hashlib.sha256(text.encode()).hexdigest()}"


def _check_same_network(description: dict, model) -> None:
    layers, expected = description["config"]["layers"], json.loads(model.to_json())["config"]["layers"]
    # Keras numbers the names of layers on, from model to model.
    names, expected_names = ({name: str(at) for at, name in enumerate(_names(part))} for part in (layers, expected))

    def equal(one, other) -> bool:
        if isinstance(one, dict) and isinstance(other, dict):
            both = {key for key in one.keys() & other.keys() if not key.endswith("_initializer")}
            return all(equal(one[key], other[key]) for key in both - _WITHOUT_EFFECT)
        if isinstance(one, list) and isinstance(other, list):
            return len(one) == len(other) and all(map(equal, one, other))
        return one == other or (isinstance(one, str) and names.get(one, "") == expected_names.get(other))

    if not equal(layers, expected):
        raise UserError(
            "its network is not the one that the configuration builds now; if the network's file in models/ was "
            "changed, restore it, or train again"
        )


def _names(layers: list[dict]) -> Iterator[str]:
    """The names of layers, and of those of nested models."""
    for layer in layers:
        yield layer["config"]["name"]
        yield from _names(layer["config"].get("layers", []))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _read_members(path: Path, largest: int) -> dict[str, bytearray]:
    """The archive's members; reading verifies their checksums."""
    with reading.opened_zip(path, largest + 2 * _LARGEST_MEMBER) as archive:
        for member in archive.infolist():
            if member.filename not in _MEMBERS:
                raise ValueError(f"it contains {member.filename!r}, which does not belong to a Keras archive")
        members = [archive.getinfo(name) for name in _MEMBERS]
        if any(member.file_size > _LARGEST_MEMBER for member in members[:2]):
            raise ValueError(f"{members[0].filename} or {members[1].filename} is larger than {_LARGEST_MEMBER:,} bytes")
        return {member.filename: reading.unpack(archive, member) for member in members}


def _check_classes(description) -> None:
    """Raises a UserError if an archive's description contains a class that is not Keras's own, or can contain code."""
    if isinstance(description, list):
        for part in description:
            _check_classes(part)
    elif isinstance(description, dict):
        name, module = description.get("class_name"), description.get("module")
        own = isinstance(module, str) and module.split(".")[0] == "keras"
        own &= description.get("registered_name") in (None, name)  # a registered class has "package>name"
        if name not in (None, *_VALUES) and (not own or name in ("Lambda", "__lambda__", "function")):
            raise UserError(f"it contains the class {module}.{name}; {_OWN_LAYERS}")
        for part in description.values():
            _check_classes(part)


def _count_weights(content: bytearray, largest: int) -> int:
    """The number of weights. Raises a UserError for links to other files, duplicates, and arrays that are too large."""
    import h5py  # comes with Keras

    seen = set()

    def count(group) -> int:
        numbers = 0
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise UserError(f"its weights contain a link ({name})")
            item = group[name]
            place = h5py.h5o.get_info(item.id).addr
            if place in seen or len(seen) > _MOST_OBJECTS:
                raise UserError(f"its weights contain duplicates, or too many objects ({name})")
            seen.add(place)
            if isinstance(item, h5py.Group):
                numbers += count(item)
            elif item.external or item.is_virtual or item.chunks or item.nbytes > largest:
                raise UserError(f"its weights are external, chunked or too large ({name})")
            elif item.dtype.kind not in "fiu":
                raise UserError(f"its weights are not numbers ({name})")
            else:
                numbers += item.size
        return numbers

    with h5py.File(io.BytesIO(content)) as file:
        return count(file)
