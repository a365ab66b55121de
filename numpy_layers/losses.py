"""Losses."""

import math

import numpy as np

from numpy_layers.activation import log_softmax
from numpy_layers.arguments import CHANNELS_FIRST, array, floats, half_in_single, numbers, real, require, whole


@half_in_single
def cross_entropy(
    input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0
) -> np.ndarray | np.floating:
    """The negative log likelihood of a softmax: -sum over classes k of weight[k] q[k] log_softmax(input)[k].

    q is 1 at the target's class and 0 elsewhere, or the target's probabilities; smoothed, it becomes
    (1 - label_smoothing) q + label_smoothing / c. A term whose weight[k] or q[k] is 0 counts nothing, whatever the
    logit (for a logit of -inf, PyTorch has NaN where the weight or a given probability is 0).

    Args:
        input: logits, [n, c] or [n, c, d1, …], or [c] for one sample.
        target: class indices [n] or [n, d1, …] (one index for one sample), or probabilities of the input's shape.
        weight: [c], of each class.
        ignore_index: a class index whose targets count nothing, whatever their logits are.
        reduction: "none"; "sum"; "mean": of class indices, the sum divided by the sum of the targets' weights, of
            probabilities by the number of targets. The mean of no targets is NaN.

    Returns:
        The loss of each target, [n] or [n, d1, …], or one number.

    Source: torch.nn.functional.cross_entropy; Szegedy and others, "Rethinking the Inception Architecture", 2016,
    section 7, for the smoothing.
    """
    input, target = floats("input", input), array("target", target)
    if input.ndim == 1:
        fits = target.shape in ((), input.shape)
        require(fits, "the shape of target", target.shape, f"() or {input.shape}, for an input of one sample")
        losses = cross_entropy(input[None], target[None], weight, ignore_index, reduction, label_smoothing)
        return losses[0] if reduction == "none" else losses
    require(input.ndim >= 2, "the shape of input", input.shape, "(n, c) or (n, c, d1, …)")
    n, c, *rest = input.shape
    label_smoothing = real("label_smoothing", label_smoothing)
    require(0 <= label_smoothing <= 1, "label_smoothing", label_smoothing, "0 to 1")
    ignore_index = whole("ignore_index", ignore_index, -(2**63), expected="a whole number")
    weight = np.ones(c, input.dtype) if weight is None else floats("weight", weight, c, like=input)

    if target.dtype.kind == "f":
        require(ignore_index < 0, "ignore_index", ignore_index, "none, where the target holds probabilities")
        chosen = np.moveaxis(floats("target", target, *input.shape, like=input), 1, -1)  # q, [n, d1, …, c]
        counts, divisor = np.ones((*chosen.shape[:-1], 1), bool), math.prod(chosen.shape[:-1])
    else:
        require(target.dtype.kind in "iu", "the dtype of target", str(target.dtype), "integer or floating")
        array("target", target, n, *rest, hint=CHANNELS_FIRST if target.shape == input.shape[:-1] else "")
        counts = target != ignore_index
        wrong = target[counts & ((target < 0) | (target >= c))]
        require(not wrong.size, "target", wrong[:1].tolist(), f"0 to {c - 1}, or ignore_index {ignore_index}")
        counts = counts[..., None]
        chosen = (counts & (target[..., None] == np.arange(c))).astype(input.dtype)
        divisor = _product(chosen, weight).sum(dtype=np.float64)
    smooth = counts * ((1 - label_smoothing) * chosen + label_smoothing / max(c, 1))
    losses = _product(_product(smooth, weight), -np.moveaxis(log_softmax(input, 1), 1, -1)).sum(-1)
    return _reduced(losses, reduction, divisor)


def _product(factor: np.ndarray, values: np.ndarray) -> np.ndarray:
    """factor × values, and 0 where the factor is 0, even of infinite values and of NaN."""
    return np.multiply(factor, values, where=factor != 0, out=np.zeros_like(factor))


@half_in_single
def mse_loss(input, target, reduction="mean") -> np.ndarray | np.floating:
    """The squared error (input - target)², its sum, or its mean.

    Args:
        input, target: of one shape; unlike PyTorch, which warns there, other shapes are not broadcast. The target may
            hold whole numbers.
        reduction: "none", "sum" or "mean".

    Returns:
        An array of the input's shape, or one number.

    Source: torch.nn.functional.mse_loss.
    """
    input = floats("input", input)
    target = numbers("target", target).astype(input.dtype, copy=False)
    require(target.shape == input.shape, "the shape of target", target.shape, f"the input's, {input.shape}")
    return _reduced(np.square(input - target), reduction, input.size)


def _reduced(losses: np.ndarray, reduction: str, divisor: float) -> np.ndarray | np.floating:
    require(reduction in ("none", "mean", "sum"), "reduction", reduction, '"none", "mean" or "sum"')
    if reduction == "none":
        return losses
    total = losses.sum(dtype=np.float64)
    if reduction == "mean":
        with np.errstate(invalid="ignore", divide="ignore"):  # the mean of nothing is NaN, and no surprise
            total = total / np.float64(divisor)
    return losses.dtype.type(total)
