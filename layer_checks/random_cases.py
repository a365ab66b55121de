"""Random calls of the NumPy layers over all of their options. Needs NumPy alone."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

PRECISIONS = ("float32", "float64")


class Fault(Exception):
    """What a function did that no layer does, as a sentence."""


@dataclass(frozen=True)
class Case:
    """One call of a layer: `layer(**arrays, **options)`. Its numbers have three decimals, to be kept as ints."""

    layer: str
    arrays: dict[str, np.ndarray] = field(repr=False)
    options: dict

    def arguments(self, precision: str) -> dict:
        """Fresh keyword arguments, all floating arrays in `precision`."""
        return self.options | {
            name: array.astype(precision if array.dtype.kind == "f" else array.dtype)
            for name, array in self.arrays.items()
        }

    def without(self, names: set[str]) -> "Case":
        """The case without these arguments."""
        left = [{n: v for n, v in given.items() if n not in names} for given in (self.arrays, self.options)]
        return Case(self.layer, *left)

    def results(self, layer: Callable, precision: str) -> list[np.ndarray]:
        """What `layer` returns, and the running averages that it updates.

        Raises:
            Fault: it changed another argument, or returned no numbers.
        """
        arguments, before = self.arguments(precision), self.arguments(precision)
        returned = np.asarray(layer(**arguments))
        names = ("running_mean", "running_var") if self.options.get("training") else ()
        for name, value in arguments.items():
            if name not in names and not np.array_equal(value, before[name]):
                raise Fault(f"it changed its argument {name}")
        if returned.dtype.kind not in "fiub":
            raise Fault(f"it returned {returned!s:.80}, no array of numbers")
        return [returned, *(np.asarray(arguments[name]) for name in names if arguments[name] is not None)]


def differences(ours: list[np.ndarray], theirs: list[np.ndarray]) -> tuple[float, float]:
    """The largest absolute difference, and the largest relative to the scale (the largest size) of each result.

    Both are infinite where the shapes differ, or where one is NaN or infinite and the other is not the same.
    """
    absolute = relative = 0.0
    for a, b in zip(ours, theirs, strict=True):
        if a.shape != b.shape:
            return np.inf, np.inf
        a, b = a.astype(np.float64), b.astype(np.float64)
        finite = np.isfinite(a) & np.isfinite(b)
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
            return np.inf, np.inf
        if finite.any():
            largest = np.abs(a[finite] - b[finite]).max()
            absolute = max(absolute, largest)
            relative = max(relative, largest / max(1.0, np.abs(b[finite]).max()))
    return float(absolute), float(relative)


def generate(layer: str, count: int, seed: int = 0) -> list[Case]:
    """`count` random cases of a layer, over all of its options."""
    rng = np.random.default_rng([seed, LAYERS.index(layer)])
    return [_GENERATORS[layer](rng) for _ in range(count)]


def _values(rng, *shape: int, scale: float = 1.0) -> np.ndarray:
    return np.asarray(np.rint(1000 * scale * rng.normal(size=shape)) / 1000)


def _maps(rng, channels: int | None = None, most: int = 9) -> np.ndarray:
    n = int(rng.choice([0, 1, 2, 3], p=[0.04, 0.36, 0.4, 0.2]))
    return _values(rng, n, channels or int(rng.integers(1, 4)), *rng.integers(3, most + 1, 2), scale=2)


def _one_or_two(rng, low: int, high: int) -> int | tuple[int, int]:
    """An int or a pair, each number from `low` to `high`."""
    first, second = (int(number) for number in rng.integers(low, high + 1, 2))
    return first if rng.random() < 0.5 else (first, second)


def as_pair(value) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def _coin(rng) -> bool:
    return bool(rng.random() < 0.5)


def _some(rng, options: dict, least: float = 0.7) -> dict:
    """Each option with probability `least`, so that defaults are met too."""
    return {name: value for name, value in options.items() if rng.random() < least}


def _pooling(rng, layer: str) -> Case:
    kernel = _one_or_two(rng, 1, 3)
    half = tuple(int(rng.integers(0, k // 2 + 1)) for k in as_pair(kernel))
    options = {"stride": _one_or_two(rng, 1, 4), "padding": half, "ceil_mode": _coin(rng)}
    if layer == "max_pool2d":
        options["dilation"] = 1 if _coin(rng) else _one_or_two(rng, 1, 2)
    else:
        options["count_include_pad"] = _coin(rng)
        options["divisor_override"] = None if _coin(rng) else int(rng.integers(1, 12))
    arrays = {"input": _maps(rng)}
    options = {"kernel_size": kernel} | _some(rng, options)
    spans = [d * (k - 1) + 1 for k, d in zip(as_pair(kernel), as_pair(options.get("dilation", 1)), strict=True)]
    if any(size < span for size, span in zip(arrays["input"].shape[2:], spans, strict=True)):
        return _pooling(rng, layer)
    return Case(layer, arrays, options)


def _convolution(rng) -> Case:
    groups = int(rng.choice([1, 1, 1, 2, 3]))
    c, o = (groups * int(number) for number in rng.integers(1, 4, 2))
    input, kernel = _maps(rng, c), rng.integers(1, 4, 2)
    options = {"stride": _one_or_two(rng, 1, 3), "padding": _one_or_two(rng, 0, 3), "dilation": _one_or_two(rng, 1, 3)}
    kind = rng.choice(["numbers", "same", "valid"], p=[0.7, 0.2, 0.1])
    if kind != "numbers":
        options["padding"] = str(kind)
    if kind == "same":
        options["stride"] = 1
    options = _some(rng, options, 0.75) | ({"groups": groups} if groups > 1 else {})
    numbers = options.get("padding", 0)
    if numbers != "same":
        numbers = (0, 0) if numbers == "valid" else as_pair(numbers)
        spans = [d * (k - 1) + 1 for k, d in zip(kernel, as_pair(options.get("dilation", 1)), strict=True)]
        if any(s + 2 * p < span for s, p, span in zip(input.shape[2:], numbers, spans, strict=True)):
            return _convolution(rng)
    elif options.get("stride", 1) != 1:
        return _convolution(rng)
    arrays = {"input": input, "weight": _values(rng, o, c // groups, *kernel)}
    return Case("conv2d", arrays | _some(rng, {"bias": _values(rng, o)}), options)


def _transposed(rng) -> Case:
    groups = int(rng.choice([1, 1, 1, 2, 3]))
    c, o = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    input, kernel = _maps(rng, groups * c, most=5), rng.integers(1, 4, 2)
    stride, dilation = _one_or_two(rng, 1, 3), _one_or_two(rng, 1, 2)
    options = _some(rng, {"stride": stride, "dilation": dilation, "padding": _one_or_two(rng, 0, 2)}, 0.75)
    steps, gaps = as_pair(options.get("stride", 1)), as_pair(options.get("dilation", 1))
    if _coin(rng):
        options["output_padding"] = tuple(int(rng.integers(0, max(both))) for both in zip(steps, gaps, strict=True))
    if groups > 1:
        options["groups"] = groups
    sides = zip(input.shape[2:], steps, gaps, kernel, as_pair(options.get("padding", 0)), strict=True)
    if any((size - 1) * s + d * (k - 1) + 1 - 2 * p < 1 for size, s, d, k, p in sides):
        return _transposed(rng)
    arrays = {"input": input, "weight": _values(rng, groups * c, o, *kernel)}
    return Case("conv_transpose2d", arrays | _some(rng, {"bias": _values(rng, groups * o)}), options)


def _flattening(rng) -> Case:
    shape = rng.integers(1, 5, rng.integers(1, 6))
    start, end = sorted(int(number) for number in rng.integers(0, len(shape), 2))
    options = _some(rng, {"start_dim": start, "end_dim": end - len(shape) if _coin(rng) else end})
    return Case("flatten", {"input": _values(rng, *shape)}, options)


def _regions(rng) -> Case:
    input = _maps(rng, most=12)
    n, _, h, w = input.shape
    k = int(rng.integers(0, 5)) if n else 0
    scale = float(rng.choice([1.0, 0.5, 0.25, 2.0]))
    # Corners in quarters: many are halves after scaling, some boxes are malformed, some reach outside the map.
    corners = rng.integers(-8, 4 * max(h, w) + 8, (k, 4)) / 4 / scale
    tidy = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    corners = np.where(rng.random((k, 1)) < 0.85, tidy, corners)
    boxes = np.concatenate([rng.integers(0, max(n, 1), (k, 1)), corners], 1).astype(np.float64)
    options = {"output_size": _one_or_two(rng, 1, 5)} | _some(rng, {"spatial_scale": scale})
    return Case("roi_pool", {"input": input, "boxes": boxes}, options)


def _anything(rng, layer: str) -> Case:
    shape = rng.integers(0 if rng.random() < 0.1 else 1, 5, rng.integers(1, 5))
    arrays = {"input": _values(rng, *shape, scale=float(rng.choice([1, 10, 1000])))}
    return Case(layer, arrays, {"dim": int(rng.integers(-len(shape), len(shape)))} if layer == "softmax" else {})


def _normalizing(rng) -> Case:
    c = int(rng.integers(1, 5))
    n = int(rng.integers(2, 6))
    input = _values(rng, n, c, *rng.integers(1, 5, rng.integers(0, 4)), scale=4) + int(rng.integers(-8, 9))
    running = {"running_mean": _values(rng, c), "running_var": np.abs(_values(rng, c)) + 0.25}
    options = _some(rng, {"training": _coin(rng), "momentum": float(rng.choice([0.0, 0.01, 0.5, 1.0])), "eps": 1e-3})
    if options.get("training") and rng.random() < 0.2:
        options |= dict.fromkeys(running)
        running = {}
    arrays = {"input": input} | running | _some(rng, {"weight": _values(rng, c), "bias": _values(rng, c)})
    return Case("batch_norm", arrays, options)


def _grouping(rng) -> Case:
    groups = int(rng.integers(1, 4))
    c = groups * int(rng.integers(1, 4))
    input = _values(rng, int(rng.integers(0, 4)), c, *rng.integers(2, 5, rng.integers(1, 4)), scale=4)
    arrays = {"input": input} | _some(rng, {"weight": _values(rng, c), "bias": _values(rng, c)})
    return Case("group_norm", arrays, {"num_groups": groups} | _some(rng, {"eps": 1e-3}))


def _last_dimensions(rng) -> Case:
    shape = tuple(int(size) for size in rng.integers(2, 5, rng.integers(1, 4)))
    input = _values(rng, *rng.integers(0, 4, rng.integers(0, 3)), *shape, scale=4)
    arrays = {"input": input} | _some(rng, {"weight": _values(rng, *shape), "bias": _values(rng, *shape)})
    return Case("layer_norm", arrays, {"normalized_shape": shape} | _some(rng, {"eps": 1e-3}))


def _classification(rng) -> Case:
    n, c = int(rng.integers(1, 6)), int(rng.integers(1, 7))
    rest = [int(size) for size in rng.integers(1, 4, rng.choice([0, 0, 1, 2]))]
    arrays = {"input": _values(rng, n, c, *rest, scale=float(rng.choice([1, 5, 1000])))}
    options = {
        "reduction": str(rng.choice(["none", "sum", "mean"])),
        "label_smoothing": float(rng.choice([0.0, 0.1, 0.5, 1.0])),
    }
    options = _some(rng, options)
    if rng.random() < 0.35:
        counts = np.moveaxis(rng.multinomial(1000, np.full(c, 1 / c), (n, *rest)), -1, 1)
        arrays["target"] = counts / 1000
    else:
        arrays["target"] = rng.integers(0, c, (n, *rest))
        if _coin(rng):
            options["ignore_index"] = int(rng.choice([-100, -1, 0, c - 1, c + 3]))
            arrays["target"][rng.random((n, *rest)) < 0.3] = options["ignore_index"]
    return Case("cross_entropy", arrays | _some(rng, {"weight": np.abs(_values(rng, c)) + 0.25}, 0.5), options)


def _squared(rng) -> Case:
    shape = rng.integers(1, 5, rng.integers(0, 5))
    options = _some(rng, {"reduction": str(rng.choice(["none", "sum", "mean"]))})
    return Case("mse_loss", {"input": _values(rng, *shape, scale=3), "target": _values(rng, *shape, scale=3)}, options)


def _connected(rng) -> Case:
    features, outputs = (int(number) for number in rng.integers(1, 12, 2))
    arrays = {"input": _values(rng, *rng.integers(0, 4, rng.integers(0, 3)), features)}
    arrays["weight"] = _values(rng, outputs, features)
    return Case("linear", arrays | _some(rng, {"bias": _values(rng, outputs)}), {})


# The ten layers, and the five that networks need besides.
_GENERATORS: dict[str, Callable[[np.random.Generator], Case]] = {
    "max_pool2d": lambda rng: _pooling(rng, "max_pool2d"),
    "avg_pool2d": lambda rng: _pooling(rng, "avg_pool2d"),
    "conv2d": _convolution,
    "conv_transpose2d": _transposed,
    "flatten": _flattening,
    "roi_pool": _regions,
    "sigmoid": lambda rng: _anything(rng, "sigmoid"),
    "batch_norm": _normalizing,
    "cross_entropy": _classification,
    "mse_loss": _squared,
    "relu": lambda rng: _anything(rng, "relu"),
    "linear": _connected,
    "softmax": lambda rng: _anything(rng, "softmax"),
    "group_norm": _grouping,
    "layer_norm": _last_dimensions,
}
LAYERS = tuple(_GENERATORS)
