"""Checks of arguments: an error names the argument, says what it is and what was expected."""

import functools
import operator
from collections.abc import Callable

import numpy as np

CHANNELS_FIRST = "the shapes fit as [n, h, w, c], but channels come second here: np.moveaxis(input, -1, 1)"


def require(condition: bool, name: str, value, expected: str, hint: str = "") -> None:
    """Raises ValueError("<name> is <value>; expected <expected>") unless the condition holds; `hint` comes last."""
    if not condition:
        raise ValueError(f"{name} is {value!r}; expected {expected}" + (f" ({hint})" if hint else ""))


def array(name: str, value, *dimensions: int | str, hint: str = "") -> np.ndarray:
    """`value` as an array of these dimensions; an int is the required size, a word allows any; none: any shape."""
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(f"{name} is a masked array; expected one without a mask, which would be lost")
    try:
        value = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is no array: {error}") from None
    if dimensions:
        fits = value.ndim == len(dimensions) and all(
            isinstance(wanted, str) or wanted == size for wanted, size in zip(dimensions, value.shape, strict=True)
        )
        require(fits, f"the shape of {name}", value.shape, f"({', '.join(map(str, dimensions))})", hint)
    return value


def numbers(name: str, value, *dimensions: int | str) -> np.ndarray:
    """As `array`, and of floating point or whole numbers."""
    value = array(name, value, *dimensions)
    require(value.dtype.kind in "fiu", f"the dtype of {name}", str(value.dtype), "floating point or whole numbers")
    return value


def floats(name: str, value, *dimensions: int | str, like: np.ndarray | None = None, hint: str = "") -> np.ndarray:
    """As `array`, and of floating point numbers; in the precision of `like`, where it is given."""
    value = array(name, value, *dimensions, hint=hint)
    known = value.dtype.type in (np.float16, np.float32, np.float64)
    require(known, f"the dtype of {name}", str(value.dtype), "floating point: float16, float32 or float64")
    return value if like is None else value.astype(like.dtype, copy=False)


def half_in_single(layer: Callable) -> Callable:
    """Decorates a layer: an input of float16 is computed in float32, and the result is float16 again."""

    @functools.wraps(layer)
    def wrapped(input, *arguments, **options):
        input = array("input", input)
        if input.dtype != np.float16:
            return layer(input, *arguments, **options)
        with np.errstate(over="ignore"):  # what float16 cannot hold becomes infinite
            return layer(input.astype(np.float32), *arguments, **options).astype(np.float16)

    return wrapped


def batch_optional(layer: Callable) -> Callable:
    """Decorates a layer of maps [n, c, h, w]: one image [c, h, w] gives one result, without n."""

    @functools.wraps(layer)
    def wrapped(input, *arguments, **options):
        input = array("input", input)
        return layer(input[None], *arguments, **options)[0] if input.ndim == 3 else layer(input, *arguments, **options)

    return wrapped


def whole(name: str, value, least: int, most: float = np.inf, expected: str = "") -> int:
    """`value` as an int from `least` to `most`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    within = number is not None and least <= number <= most
    require(within, name, value, expected or f"a whole number, {least} or more")
    return number


def real(name: str, value, expected: str = "a number") -> float:
    """`value`, if it is one real number."""
    require(np.ndim(value) == 0 and np.asarray(value).dtype.kind in "fiu", name, value, expected)
    return float(value)  # one of NumPy's would change the precision of a result


def divisor(name: str, value, size: int, what: str) -> int:
    """`value` as an int that divides `size`, the number of `what`."""
    number = whole(name, value, 1)
    require(size % number == 0, name, number, f"a divisor of the {size} {what}")
    return number


def dimension(name: str, value, shape: tuple[int, ...]) -> int:
    """The number of a dimension of `shape`, counted from 0; `value` may be negative, counted from the end."""
    rank = len(shape)
    expected = f"{-rank} to {rank - 1}, for an input of shape {shape}"
    return whole(name, value, -rank, rank - 1, expected) % rank


def pair(name: str, value, least: int) -> tuple[int, int]:
    """(rows, columns) of an option that is one int for both, or a pair of ints."""
    values = tuple(value) if isinstance(value, tuple | list | np.ndarray) and np.ndim(value) == 1 else (value, value)
    require(len(values) == 2, name, value, "an int or a pair of ints")
    return whole(name, values[0], least), whole(name, values[1], least)
