"""Activations: each acts on every number, or on the numbers along one dimension."""

import numpy as np

from numpy_layers.arguments import dimension, floats, half_in_single


@half_in_single
def relu(input) -> np.ndarray:
    """max(input, 0), of any shape. Source: torch.nn.functional.relu."""
    return np.maximum(floats("input", input), 0)


@half_in_single
def sigmoid(input) -> np.ndarray:
    """1 / (1 + exp(-input)), of any shape; exactly 0 and 1 at -inf and +inf. Source: torch.nn.functional.sigmoid.

    For a negative input it is computed as exp(input) / (1 + exp(input)), the same number: so exp never overflows.
    """
    input = floats("input", input)
    small = np.exp(-np.abs(input))
    return np.where(input >= 0, 1, small) / (1 + small)


@half_in_single
def softmax(input, dim) -> np.ndarray:
    """exp(input) / sum over `dim` of exp(input), of any shape. Source: torch.nn.functional.softmax."""
    return np.exp(log_softmax(input, dim))


def log_softmax(input, dim) -> np.ndarray:
    """input - log(sum over `dim` of exp(input)), of any shape. Source: torch.nn.functional.log_softmax.

    The largest number is subtracted first: the result is the same, but exp cannot overflow. It is NaN where the largest
    number is infinite.
    """
    input = floats("input", input)
    dim = dimension("dim", dim, input.shape)
    if not input.size:
        return input
    with np.errstate(invalid="ignore"):
        shifted = input - input.max(dim, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(dim, keepdims=True))
