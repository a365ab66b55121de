"""From feature maps to class scores: flatten and the fully connected layer."""

import math

import numpy as np

from numpy_layers.arguments import array, dimension, floats, half_in_single, require


def flatten(input, start_dim=0, end_dim=-1) -> np.ndarray:
    """Joins the dimensions `start_dim` to `end_dim`, both included, into one; negative ones count from the end.

    Args:
        input: of any shape [d0, …] and any numbers; a single number becomes [1].

    Returns:
        [d0, …, d_start × … × d_end, …], a view of `input` where that is possible.

    Source: torch.flatten.
    """
    input = array("input", input)
    shape = input.shape or (1,)
    start, end = dimension("start_dim", start_dim, shape), dimension("end_dim", end_dim, shape)
    require(start <= end, "start_dim", start_dim, f"not after end_dim {end_dim}")
    return input.reshape(*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])


@half_in_single
def linear(input, weight, bias=None) -> np.ndarray:
    """input weightᵀ + bias.

    Args:
        input: [..., features].
        weight: [outputs, features], or [features] for one output.
        bias: [outputs], or one number.

    Returns:
        [..., outputs], or [...].

    Source: torch.nn.functional.linear.
    """
    input = floats("input", input)
    require(input.ndim > 0, "the shape of input", input.shape, "(…, features)")
    weight, features = floats("weight", weight, like=input), input.shape[-1]
    fits, transposed = weight.ndim in (1, 2) and weight.shape[-1] == features, weight.shape[:-1] == (features,)
    hint = "it fits the other way round: weight.T" if transposed else ""
    require(fits, "the shape of weight", weight.shape, f"(outputs, {features}) or ({features},)", hint)
    output = input @ weight.T
    if bias is None:
        return output
    bias = floats("bias", bias, *weight.shape[:-1], like=input)
    require(bias.ndim == weight.ndim - 1, "the shape of bias", bias.shape, "()")
    return output + bias
