"""How the commands read their arguments: options in full, numbers in decimal digits, `~` for the home directory."""

import argparse
import re
import shlex
import shutil
import sys
from pathlib import Path

from experiment.errors import UserError


class Parser(argparse.ArgumentParser):
    """Takes no shortened options, and reports a mistake as every other one is reported."""

    def __init__(self, **keywords):
        super().__init__(allow_abbrev=False, **keywords)

    def error(self, message: str):
        raise UserError(f"{message}; {self.prog} --help lists the options")


def place(text: str) -> str:
    """A type of argument: a path, or a word in the place of one, which must not be empty; `~` is the home directory."""
    try:
        if text:
            return str(Path(text).expanduser()) if text[0] == "~" else text
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"{text}: there is no such home directory; write the path in full") from None
    raise argparse.ArgumentTypeError("it is empty")


def path(text: str) -> Path:
    """A type of argument: as `place`, and always a path."""
    return Path(place(text))


def whole(least: int = 0):
    """A type of argument: a whole number in decimal digits."""

    def number(text: str) -> int:
        if not re.fullmatch("[0-9]{1,18}", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on, in decimal digits")
        return int(text)

    return number


def amount(text: str) -> float:
    """A type of argument: a number from 0 on, in decimal digits."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on, in decimal digits")
    return float(text)


def command(script: str, *arguments: str) -> str:
    """The line that runs a script of this project, as it is typed where this process was started."""
    python = "python" if shutil.which("python") == sys.executable else sys.executable
    there = Path(script).resolve()
    here = Path(there.name).exists() and there.samefile(there.name)
    return shlex.join([python, there.name if here else str(there), *arguments])
