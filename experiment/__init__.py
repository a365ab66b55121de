"""Experiments with small image classifiers. From Python:

import experiment
config = experiment.load_config("bn.yaml", epochs=2)
run = experiment.train(config, "checkpoints/mine/seed0", data="synthetic")
print(experiment.load_result(run).accuracy)
"""

from importlib.util import find_spec
from pathlib import Path

__all__ = ["check_layers", "compare", "load_config", "load_data", "load_result", "predict", "train"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module 'experiment' has no attribute {name!r}")
    _check_models()
    from experiment import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return __all__


def _check_models() -> None:
    """Raises an ImportError if `import models` would import a folder of the user's, rather than this project's."""
    found, own = find_spec("models"), Path(__file__).resolve().parent.with_name("models") / "__init__.py"
    place = (found.origin or next(iter(found.submodule_search_locations))) if found else None
    if place and Path(place).resolve() != own:
        raise ImportError(
            f"experiment needs its own package models, but Python finds another one first: {place}. Start Python in "
            "another folder, or rename that one"
        )
