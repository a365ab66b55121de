"""Normalisation by the statistics of the batch, of groups of channels, or of the last dimensions."""

import math

import numpy as np

from numpy_layers.arguments import CHANNELS_FIRST, divisor, floats, half_in_single, real, require


@half_in_single
def batch_norm(
    input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
) -> np.ndarray:
    """(input - mean) / sqrt(variance + eps) × weight + bias, for each channel.

    Args:
        input: [n, c] or [n, c, d1, …].
        running_mean, running_var: [c]; outside training, the mean and the variance. In training these are the batch's
            own, over all dimensions but c, and the running arrays, unless None, move towards them in place by
            `momentum`: running = (1 - momentum) running + momentum batch, with the unbiased variance there.
        weight, bias: [c].
        eps: keeps the root from 0.

    Returns:
        The input's shape.

    Source: torch.nn.functional.batch_norm; Ioffe and Szegedy, "Batch Normalization", 2015, algorithm 1.
    """
    running = {"running_mean": running_mean, "running_var": running_var}
    input, parameters = _of_channels(input, **running, weight=weight, bias=bias)
    for name, average in running.items():
        if not training:
            require(average is not None, name, None, "an array, outside training")
        elif average is not None:
            can = isinstance(average, np.ndarray) and average.flags.writeable
            require(can, name, average, "an array that is not read-only: training updates it in place")
    mean, variance = _statistics(input) if training else (parameters["running_mean"], parameters["running_var"])
    scale = 1 / np.sqrt(variance + real("eps", eps))
    momentum = real("momentum", momentum)
    if weight is not None:
        scale = scale * parameters["weight"]
    output = input - mean.astype(input.dtype, copy=False)
    output = _scaled(output, scale.astype(input.dtype, copy=False), parameters["bias"])
    if training:
        _update(running.values(), (mean.ravel(), variance.ravel()), momentum, input.size // max(mean.size, 1))
    return output


@half_in_single
def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5) -> np.ndarray:
    """(input - mean) / sqrt(variance + eps) × weight + bias, with the statistics of each image and group of channels.

    Args:
        input: [n, c] or [n, c, d1, …].
        num_groups: a divisor of c; a group is c / num_groups channels that follow each other.
        weight, bias: [c].
        eps: keeps the root from 0.

    Returns:
        The input's shape.

    Source: torch.nn.functional.group_norm; Wu and He, "Group Normalization", 2018.
    """
    input, parameters = _of_channels(input, weight=weight, bias=bias)
    n, c, *rest = input.shape
    num_groups = divisor("num_groups", num_groups, c, "channels of input")
    groups = input.reshape(n, num_groups, c // num_groups * math.prod(rest))
    return _scaled(_standardised(groups, (2,), eps).reshape(input.shape), **parameters)


@half_in_single
def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5) -> np.ndarray:
    """(input - mean) / sqrt(variance + eps) × weight + bias, with the statistics over the last dimensions.

    Args:
        input: [..., *normalized_shape].
        normalized_shape: the sizes of the last dimensions, which share one mean and variance.
        weight, bias: of normalized_shape.
        eps: keeps the root from 0.

    Returns:
        The input's shape.

    Source: torch.nn.functional.layer_norm; Ba and others, "Layer Normalization", 2016.
    """
    input, shape = floats("input", input), tuple(np.atleast_1d(normalized_shape).tolist())
    rank = len(shape)
    fits = 0 < rank <= input.ndim and input.shape[-rank:] == shape
    require(fits, "normalized_shape", shape, f"the last sizes of the input's shape, {input.shape}")
    parameters = {"weight": weight, "bias": bias}
    for name, values in parameters.items():
        parameters[name] = None if values is None else floats(name, values, *shape, like=input)
    return _scaled(_standardised(input, tuple(range(-rank, 0)), eps), **parameters)


def _of_channels(input, **parameters) -> tuple[np.ndarray, dict[str, np.ndarray | None]]:
    """The input [n, c, …], and parameters [c] in its precision, as they are multiplied with its channels."""
    input = floats("input", input)
    require(input.ndim >= 2, "the shape of input", input.shape, "(n, c) or (n, c, d1, …)")
    for name, values in parameters.items():
        if values is not None:
            hint = CHANNELS_FIRST if np.shape(values) == input.shape[-1:] else ""
            values = floats(name, values, input.shape[1], like=input, hint=hint)
            parameters[name] = values.reshape(-1, *[1] * (input.ndim - 2))
    return input, parameters


def _scaled(output: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None) -> np.ndarray:
    """output × weight + bias, in place."""
    if weight is not None:
        output *= weight
    if bias is not None:
        output += bias
    return output


def _statistics(input: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the (biased) variance of each channel, added up in float64; zeros for an empty batch."""
    axes = (0, *range(2, input.ndim))
    count = input.size // max(input.shape[1], 1)
    require(count != 1, "the shape of input", input.shape, "more than one value a channel, in training")
    if count == 0:
        return (np.zeros([input.shape[1], *[1] * (input.ndim - 2)]),) * 2
    return input.mean(axes, np.float64, keepdims=True)[0], input.var(axes, np.float64, keepdims=True)[0]


def _standardised(input: np.ndarray, axes: tuple[int, ...], eps: float) -> np.ndarray:
    """(input - mean) / sqrt(variance + eps) over these dimensions; the sums are made in float64."""
    if not input.size:
        return input.copy()
    output = input - input.mean(axes, np.float64, keepdims=True).astype(input.dtype)
    variance = np.square(output).mean(axes, np.float64, keepdims=True)
    output *= (1 / np.sqrt(variance + real("eps", eps))).astype(input.dtype)
    return output


def _update(running, batch: tuple, momentum: float, count: int) -> None:
    """Moves the averages that are there; where that is impossible for one, neither is changed."""
    unbiased = (1, count / max(count - 1, 1))
    moved = [
        (average, (average + momentum * (value * factor - average)).astype(average.dtype))
        for average, value, factor in zip(running, batch, unbiased, strict=True)
        if average is not None and count
    ]
    for average, values in moved:
        average[...] = values
