"""The results of PyTorch and TensorFlow for a case of `random_cases`. Each is imported where it is first needed."""

import functools
import importlib
import math
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
        return function(
            **{
                name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
                for name, value in arguments.items()
            }
        )

    return case.results(layer, precision)


def tensorflow_results(case: Case, precision: str) -> list[np.ndarray] | None:
    """TensorFlow's results, by the CPU kernel of the same name; None where it has no such thing."""
    layer = _TENSORFLOW.get(case.layer)
    if layer is None or case.arrays["input"].size == 0:  # some of its kernels refuse an empty batch
        return None
    try:
        return case.results(layer, precision)
    except _Lacking:
        return None


class _Lacking(Exception):
    """TensorFlow's CPU kernel has no such option."""


def _pair(value) -> tuple[int, int]:
    return tuple(value) if isinstance(value, tuple) else (value, value)


def _channels_last(maps: np.ndarray):
    """As a tensor in the layout of TensorFlow's CPU kernels; from an array, some make float32 of float64."""
    import tensorflow as tf

    return tf.constant(np.moveaxis(maps, 1, -1))


def _channels_first(maps) -> np.ndarray:
    return np.moveaxis(np.asarray(maps), -1, 1)


def _max_pool2d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    import tensorflow as tf

    stride, (rows, columns) = _pair(stride or kernel_size), _pair(padding)
    if ceil_mode or (_pair(dilation) != (1, 1) and (stride != (1, 1) or (rows, columns) != (0, 0))):
        raise _Lacking
    if _pair(dilation) != (1, 1):
        result = tf.nn.pool(
            _channels_last(input), _pair(kernel_size), "MAX", padding="VALID", dilations=_pair(dilation)
        )
    else:
        sides = [[0, 0], [rows, rows], [columns, columns], [0, 0]]
        result = tf.nn.max_pool2d(_channels_last(input), _pair(kernel_size), stride, sides)
    return _channels_first(result)


def _avg_pool2d(
    input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
):
    import tensorflow as tf

    rows, columns = _pair(padding)
    if ceil_mode or divisor_override or (not count_include_pad and (rows or columns)):
        raise _Lacking
    sides = [[0, 0], [rows, rows], [columns, columns], [0, 0]]
    result = tf.nn.avg_pool2d(
        tf.pad(_channels_last(input), sides), _pair(kernel_size), _pair(stride or kernel_size), "VALID"
    )
    return _channels_first(result)


def _conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    import tensorflow as tf

    if groups > 1:  # with unequal numbers of channels, only a GPU's kernel
        raise _Lacking
    if not isinstance(padding, str):
        rows, columns = _pair(padding)
        padding = [[0, 0], [rows, rows], [columns, columns], [0, 0]]
    else:
        padding = padding.upper()
    kernel = weight.transpose(2, 3, 1, 0)
    result = tf.nn.conv2d(_channels_last(input), kernel, _pair(stride), padding, dilations=_pair(dilation))
    return _channels_first(result if bias is None else result + bias)


def _conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    import tensorflow as tf

    if groups > 1 or _pair(dilation) != (1, 1):
        raise _Lacking
    (rows, columns), more, steps = _pair(padding), _pair(output_padding), _pair(stride)
    sides = zip(input.shape[2:], steps, weight.shape[2:], (rows, columns), more, strict=True)
    shape = [(size - 1) * s + k - 2 * p + m for size, s, k, p, m in sides]
    if any(p >= k for p, k in zip((rows, columns), weight.shape[2:], strict=True)):
        raise _Lacking
    result = tf.nn.conv2d_transpose(
        _channels_last(input),
        weight.transpose(2, 3, 1, 0),
        [len(input), *shape, weight.shape[1]],
        steps,
        [[0, 0], [rows, rows], [columns, columns], [0, 0]],
    )
    return _channels_first(result if bias is None else result + bias)


def _flatten(input, start_dim=0, end_dim=-1):
    import tensorflow as tf

    start, end = start_dim % input.ndim, end_dim % input.ndim
    return tf.reshape(input, [*input.shape[:start], math.prod(input.shape[start : end + 1]), *input.shape[end + 1 :]])


def _batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    import tensorflow as tf

    mean, variance, values = running_mean, running_var, _channels_last(input)
    if training:
        axes = [*range(input.ndim - 1)]
        mean, variance = tf.nn.moments(values, axes)
        if running_mean is not None:
            count = input.size / input.shape[1]
            running_mean += momentum * (mean.numpy() - running_mean)
            running_var += momentum * (variance.numpy() * count / (count - 1) - running_var)
    return _channels_first(tf.nn.batch_normalization(values, mean, variance, bias, weight, eps))


def _group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    import tensorflow as tf

    groups = tf.reshape(input, [len(input), num_groups, input[0].size // num_groups])
    mean, variance = tf.nn.moments(groups, [2], keepdims=True)
    values = tf.reshape(tf.nn.batch_normalization(groups, mean, variance, None, None, eps), input.shape)
    values = _channels_last(values.numpy()) * (1 if weight is None else weight)
    return _channels_first(values if bias is None else values + bias)


def _layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    import tensorflow as tf

    mean, variance = tf.nn.moments(tf.constant(input), [*range(-len(normalized_shape), 0)], keepdims=True)
    return tf.nn.batch_normalization(input, mean, variance, bias, weight, eps)


def _cross_entropy(input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    import tensorflow as tf

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


def _mse_loss(input, target, reduction="mean"):
    import tensorflow as tf

    squares = tf.math.squared_difference(input, target)
    return {"none": tf.identity, "sum": tf.reduce_sum, "mean": tf.reduce_mean}[reduction](squares)


def _of_input(name: str):
    def layer(input, **options):
        import tensorflow as tf

        return getattr(tf.nn, name)(input, **options)

    return layer


def _linear(input, weight, bias=None):
    import tensorflow as tf

    result = tf.tensordot(input, weight.T, 1)
    return result if bias is None else result + bias


_TENSORFLOW = {
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "conv2d": _conv2d,
    "conv_transpose2d": _conv_transpose2d,
    "flatten": _flatten,
    "sigmoid": _of_input("sigmoid"),
    "batch_norm": _batch_norm,
    "cross_entropy": _cross_entropy,
    "mse_loss": _mse_loss,
    "relu": _of_input("relu"),
    "linear": _linear,
    "softmax": lambda input, dim: _of_input("softmax")(input, axis=dim),
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
}
