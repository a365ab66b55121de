"""From feature maps to class scores: flatten and the fully connected layer."""

import math

import numpy as np

from numpy_layers.arguments import array, floats, require


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
    rank = len(shape)
    for name, dimension in (("start_dim", start_dim), ("end_dim", end_dim)):
        require(-rank <= dimension < rank, name, dimension, f"{-rank} to {rank - 1}, for an input of rank {rank}")
    start, end = start_dim % rank, end_dim % rank
    require(start <= end, "start_dim", start_dim, f"not after end_dim {end_dim}")
    return input.reshape(*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])


def linear(input, weight, bias=None) -> np.ndarray:
    """input weightᵀ + bias.

    Args:
        input: [..., features].
        weight: [outputs, features].
        bias: [outputs].

    Returns:
        [..., outputs].

    Source: torch.nn.functional.linear.
    """
    input = floats("input", input)
    require(input.ndim > 0, "the shape of input", input.shape, "(…, features)")
    weight = floats("weight", weight, "outputs", input.shape[-1], like=input)
    output = input @ weight.T
    return output if bias is None else output + floats("bias", bias, weight.shape[0], like=input)
