"""The functions of a user's file, called as the layers of PyTorch that have their names."""

import contextlib
import importlib.util
import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path

import numpy_layers
from experiment.errors import UserError
from layer_checks.random_cases import LAYERS, Fault
from layer_checks.references import last_line

SECONDS, IMPORT_SECONDS = 10, 60  # for one call, and for the import of the file
TOO_LONG = f"it did not return within {SECONDS} seconds"


class _Alarm(BaseException):
    """Not to be caught by the user's own `except Exception`."""


def load(path: Path) -> dict[str, "Function"]:
    """The functions of a Python file that have the name of a layer, in the order of `LAYERS`.

    Raises:
        UserError: there is no such file, it cannot be imported, or it has none of these functions.
    """
    if not os.path.isfile(path):  # noqa: PTH113 (never raises)
        raise UserError(f"--module {path}: there is no such file")
    name = f"{path.stem} (--module)"  # of no other module
    loader = SourceFileLoader(name, str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    sys.modules[name] = module  # dataclasses look there
    sys.path.insert(0, str(path.resolve().parent))  # for what the file imports
    try:
        _limited(IMPORT_SECONDS, loader.exec_module, module)
    except Fault:
        raise UserError(f"--module {path} cannot be imported within {IMPORT_SECONDS} seconds") from None
    except (Exception, SystemExit) as error:
        raise UserError(f"--module {path} cannot be imported: {last_line(error)}") from None
    found = {name: getattr(module, name) for name in LAYERS if callable(getattr(module, name, None))}
    if not found:
        raise UserError(f"--module {path} has no function to test: name them {', '.join(LAYERS)}")
    return {name: Function(name, function) for name, function in found.items()}


class Function:
    """A user's function, called with the arguments of torch.nn.functional's.

    Arguments without a default in PyTorch are passed by position. The others are passed by name: PyTorch's, or the name
    that the user's function has at that position, if that has no default, or PyTorch's. `missing`: the arguments that
    it lacks.
    """

    def __init__(self, layer: str, function: Callable):
        self.function = function
        parameters = inspect.signature(getattr(numpy_layers, layer)).parameters
        self.positional = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
        optional = {name: place for place, name in enumerate(parameters) if name not in self.positional}
        try:
            theirs = inspect.signature(function).parameters
        except (TypeError, ValueError):  # written in C, say
            theirs = {}
        all_taken = not theirs or any(parameter.kind == parameter.VAR_KEYWORD for parameter in theirs.values())
        theirs = {n: p for n, p in theirs.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        names = list(theirs)
        own = [
            name if name not in parameters and theirs[name].default in (inspect.Parameter.empty, option.default) else ""
            for name, option in zip(names, parameters.values(), strict=False)
        ]
        self.names = {name: name if name in theirs else "".join(own[at : at + 1]) for name, at in optional.items()}
        if all_taken:
            self.names = {name: theirs_name or name for name, theirs_name in self.names.items()}
        self.missing = {name for name, theirs_name in self.names.items() if not theirs_name}
        needed = {name for name, parameter in theirs.items() if parameter.default is parameter.empty}
        self.filled = {
            theirs_name: parameters[name].default for name, theirs_name in self.names.items() if theirs_name in needed
        }

    def __call__(self, **given):
        positional = [given.pop(name) for name in self.positional]
        named = self.filled | {self.names[name]: value for name, value in given.items()}
        return _limited(SECONDS, self.function, *positional, **named)


def _limited(seconds: float, function: Callable, /, *arguments, **named):
    """Calls a function of the user's for at most so many seconds; what it prints goes to standard error."""

    def stop(*_):
        raise _Alarm

    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        return function(*arguments, **named)
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return function(*arguments, **named)
    except _Alarm:
        raise Fault(TOO_LONG) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
