"""Experiments with small image classifiers. From Python:

import experiment
config = experiment.load_config("bn.yaml", epochs=2)
run = experiment.train(config, "checkpoints/mine/seed0", data="synthetic")
print(experiment.load_result(run).accuracy)
"""

__all__ = ["check_layers", "compare", "load_config", "load_data", "load_result", "predict", "train"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module 'experiment' has no attribute {name!r}")
    from experiment import api

    return getattr(api, name)
