"""Losses."""

import numpy as np

from numpy_layers.activation import log_softmax
from numpy_layers.arguments import array, floats, require


def cross_entropy(
    input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0
) -> np.ndarray | np.floating:
    """The negative log likelihood of a softmax: -sum over classes k of weight[k] q[k] log_softmax(input)[k].

    q is 1 at the target's class and 0 elsewhere, or the target's probabilities; smoothed, it becomes
    (1 - label_smoothing) q + label_smoothing / c.

    Args:
        input: logits, [n, c] or [n, c, d1, …].
        target: class indices [n] or [n, d1, …], or probabilities of the input's shape.
        weight: [c], of each class.
        ignore_index: a class index whose targets count nothing.
        reduction: "none"; "sum"; "mean": of class indices, the sum divided by the sum of the targets' weights, of
            probabilities by the number of targets. The mean of no targets is NaN.

    Returns:
        The loss of each target [n] or [n, d1, …], or one number.

    Source: torch.nn.functional.cross_entropy; Szegedy and others, "Rethinking the Inception Architecture", 2016,
    section 7, for the smoothing.
    """
    input = floats("input", input)
    require(input.ndim >= 2, "the shape of input", input.shape, "(n, c) or (n, c, d1, …)")
    n, c, *rest = input.shape
    require(0 <= label_smoothing <= 1, "label_smoothing", label_smoothing, "0 to 1")
    _check_reduction(reduction)
    weight = np.ones(c, input.dtype) if weight is None else floats("weight", weight, c, like=input)
    target = array("target", target)
    logarithms = np.moveaxis(log_softmax(input, 1), 1, -1)  # [n, d1, …, c]

    if np.issubdtype(target.dtype, np.floating):
        require(ignore_index < 0, "ignore_index", ignore_index, "none, where the target holds probabilities")
        target = np.moveaxis(floats("target", target, *input.shape, like=input), 1, -1)
        smooth = (1 - label_smoothing) * target + label_smoothing / c
        losses = -np.sum(weight * smooth * logarithms, -1)
        return _reduced(losses, reduction, losses.size)

    require(np.issubdtype(target.dtype, np.integer), "the dtype of target", str(target.dtype), "integer or floating")
    array("target", target, n, *rest)
    counts = target != ignore_index
    outside = counts & ((target < 0) | (target >= c))
    require(not outside.any(), "target", target[outside][:1].tolist(), f"0 to {c - 1}, or ignore_index {ignore_index}")
    classes = np.where(counts, target, 0)
    weights = weight[classes] * counts
    losses = -weights * np.take_along_axis(logarithms, classes[..., None], -1)[..., 0]
    if label_smoothing:
        of_all = -np.sum(weight * logarithms, -1) * counts
        losses = (1 - label_smoothing) * losses + label_smoothing / c * of_all
    return _reduced(losses, reduction, weights.sum(dtype=np.float64))


def mse_loss(input, target, reduction="mean") -> np.ndarray | np.floating:
    """The squared error (input - target)², its sum, or its mean.

    Args:
        input, target: of one shape; unlike PyTorch, which warns there, other shapes are not broadcast.
        reduction: "none", "sum" or "mean".

    Returns:
        An array of the input's shape, or one number.

    Source: torch.nn.functional.mse_loss.
    """
    input = floats("input", input)
    target = floats("target", target, like=input)
    require(target.shape == input.shape, "the shape of target", target.shape, f"the input's, {input.shape}")
    _check_reduction(reduction)
    return _reduced(np.square(input - target), reduction, input.size)


def _check_reduction(reduction: str) -> None:
    require(reduction in ("none", "mean", "sum"), "reduction", reduction, '"none", "mean" or "sum"')


def _reduced(losses: np.ndarray, reduction: str, divisor: float) -> np.ndarray | np.floating:
    if reduction == "none":
        return losses
    total = losses.sum(dtype=np.float64)
    if reduction == "mean":
        with np.errstate(invalid="ignore", divide="ignore"):  # the mean of nothing is NaN, and no surprise
            total = total / np.float64(divisor)
    return losses.dtype.type(total)
