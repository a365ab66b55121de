"""Batch normalisation."""

import numpy as np

from numpy_layers.arguments import floats, require


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
    input = floats("input", input)
    require(input.ndim >= 2, "the shape of input", input.shape, "(n, c) or (n, c, d1, …)")
    c = input.shape[1]
    parameters = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    for name, values in parameters.items():
        if values is not None:
            parameters[name] = floats(name, values, c, like=input)
    if training:
        mean, variance = _statistics(input)
        _update((running_mean, running_var), (mean, variance), momentum, input.size // max(c, 1))
    else:
        for name in ("running_mean", "running_var"):
            require(parameters[name] is not None, name, None, "an array, outside training")
        mean, variance = parameters["running_mean"], parameters["running_var"]
    scale = 1 / np.sqrt(variance + eps)
    if weight is not None:
        scale = scale * parameters["weight"]

    def per_channel(values: np.ndarray) -> np.ndarray:
        return values.astype(input.dtype, copy=False).reshape(c, *[1] * (input.ndim - 2))

    output = input - per_channel(mean)
    output *= per_channel(scale)
    if bias is not None:
        output += per_channel(parameters["bias"])
    return output


def _statistics(input: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the (biased) variance of each channel, added up in float64; zeros for an empty batch."""
    axes = (0, *range(2, input.ndim))
    count = input.size // max(input.shape[1], 1)
    require(count != 1, "the shape of input", input.shape, "more than one value a channel, in training")
    if count == 0:
        return np.zeros(input.shape[1]), np.zeros(input.shape[1])
    return input.mean(axes, np.float64), input.var(axes, np.float64)


def _update(running: tuple, batch: tuple, momentum: float, count: int) -> None:
    unbiased = (1, count / max(count - 1, 1))
    for name, average, value, factor in zip(("running_mean", "running_var"), running, batch, unbiased, strict=True):
        if average is not None and count:
            require(isinstance(average, np.ndarray), name, average, "an array, which training updates in place")
            average += momentum * (value * factor - average)
