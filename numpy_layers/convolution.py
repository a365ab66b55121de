"""Convolution and its transpose, with strides, padding, dilation and groups."""

import math

import numpy as np

from numpy_layers.arguments import CHANNELS_FIRST, batch_optional, divisor, floats, half_in_single, pair, require
from numpy_layers.windows import extent, padded, same_sides, windows


@half_in_single
@batch_optional
def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> np.ndarray:
    """Cross-correlation: the sum of each window, times the kernel.

    out[n, o, y, x] = bias[o] + sum over c, i, j of weight[o, c, i, j] input[n, c, y s + i d - p, x s + j d - p].

    Args:
        input: [n, c, h, w] or [c, h, w].
        weight: [o, c / groups, kernel_h, kernel_w]; the outputs of a group see the inputs of that group alone.
        bias: [o].
        stride, padding, dilation: s, p, d: an int, or one for rows and one for columns. What is padded is 0.
            padding may be "valid" (none), or "same" with stride 1: as many outputs as inputs; of an odd number of
            rows or columns to pad, the odd one comes last.

    Returns:
        [n, o, out_h, out_w] or [o, out_h, out_w], out_h = floor((h + 2 p - d (kernel_h - 1) - 1) / s) + 1.

    Source: torch.nn.functional.conv2d; Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016.
    """
    input = floats("input", input, "n", "c", "h", "w")
    groups = divisor("groups", groups, input.shape[1], "channels of input")
    hint = _layout_hint(input, weight, groups, 1)
    weight = floats("weight", weight, "o", input.shape[1] // groups, "kernel_h", "kernel_w", like=input, hint=hint)
    outputs, _, *kernel_size = weight.shape
    require(min(kernel_size) > 0, "the shape of weight", weight.shape, "a kernel of at least 1 x 1")
    divisor("groups", groups, outputs, "outputs of weight")
    stride, dilation = pair("stride", stride, 1), pair("dilation", dilation, 1)
    if isinstance(padding, str):
        require(padding in ("same", "valid"), "padding", padding, 'an int, a pair of ints, "same" or "valid"')
        require(padding == "valid" or stride == (1, 1), "stride", stride, '1, with padding "same"')
        spans = extent(kernel_size, dilation) if padding == "same" else (1, 1)
        sides = same_sides(input.shape[2:], spans, stride)
    else:
        sides = [(side, side) for side in pair("padding", padding, 0)]

    view = windows(padded(input, *sides), kernel_size, stride, dilation)
    n, c, h, w = view.shape[:4]
    # Every window of every image becomes a column, so that one matrix product a group makes all of its sums.
    columns = view.transpose(1, 4, 5, 0, 2, 3).reshape(groups, c // groups * math.prod(kernel_size), n * h * w)
    output = weight.reshape(groups, outputs // groups, columns.shape[1]) @ columns
    return _plus_bias(output.reshape(outputs, n, h, w).swapaxes(0, 1), bias)


@half_in_single
@batch_optional
def conv_transpose2d(
    input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
) -> np.ndarray:
    """The way back from a convolution: every input pixel stamps the kernel, times its value, onto the output.

    out[n, o, y s + i d - p, x s + j d - p] sums input[n, c, y, x] weight[c, o, i, j] over c, y, x, i, j; plus bias[o].

    Args:
        input: [n, c, h, w] or [c, h, w].
        weight: [c, o / groups, kernel_h, kernel_w].
        bias: [o].
        stride, padding, dilation: those of the convolution, an int, or one for rows and one for columns: padding is
            cut off the output's sides.
        output_padding: rows and columns that the output has more at its end; less than the stride or the dilation.

    Returns:
        [n, o, out_h, out_w] or [o, out_h, out_w], out_h = (h - 1) s - 2 p + d (kernel_h - 1) + output_padding + 1.

    Source: torch.nn.functional.conv_transpose2d; Dumoulin and Visin, 2016, chapter 4.
    """
    input = floats("input", input, "n", "c", "h", "w")
    n, c, h, w = input.shape
    groups = divisor("groups", groups, c, "channels of input")
    hint = _layout_hint(input, weight, 1, 0)
    weight = floats("weight", weight, c, "o / groups", "kernel_h", "kernel_w", like=input, hint=hint)
    outputs, kernel_size = groups * weight.shape[1], weight.shape[2:]
    require(min(kernel_size) > 0, "the shape of weight", weight.shape, "a kernel of at least 1 x 1")
    stride, dilation = pair("stride", stride, 1), pair("dilation", dilation, 1)
    padding, more = pair("padding", padding, 0), pair("output_padding", output_padding, 0)
    less = all(m < max(s, d) for m, s, d in zip(more, stride, dilation, strict=True))
    require(less, "output_padding", more, f"less than stride {stride} or dilation {dilation}")
    spans = extent(kernel_size, dilation)
    whole_h, whole_w = ((size - 1) * s + span + m for size, s, span, m in zip((h, w), stride, spans, more, strict=True))
    fits = whole_h > 2 * padding[0] and whole_w > 2 * padding[1]
    require(fits, "padding", padding, f"less than half of the output before it is cut, {(whole_h, whole_w)}")

    kernels = weight.reshape(groups, c // groups, math.prod(weight.shape[1:])).swapaxes(1, 2)
    pixels = input.swapaxes(0, 1).reshape(groups, c // groups, n * h * w)
    stamps = (kernels @ pixels).reshape(outputs, *kernel_size, n, h, w)
    output = np.zeros((n, outputs, whole_h, whole_w), input.dtype)
    for i, j in np.ndindex(*kernel_size):
        top, left = i * dilation[0], j * dilation[1]
        landing = np.s_[:, :, top : top + h * stride[0] : stride[0], left : left + w * stride[1] : stride[1]]
        output[landing] += stamps[:, i, j].swapaxes(0, 1)
    return _plus_bias(output[:, :, padding[0] : whole_h - padding[0], padding[1] : whole_w - padding[1]], bias)


def _layout_hint(input: np.ndarray, weight, groups: int, axis: int) -> str:
    """What to do where a weight whose input channels are along `axis` does not fit: Keras's layouts are others."""
    channels = [size * groups for size in np.shape(weight)]
    if len(channels) != 4:
        return ""
    if input.shape[3] in (channels[axis], channels[3 - axis]):
        return CHANNELS_FIRST
    fits = {
        "it fits in Keras's layout: weight.transpose(3, 2, 0, 1)": input.shape[1] == channels[3 - axis],
        "it fits the other way round: np.swapaxes(weight, 0, 1)": input.shape[1] == channels[1 - axis],
    }
    return ", or ".join(hint for hint, fit in fits.items() if fit)


def _plus_bias(output: np.ndarray, bias) -> np.ndarray:
    if bias is not None:
        output += floats("bias", bias, output.shape[1], like=output)[:, None, None]
    return output
