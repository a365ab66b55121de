"""Checks of arguments: every mistake is answered with the argument's name, its value and what was expected."""

import operator

import numpy as np


def require(condition: bool, name: str, value, expected: str) -> None:
    """Raises ValueError("<name> is <value>; expected <expected>") unless the condition holds."""
    if not condition:
        raise ValueError(f"{name} is {value!r}; expected {expected}")


def array(name: str, value, *dimensions: int | str) -> np.ndarray:
    """`value` as an array of these dimensions; a number must be met, a word stands for any size; none: any shape."""
    value = np.asarray(value)
    if dimensions:
        fits = value.ndim == len(dimensions) and all(
            isinstance(wanted, str) or wanted == size for wanted, size in zip(dimensions, value.shape, strict=True)
        )
        require(fits, f"the shape of {name}", value.shape, f"({', '.join(map(str, dimensions))})")
    return value


def floats(name: str, value, *dimensions: int | str, like: np.ndarray | None = None) -> np.ndarray:
    """As `array`, and of floating point numbers; in the precision of `like`, where it is given."""
    value = array(name, value, *dimensions)
    require(np.issubdtype(value.dtype, np.floating), f"the dtype of {name}", str(value.dtype), "floating point")
    return value if like is None else value.astype(like.dtype, copy=False)


def whole(name: str, value, least: int) -> int:
    """`value` as an int that is not below `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    require(number is not None and number >= least, name, value, f"a whole number, {least} or more")
    return number


def pair(name: str, value, least: int) -> tuple[int, int]:
    """(rows, columns) of an option that is one int for both, or a pair of ints."""
    values = tuple(value) if isinstance(value, tuple | list | np.ndarray) and np.ndim(value) == 1 else (value, value)
    require(len(values) == 2, name, value, "an int or a pair of ints")
    return whole(name, values[0], least), whole(name, values[1], least)
