"""The results of PyTorch and TensorFlow for a case of `random_cases`. Each is imported where it is first needed."""

import functools
import importlib
import traceback

import numpy as np

from layer_checks.random_cases import Case


@functools.cache
def unusable(package: str) -> str:
    """Why "torch" or "torchvision" cannot be used, in words; nothing where it can."""
    try:
        module = importlib.import_module("torchvision.ops" if package == "torchvision" else "torch")
        getattr(module, "roi_pool", None) or module.from_numpy(np.zeros(1))
    except Exception as error:  # also of what was built for another Python, PyTorch or NumPy
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            return f"{package} is not installed"
        return f"{package} cannot be imported, and counts as not installed ({last_line(error)})"
    return ""


def last_line(error: BaseException) -> str:
    """The last line of a traceback."""
    return traceback.format_exception_only(error)[-1].strip()


def torch_results(case: Case, precision: str) -> list[np.ndarray] | None:
    """PyTorch's results, by the function that has the layer's name; None where PyTorch cannot be used."""
    if unusable("torch") or (case.layer == "roi_pool" and unusable("torchvision")):
        return None
    import torch

    if case.layer == "roi_pool":
        from torchvision.ops import roi_pool as function
    else:
        function = torch.flatten if case.layer == "flatten" else getattr(torch.nn.functional, case.layer)

    def layer(**arguments):
        # The tensors share the arrays' memory, so that running averages are updated in those.
        tensors = {name: torch.from_numpy(v) for name, v in arguments.items() if isinstance(v, np.ndarray)}
        return function(**arguments | tensors)

    return case.results(layer, precision)


def tensorflow_results(case: Case, precision: str) -> list[np.ndarray] | None:
    """TensorFlow's results, by the CPU kernel of the same name; None where it has no such thing."""
    from layer_checks import tensorflow_layers  # which imports TensorFlow

    layer = getattr(tensorflow_layers, case.layer, None)
    if layer is None or case.arrays["input"].size == 0:  # some of its kernels refuse an empty batch
        return None
    try:
        return case.results(layer, precision)
    except NotImplementedError:
        return None
