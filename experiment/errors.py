"""The errors that a user can cause, and how a command reports them."""

import sys
from contextlib import contextmanager

from experiment.printable import printable


class UserError(Exception):
    """A mistake that the user can mend.

    The message says what was wrong, where (file, key, value), and what to do. The commands print it without a
    traceback and exit with code 2.
    """

    def __init__(self, message: str):
        super().__init__(printable(message))  # it may quote what a stranger wrote


class Diverged(UserError):
    """The loss of a training became NaN or infinite."""


class Interrupted(Exception):
    """The user asked a training to stop (Ctrl-C, SIGTERM). `exit_code` is the one that a shell expects."""

    def __init__(self, exit_code: int):
        super().__init__(exit_code)
        self.exit_code = exit_code


@contextmanager
def reported():
    """Prints a `UserError` raised inside as one message on standard error, and exits with code 2; no traceback."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:  # Ctrl-C before training began or after it ended: there is nothing to save
        sys.exit(130)
