"""How the commands read their arguments: options in full, numbers in decimal digits, `~` for the home directory."""

import argparse
import os
import re
from pathlib import Path

from experiment.errors import UserError


class Parser(argparse.ArgumentParser):
    """Takes no shortened options, and reports a mistake as every other one is reported."""

    def __init__(self, **keywords):
        super().__init__(allow_abbrev=False, **keywords)

    def error(self, message: str):
        raise UserError(f"{message}; {self.prog} --help lists the options")


def path(text: str) -> Path:
    """A type of argument: a path, which must name something; `~` is the home directory."""
    expanded = os.path.expanduser(text)
    if not text or text[0] == "~" == expanded[0]:
        raise argparse.ArgumentTypeError(f"{text!r} names no place" + (": there is no such home" if text else ""))
    return Path(expanded)


def path_or(*words: str):
    """A type of argument: one of the words, or a path; as text."""
    return lambda text: text if text in words else str(path(text))


def whole(least: int = 0):
    """A type of argument: a whole number in decimal digits."""

    def number(text: str) -> int:
        if not re.fullmatch("[0-9]{1,18}", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on, in decimal digits")
        return int(text)

    return number
