"""TensorFlow's CPU kernels, as functions with the names and arguments of PyTorch's. Importing it imports TensorFlow.

A function raises NotImplementedError for options that TensorFlow's kernel does not have.
"""

import math

import numpy as np
import tensorflow as tf

from layer_checks.random_cases import as_pair


def _channels_last(maps: np.ndarray) -> tf.Tensor:
    """As a tensor in the kernels' layout; from an array, some make float32 of float64."""
    return tf.constant(np.moveaxis(maps, 1, -1))


def _channels_first(maps) -> np.ndarray:
    return np.moveaxis(np.asarray(maps), -1, 1)


def _plus_bias(maps, bias) -> np.ndarray:
    return _channels_first(maps if bias is None else maps + bias)


def _sides(padding) -> list[list[int]]:
    rows, columns = as_pair(padding)
    return [[0, 0], [rows, rows], [columns, columns], [0, 0]]


def max_pool2d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    stride, dilation = as_pair(stride or kernel_size), as_pair(dilation)
    if ceil_mode or (dilation != (1, 1) and (stride != (1, 1) or as_pair(padding) != (0, 0))):
        raise NotImplementedError
    maps, size = _channels_last(input), as_pair(kernel_size)
    if dilation == (1, 1):
        return _channels_first(tf.nn.max_pool2d(maps, size, stride, _sides(padding)))
    return _channels_first(tf.nn.pool(maps, size, "MAX", padding="VALID", dilations=dilation))


def avg_pool2d(
    input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
):
    if ceil_mode or divisor_override or (not count_include_pad and as_pair(padding) != (0, 0)):
        raise NotImplementedError
    maps = tf.pad(_channels_last(input), _sides(padding))
    return _channels_first(tf.nn.avg_pool2d(maps, as_pair(kernel_size), as_pair(stride or kernel_size), "VALID"))


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    if groups > 1:  # with unequal numbers of channels, only a GPU's kernel
        raise NotImplementedError
    sides = padding.upper() if isinstance(padding, str) else _sides(padding)
    maps, kernel = _channels_last(input), weight.transpose(2, 3, 1, 0)
    return _plus_bias(tf.nn.conv2d(maps, kernel, as_pair(stride), sides, dilations=as_pair(dilation)), bias)


def conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    size, cut, steps = weight.shape[2:], as_pair(padding), as_pair(stride)
    if groups > 1 or as_pair(dilation) != (1, 1) or any(p >= k for p, k in zip(cut, size, strict=True)):
        raise NotImplementedError
    sides = zip(input.shape[2:], steps, size, cut, as_pair(output_padding), strict=True)
    shape = [len(input), *((n - 1) * s + k - 2 * p + m for n, s, k, p, m in sides), weight.shape[1]]
    maps, kernel = _channels_last(input), weight.transpose(2, 3, 1, 0)
    return _plus_bias(tf.nn.conv2d_transpose(maps, kernel, shape, steps, _sides(padding)), bias)


def flatten(input, start_dim=0, end_dim=-1):
    start, end = start_dim % input.ndim, end_dim % input.ndim
    return tf.reshape(input, [*input.shape[:start], math.prod(input.shape[start : end + 1]), *input.shape[end + 1 :]])


def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    mean, variance, values = running_mean, running_var, _channels_last(input)
    if training:
        axes = [*range(input.ndim - 1)]
        mean, variance = tf.nn.moments(values, axes)
        if running_mean is not None:
            count = input.size / input.shape[1]
            running_mean += momentum * (mean.numpy() - running_mean)
            running_var += momentum * (variance.numpy() * count / (count - 1) - running_var)
    return _channels_first(tf.nn.batch_normalization(values, mean, variance, bias, weight, eps))


def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    groups = tf.reshape(input, [len(input), num_groups, input[0].size // num_groups])
    mean, variance = tf.nn.moments(groups, [2], keepdims=True)
    values = tf.reshape(tf.nn.batch_normalization(groups, mean, variance, None, None, eps), input.shape)
    values = _channels_last(values.numpy()) * (1 if weight is None else weight)
    return _plus_bias(values, bias)


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    mean, variance = tf.nn.moments(tf.constant(input), [*range(-len(normalized_shape), 0)], keepdims=True)
    return tf.nn.batch_normalization(input, mean, variance, bias, weight, eps)


def cross_entropy(input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    logits = _channels_last(input)
    c = input.shape[1]
    weight = np.ones(c, input.dtype) if weight is None else weight
    if target.dtype.kind == "f":
        chosen, counts = _channels_last(target), np.ones(logits.shape[:-1], input.dtype)
    else:
        counts = (target != ignore_index).astype(input.dtype)
        chosen = tf.one_hot(np.where(counts, target, 0), c, dtype=logits.dtype)
        counts_weights = counts * weight[np.where(counts, target, 0)]
    smooth = (1 - label_smoothing) * chosen + label_smoothing / c
    losses = tf.nn.softmax_cross_entropy_with_logits(weight * smooth, logits) * counts
    if reduction == "none":
        return losses
    total = tf.reduce_sum(losses)
    if reduction == "sum":
        return total
    return total / (counts.size if target.dtype.kind == "f" else counts_weights.sum())


def mse_loss(input, target, reduction="mean"):
    squares = tf.math.squared_difference(input, target)
    return {"none": tf.identity, "sum": tf.reduce_sum, "mean": tf.reduce_mean}[reduction](squares)


def sigmoid(input):
    return tf.nn.sigmoid(input)


def relu(input):
    return tf.nn.relu(input)


def softmax(input, dim):
    return tf.nn.softmax(input, dim)


def linear(input, weight, bias=None):
    result = tf.tensordot(input, weight.T, 1)
    return result if bias is None else result + bias
