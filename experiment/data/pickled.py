"""A safe parser for the pickles of CIFAR's python version: a dictionary of numbers, strings, lists and one NumPy array.

It implements only the opcodes that the official files use, on plain values, and rejects all others. It imports and
calls nothing, so no code in the file can run, and it needs little more memory than the file's size.
"""

import pickletools
from typing import Any, NamedTuple

import numpy as np

from experiment.errors import UserError

_MOST_OPERATIONS = 2**19  # the largest official file, CIFAR-100's 50,000 training images, has about 300,000
_VALUES = {
    "BININT", "BININT1", "BININT2", "BINBYTES", "SHORT_BINBYTES", "BINUNICODE", "SHORT_BINUNICODE", "NONE", "NEWTRUE",
    "NEWFALSE",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_ENCODE = "_codecs.encode"  # Python 3 writes bytes as a call of it, in protocol 2
_RECONSTRUCT = {"numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"}
_NAMES = {_ENCODE, "numpy.ndarray", "numpy.dtype"} | _RECONSTRUCT


class _Name(NamedTuple):
    """The name of a class or function in a pickle; it is never imported."""

    name: str


class _Object:
    """An instance of a class in a pickle: the class's name, arguments and state."""

    def __init__(self, name: str, arguments: tuple):
        self.name, self.arguments, self.state = name, arguments, None


def read(content: bytes) -> dict[bytes, Any]:
    """Parses a pickled dictionary; keys that are strings become bytes.

    Raises:
        UserError: it names anything but NumPy's arrays, or uses an opcode that no official file uses.
        Exception: of any type, if it is damaged or not a pickle.
    """
    reader = _Reader(content)
    for count, (operation, argument, _) in enumerate(pickletools.genops(content)):
        if count > _MOST_OPERATIONS:
            raise UserError("it has more opcodes than any official file")
        reader.execute(operation.name, argument)
    (result,) = reader.stack
    if type(result) is not dict:
        raise ValueError("it is not a dictionary")
    return result


def as_array(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A pickled uint8 array of this shape. Raises ValueError if `value` is anything else."""
    if type(value) is not _Object or type(value.state) is not tuple or len(value.state) != 5:
        raise ValueError("its data are not a NumPy array")
    _, found, dtype, by_columns, content = value.state
    if type(found) is not tuple or not all(type(size) is int for size in found):
        raise ValueError("its array has no valid shape")
    if type(dtype) is not _Object or dtype.name != "numpy.dtype" or dtype.arguments[:1] not in (("u1",), (b"u1",)):
        raise ValueError("its array is not of dtype uint8")
    if found != shape or by_columns or type(content) is not bytes or len(content) != np.prod(shape):
        raise ValueError(f"its array has the shape {str(found)[:100]}, not {shape}, or is not in C order")
    return np.frombuffer(content, np.uint8).reshape(shape)


class _Reader:
    def __init__(self, content: bytes):
        self.stack, self._marks, self._memo = [], [], {}
        self._encodable = len(content)  # how many characters may still be encoded to bytes

    def execute(self, operation: str, argument: Any) -> None:
        push = self.stack.append
        match operation:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MARK":
                self._marks.append(len(self.stack))
            case "BINSTRING" | "SHORT_BINSTRING":  # Python 2's bytes
                push(argument.encode("latin-1"))
            case "EMPTY_DICT":
                push({})
            case "EMPTY_LIST":
                push([])
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self.stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = self.stack[-1]
            case "BINGET" | "LONG_BINGET":
                push(self._memo[argument])
            case "TUPLE":
                push(tuple(self._since_mark()))
            case "APPEND" | "APPENDS":
                items = self._since_mark() if operation == "APPENDS" else [self.stack.pop()]
                self._top(list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self._since_mark() if operation == "SETITEMS" else self._last(2)
                self._set_items(items)
            case "GLOBAL" | "STACK_GLOBAL":
                push(self._named(argument.replace(" ", ".") if argument else self._last(2)))
            case "REDUCE":
                push(self._called(*self._last(2)))
            case "BUILD":
                state = self.stack.pop()
                self._top(_Object).state = state
            case _ if operation in _VALUES:
                push(_CONSTANTS.get(operation, argument))
            case _ if operation in _TUPLES:
                push(tuple(self._last(_TUPLES[operation])))
            case _:
                raise UserError(f"it uses the opcode {operation}, which no official file does")

    def _last(self, count: int) -> list:
        if len(self.stack) < count:
            raise ValueError("stack underflow")
        start = len(self.stack) - count
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _since_mark(self) -> list:
        return self._last(len(self.stack) - self._marks.pop())

    def _top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise ValueError("an opcode has an operand of the wrong type")
        return self.stack[-1]

    def _set_items(self, items: list) -> None:
        target = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (bytes, str):  # hashing nested tuples can take exponential time
                raise UserError("it has a key that is not a string")
            target[key.encode() if type(key) is str else key] = value

    def _named(self, name: str | list) -> _Name:
        if type(name) is list:
            if not all(type(text) is str for text in name):
                raise ValueError("a name is not a string")
            name = ".".join(name)
        if name not in _NAMES:
            raise UserError(f"it names {name[:100]}, which no official file does; no code was run")
        return _Name(name)

    def _called(self, function: Any, arguments: Any) -> Any:
        if type(function) is not _Name or type(arguments) is not tuple:
            raise ValueError("it calls something that is not a function")
        if function.name != _ENCODE:
            return _Object(function.name, arguments)
        if len(arguments) != 2 or type(arguments[0]) is not str or arguments[1] != "latin1":
            raise ValueError("it encodes something that is not a string")
        self._encodable -= len(arguments[0])
        if self._encodable < 0:
            raise UserError("it encodes more text than the file's size")
        return arguments[0].encode("latin-1")
