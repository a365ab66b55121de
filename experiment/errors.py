"""The errors that a user can cause, and how a command ends."""

import os
import signal
import sys
from contextlib import contextmanager

from experiment import terminal
from experiment.printable import printable

# Ctrl-C, `kill`, and a terminal that is closed.
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class UserError(Exception):
    """A mistake that the user can mend.

    The message says what was wrong, where (file, key, value), and what to do. The commands print it without a
    traceback and exit with code 2.
    """

    def __init__(self, message: str):
        super().__init__(printable(message))  # it may quote what a stranger wrote


class Diverged(UserError):
    """The loss of a training became NaN or infinite."""


class Interrupted(KeyboardInterrupt):
    """The user asked a command to stop (Ctrl-C, SIGTERM, SIGHUP). `exit_code` is the one that a shell expects."""

    def __init__(self, exit_code: int):
        super().__init__(exit_code)
        self.exit_code = exit_code


@contextmanager
def reported(go_on: str = "the same command starts again"):
    """What every command runs in: its output may fail, and it ends without a traceback.

    A `UserError` and a lack of memory become one message on standard error and exit code 2; a signal to stop becomes
    one line that says how to `go_on`.
    """
    terminal.survive()
    os.environ["MPLBACKEND"] = "agg"  # a notebook's cannot be imported outside of it
    for number in STOP_SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # one that nohup turned off stays
            signal.signal(number, _stop)
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as interruption:
        print(f"\nstopped; {go_on}", file=sys.stderr)
        sys.exit(interruption.exit_code)
    except Exception as error:
        if not isinstance(error, MemoryError) and type(error).__name__ != "ResourceExhaustedError":  # TensorFlow's
            raise
        print("error: out of memory; a smaller batch_size or fewer workers need less", file=sys.stderr)
        sys.exit(2)


def _stop(number, frame):
    raise Interrupted(128 + number)


def check_printed() -> None:
    """For a command whose output is its result. Raises UserError where it could not be written."""
    reason = terminal.lost_output()
    if reason:
        raise UserError(f"standard output cannot be written: {reason}")
