"""The networks, a file each: `models/<name>.py` holds the class `Network` of that name."""

import importlib
import pkgutil
from typing import Any

from experiment.errors import UserError
from models.network import Network, line_in

DEFAULT = "vgg"  # the network of a configuration that names none
_SHARED = {"network", "fast_layers"}  # the files that hold no network


def names() -> list[str]:
    """The networks that there are."""
    return sorted({module.name for module in pkgutil.iter_modules(__path__)} - _SHARED)


def get(name: Any) -> type[Network]:
    """The class of the network of that name.

    Raises:
        UserError: there is no such network, or its file does not import or holds no `Network` of that name.
    """
    if name not in names():
        raise UserError(f"model.name: there is no network {name!r} in models/; there are: {', '.join(names())}")
    file = f"models/{name}.py"
    try:
        module = importlib.import_module(f"models.{name}")
    except (Exception, SystemExit) as error:
        line = error.lineno if isinstance(error, SyntaxError) else line_in(file, error)
        raise UserError(f"{file}, line {line}: it cannot be imported: {type(error).__name__}: {error}") from None
    network = getattr(module, "Network", None)
    if not (isinstance(network, type) and issubclass(network, Network) and network.build is not Network.build):
        raise UserError(f"{file}: it needs a class Network(models.network.Network) with a method build")
    if network.model_fields["name"].default != name:
        raise UserError(f'{file}: its Network must be called by its file: name: Literal["{name}"] = "{name}"')
    return network
