"""The argument parser of the commands, and types of arguments."""

import argparse
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Literal

from experiment.errors import UserError

FigureFormat = Literal["png", "svg", "pdf"]
TestTimeAugmentation = Literal["none", "flip", "flip_shift"]


class Parser(argparse.ArgumentParser):
    """Accepts no abbreviated options, and raises a UserError for a usage error."""

    def __init__(self, **keywords):
        super().__init__(allow_abbrev=False, **keywords)

    def error(self, message: str):
        raise UserError(f"{message}; see {self.prog} --help")


def place(text: str) -> str:
    """A type of argument: a path or a keyword, not empty; a leading `~` is expanded to the home directory."""
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    try:
        return str(Path(text).expanduser()) if text[0] == "~" else text
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"{text}: no such home directory; write the full path") from None


def path(text: str) -> Path:
    """A type of argument: a path, as for `place`."""
    return Path(place(text))


def whole(least: int = 0):
    """A type of argument: an integer of at least `least`, in decimal digits."""

    def number(text: str) -> int:
        if not re.fullmatch("[0-9]{1,18}", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not an integer of {least} or more, in decimal digits")
        return int(text)

    return number


def amount(text: str) -> float:
    """A type of argument: a number of at least 0, in decimal digits."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more, in decimal digits")
    return float(text)


def command(script: str, *arguments: str) -> str:
    """The shell command that runs a script of this project from the current directory."""
    python = "python" if shutil.which("python") == sys.executable else sys.executable
    there = Path(script).resolve()
    here = Path(there.name).exists() and there.samefile(there.name)
    return shlex.join([python, there.name if here else str(there), *arguments])
