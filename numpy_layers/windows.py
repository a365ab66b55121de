"""The windows that pooling and convolution look through."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from numpy_layers.arguments import CHANNELS_FIRST, require

Pair = tuple[int, int]


def padded(input: np.ndarray, rows: Pair, columns: Pair, value: float = 0.0) -> np.ndarray:
    """[n, c, h, w] with (before, after) rows and columns of `value` around each map; unchanged where there are none."""
    if not any(rows + columns):
        return input
    n, c, h, w = input.shape
    result = np.full((n, c, h + sum(rows), w + sum(columns)), value, input.dtype)
    result[:, :, rows[0] : rows[0] + h, columns[0] : columns[0] + w] = input
    return result


def extent(kernel_size: Pair, dilation: Pair) -> Pair:
    """The rows and columns that a kernel spans, the gaps between its points included."""
    return tuple(step * (size - 1) + 1 for size, step in zip(kernel_size, dilation, strict=True))


def same_sides(sizes: Pair, spans: Pair, stride: Pair) -> list[Pair]:
    """(before, after) to pad for ceil(size / stride) outputs, as "same" does: the odd row or column comes last."""
    missing = [max((-(-size // s) - 1) * s + k - size, 0) for size, k, s in zip(sizes, spans, stride, strict=True)]
    return [(total // 2, total - total // 2) for total in missing]


def windows(input: np.ndarray, kernel_size: Pair, stride: Pair, dilation: Pair) -> np.ndarray:
    """Every window of `input` [n, c, h, w] as a view [n, c, out_h, out_w, kernel_h, kernel_w]; nothing is copied."""
    spans = extent(kernel_size, dilation)
    fits = input.shape[2] >= spans[0] and input.shape[3] >= spans[1]
    hint = CHANNELS_FIRST if input.shape[1] >= spans[0] and input.shape[2] >= spans[1] else ""
    require(fits, "the padded input's height and width", input.shape[2:], f"at least the kernel's extent {spans}", hint)
    view = sliding_window_view(input, spans, axis=(2, 3))
    return view[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
