"""Max and average pooling."""

import numpy as np

from numpy_layers.arguments import batch_optional, floats, half_in_single, numbers, pair, real, require
from numpy_layers.windows import Pair, extent, padded, windows


@batch_optional
def max_pool2d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False) -> np.ndarray:
    """The maximum of each window: out[n, c, y, x] = max over (i, j) of input[n, c, y s + i d - p, x s + j d - p].

    Args:
        input: [n, c, h, w] or [c, h, w], of floating point or whole numbers.
        kernel_size, stride, padding, dilation: k, s, p, d: an int, or one for rows and one for columns. The stride
            is the kernel's size where it is None. What is padded counts as -inf; at most half the kernel.
        ceil_mode: also keep a last window that reaches past the end, if it starts in the input or before.

    Returns:
        [n, c, out_h, out_w] or [c, out_h, out_w], out_h = floor((h + 2 p - d (k - 1) - 1) / s) + 1, or ceil.

    Source: torch.nn.functional.max_pool2d.
    """
    input = numbers("input", input, "n", "c", "h", "w")
    lowest = -np.inf if np.issubdtype(input.dtype, np.floating) else np.iinfo(input.dtype).min
    kernel_size, stride, padding = _options(kernel_size, stride, padding)
    dilation = pair("dilation", dilation, 1)
    rows, columns = _sides(input.shape[2:], extent(kernel_size, dilation), stride, padding, ceil_mode)
    view = windows(padded(input, rows, columns, lowest), kernel_size, stride, dilation)
    return _over_windows(np.maximum, view)


@half_in_single
@batch_optional
def avg_pool2d(
    input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
) -> np.ndarray:
    """The mean of each window: out[n, c, y, x] = sum over (i, j) of input[n, c, y s + i - p, x s + j - p] / count.

    Args:
        input: [n, c, h, w] or [c, h, w].
        kernel_size, stride, padding, ceil_mode: as in `max_pool2d`; what is padded adds 0 to the sum.
        count_include_pad: whether the padding is counted. What lies beyond it, in ceil mode, never is.
        divisor_override: a number to divide by instead of the count.

    Returns:
        [n, c, out_h, out_w] or [c, out_h, out_w], as in `max_pool2d` with dilation 1.

    Source: torch.nn.functional.avg_pool2d.
    """
    input = floats("input", input, "n", "c", "h", "w")
    kernel_size, stride, padding = _options(kernel_size, stride, padding)
    expected = "a number other than 0, or None"
    fits = divisor_override is None or real("divisor_override", divisor_override, expected) != 0
    require(fits, "divisor_override", divisor_override, expected)
    sides = _sides(input.shape[2:], kernel_size, stride, padding, ceil_mode)
    sums = _over_windows(np.add, windows(padded(input, *sides), kernel_size, stride, (1, 1)))
    if divisor_override is None:
        # The count is the same pooling, of a map that is 1 wherever a position counts.
        counted = padding if count_include_pad else (0, 0)
        ones = np.ones((1, 1, input.shape[2] + 2 * counted[0], input.shape[3] + 2 * counted[1]), input.dtype)
        rest = [(before - c, after - c) for (before, after), c in zip(sides, counted, strict=True)]
        divisor_override = _over_windows(np.add, windows(padded(ones, *rest), kernel_size, stride, (1, 1)))
    sums /= divisor_override
    return sums


def _options(kernel_size, stride, padding) -> tuple[Pair, Pair, Pair]:
    kernel_size = pair("kernel_size", kernel_size, 1)
    stride = kernel_size if stride is None else pair("stride", stride, 1)
    padding = pair("padding", padding, 0)
    fits = all(2 * p <= k for p, k in zip(padding, kernel_size, strict=True))
    require(fits, "padding", padding, f"at most half of kernel_size {kernel_size}")
    return kernel_size, stride, padding


def _sides(shape: Pair, spans: Pair, stride: Pair, padding: Pair, ceil_mode: bool) -> list[Pair]:
    """(before, after) to pad along rows and columns, so that the last window of ceil mode is whole."""
    sides = []
    for size, span, step, before in zip(shape, spans, stride, padding, strict=True):
        after = before
        if ceil_mode:
            last = -(-(size + 2 * before - span) // step) * step  # where the last window starts, rounded up
            if last >= size + before:  # in the padding after the input: it would see nothing of it
                last -= step
            after = max(before, last + span - size - before)
        sides.append((before, after))
    return sides


def _over_windows(operation: np.ufunc, view: np.ndarray) -> np.ndarray:
    """Reduces each window [..., kernel_h, kernel_w] to one number.

    One pass over all windows for each kernel position is much quicker than one tiny reduction for each window.
    """
    result = view[..., 0, 0].copy()
    for position in list(np.ndindex(view.shape[-2:]))[1:]:
        operation(result, view[(..., *position)], out=result)
    return result
