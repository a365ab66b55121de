"""The networks: `models/<name>.py` contains the class `Network` of that name."""

import importlib
import pkgutil
from pathlib import Path
from typing import Any

from experiment import tensorflow_setup
from experiment.errors import UserError
from models.network import Network, place_of

DEFAULT = "vgg"  # the network of a configuration without `model.name`
_imported: dict[str, int] = {}  # when the files were changed, in nanoseconds
_SHARED = {"network", "fast_layers"}  # files without a network


def names() -> list[str]:
    """The names of all networks."""
    return sorted({module.name for module in pkgutil.iter_modules(__path__)} - _SHARED)


def get(name: Any) -> type[Network]:
    """The class of a network.

    Raises:
        UserError: there is no such network, its file cannot be imported, or it has no valid class `Network`.
    """
    if name not in names():
        raise UserError(f"model.name: no network {name!r} in models/, which contains: {', '.join(names())}")
    file = f"models/{name}.py"
    tensorflow_setup.set_environment()  # for a file that imports Keras
    try:
        module = importlib.import_module(f"models.{name}")
        changed = Path(module.__file__ or "").stat().st_mtime_ns
        if _imported.setdefault(name, changed) != changed:  # in a notebook
            module = importlib.reload(module)
            _imported[name] = changed
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{place_of(error, file)}: it cannot be imported: {reason}") from None
    network = getattr(module, "Network", None)
    if not (isinstance(network, type) and issubclass(network, Network) and network.build is not Network.build):
        raise UserError(f"{file}: it needs a class Network(models.network.Network) with a method build")
    if network.model_fields["name"].default != name:
        raise UserError(f'{file}: its Network must have the name of the file: name: Literal["{name}"] = "{name}"')
    return network
