"""Errors that a user can cause, and the exit codes of the commands."""

import errno
import os
import signal
import sys
from contextlib import contextmanager

from experiment import terminal
from experiment.printable import printable

# Ctrl-C, `kill`, and a closed terminal.
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class UserError(Exception):
    """An error that the user can correct.

    The message says what was wrong, where (file, key, value), and what to do. The commands print it without a
    traceback and exit with code 2.
    """

    def __init__(self, message: str):
        super().__init__(printable(message))  # it may quote untrusted input


class Diverged(UserError):
    """The training loss became NaN or infinite."""


class Interrupted(KeyboardInterrupt):
    """A command received SIGINT (Ctrl-C), SIGTERM or SIGHUP. `exit_code` is 128 plus the signal's number."""

    def __init__(self, exit_code: int):
        super().__init__(exit_code)
        self.exit_code = exit_code


@contextmanager
def reported(go_on: str = "the same command starts again"):
    """The context in which every command runs: errors are printed without a traceback.

    A `UserError` and a lack of memory print one message to standard error and exit with code 2; a signal prints one
    line that says how to `go_on`.
    """
    terminal.survive()
    os.environ["MPLBACKEND"] = "agg"  # a notebook's backend cannot be imported in a command
    for number in STOP_SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # nohup ignores SIGHUP: keep that
            signal.signal(number, _stop)
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as interruption:
        print(f"\nstopped; {go_on}", file=sys.stderr)
        sys.exit(interruption.exit_code)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("experiment", "models", "numpy_layers", "layer_checks"):
            raise
        remedy = "pip install -r requirements.txt; or, after make, source .venv/bin/activate"
        remedy += " (make clean, if Python was upgraded)"
        print(f"error: {error.name} is not installed for {sys.executable}: {remedy}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if isinstance(error, FileNotFoundError) and not _has_working_directory():
            print("error: the working directory was removed; change to another one", file=sys.stderr)
            sys.exit(2)
        if not isinstance(error, MemoryError) and type(error).__name__ != "ResourceExhaustedError":  # TensorFlow's
            raise
        print("error: out of memory; use a smaller batch_size or fewer workers", file=sys.stderr)
        sys.exit(2)


def _has_working_directory() -> bool:
    try:
        return bool(os.getcwd())  # noqa: PTH109
    except FileNotFoundError:
        return False


def _stop(number, frame):
    raise Interrupted(128 + number)


def check_printed() -> None:
    """Raises a UserError if standard output is incomplete, unless its reader closed the pipe."""
    sys.stdout.flush()
    error = getattr(getattr(getattr(sys.stdout, "buffer", None), "raw", None), "lost", None)
    if error and error.errno != errno.EPIPE:
        raise UserError(f"standard output cannot be written: {error.strerror}")
