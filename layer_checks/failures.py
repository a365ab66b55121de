"""A failing case in words: the call, what was expected, what came, and a hint where a known mistake explains it."""

import textwrap
from collections.abc import Callable

import numpy as np

from layer_checks.agreement import Agreement, Comparison, Failure
from layer_checks.module import TOO_LONG

_SHOWN = 50  # numbers of an array
_TRIED = 6  # failing cases on which a hint must prove true


def describe(result: Comparison, layer: str) -> str:
    """The options that a layer does not have, and its smallest failing case; nothing where it agrees in all."""
    function, failures, precision = result.layers[layer], result.failures[layer], result.precision
    missing = sorted(getattr(function, "missing", ()))
    lines = [f"{layer} is tested without {', '.join(missing)}: it has no such argument"] if missing else []
    if not failures:
        return "".join(lines)
    first, cases = failures[0], sum(agreement.cases for agreement in result.rows[layer].values())
    lines.append(f"{layer}: {len(failures)} of {cases} comparisons fail. The smallest case:")
    options = ", ".join(f"{name}={value!r}" for name, value in first.case.options.items())
    lines.append(f"  {layer}({', '.join([*first.case.arrays, *([options] if options else [])])})")
    lines += [_array(name, value) for name, value in first.case.arguments(precision).items() if hasattr(value, "shape")]
    results = ["", "running_mean ", "running_var "]
    got = [first.got] * len(first.expected) if isinstance(first.got, str) else first.got
    for name, expected, values in zip(results, first.expected, got, strict=False):
        if isinstance(values, str) or not _same(values, expected):
            lines.append(_array(f"{name}expected ({first.reference})", expected))
            lines.append(f"  {name}got: {values}" if isinstance(values, str) else _array(f"{name}got", values))
            break
    if hint := _hint(function, failures[:_TRIED], precision):
        lines.append(f"  hint: {hint}")
    return "\n".join(lines)


def _array(name: str, values: np.ndarray) -> str:
    text = np.array2string(values, precision=4, suppress_small=True, separator=", ", threshold=_SHOWN, edgeitems=2)
    return f"  {name}: {values.dtype}, shape {values.shape}\n{textwrap.indent(text, '    ')}"


def _same(got: np.ndarray, expected: np.ndarray) -> bool:
    return Agreement().add([got], [expected])


def _hint(function: Callable, failures: list[Failure], precision: str) -> str:
    """The first known mistake that explains most of the failing cases, the smallest of them included."""
    if failures[0].got == TOO_LONG or _mended(lambda call, _: call(), function, failures[0], precision):
        return ""  # the result itself is right where an argument was changed
    for sentence, mend in _MISTAKES.items():
        right = [_mended(mend, function, failure, precision) for failure in failures]
        if right[0] and 2 * sum(right) > len(right):
            return sentence
    return ""


def _mended(mend: Callable, function: Callable, failure: Failure, precision: str) -> bool:
    """Whether a call is right when its arguments are given, or its result is read, as the mistake has it."""
    arguments = failure.case.arguments(precision)

    def call(**changed) -> np.ndarray:
        return np.asarray(function(**arguments | changed))

    try:
        got = mend(call, arguments)
        return any(_same(values, failure.expected[0]) for values in (got if isinstance(got, list) else [got]))
    except (Exception, SystemExit):
        return False


# ---- mistakes: each calls the function so that, with this mistake, the result is right -------------------------------


def _channels_last(call: Callable, a: dict, **changed) -> np.ndarray:
    got = call(input=np.moveaxis(a["input"], 1, -1), **changed)
    return np.moveaxis(got, -1, 1) if got.ndim == a["input"].ndim else got


def _swapped(call: Callable, a: dict) -> np.ndarray:
    other = next(name for name in ("target", "boxes", "kernel_size", "weight") if name in a)
    return call(**{"input": a[other], other: a["input"]})


def _reversed_pairs(call: Callable, a: dict) -> np.ndarray:
    return call(**{name: value[::-1] for name, value in a.items() if isinstance(value, tuple)})


def _centred(call: Callable, a: dict) -> np.ndarray:
    x = a["input"]
    mean = x.mean((0, *range(2, x.ndim))) if a.get("training") else a["running_mean"]
    return call(input=x - mean.reshape(-1, *[1] * (x.ndim - 2)))


def _counts(a: dict) -> set[int]:
    kernel = np.prod(np.broadcast_to(a.get("kernel_size", 1), 2))
    return {int(kernel), a["input"].size, len(a["input"]), np.size(a.get("target", 0))} - {0, 1}


_MISTAKES: dict[str, Callable[[Callable, dict], np.ndarray | list[np.ndarray]]] = {
    "it reads input as [n, h, w, c]; here it is [n, c, h, w]": _channels_last,
    "it reads input as [n, h, w, c] and weight as [h, w, c, o]; here they are [n, c, h, w] and [o, c, h, w]": (
        lambda call, a: _channels_last(call, a, weight=a["weight"].transpose(2, 3, 1, 0))
    ),
    "it returns [n, h, w, c]; expected is [n, c, h, w]": lambda call, a: np.moveaxis(call(), -1, 1),
    "its first two arguments are in the other order": _swapped,
    "rows and columns of the kernel are exchanged: weight is [o, c, rows, columns]": (
        lambda call, a: call(weight=a["weight"].swapaxes(2, 3))
    ),
    "it turns the kernel round; expected is the cross-correlation, which does not": (
        lambda call, a: call(weight=a["weight"][:, :, ::-1, ::-1])
    ),
    "the first two dimensions of weight are exchanged": lambda call, a: call(weight=a["weight"].swapaxes(0, 1)),
    "a pair is (rows, columns), not (columns, rows)": _reversed_pairs,
    "a box is x1, y1, x2, y2: x counts columns, y rows": lambda call, a: call(boxes=a["boxes"][:, [0, 2, 1, 4, 3]]),
    "rows and columns of the result are exchanged": lambda call, a: call().swapaxes(-1, -2),
    "running_mean and running_var are exchanged": (
        lambda call, a: call(running_mean=a["running_var"], running_var=a["running_mean"])
    ),
    "the mean is not subtracted": _centred,
    "the sign is wrong": lambda call, a: -call(),
    "it is a sum where a mean is expected": lambda call, a: [call() / count for count in _counts(a)],
    "it is a mean where a sum is expected": lambda call, a: [call() * count for count in _counts(a)],
}
