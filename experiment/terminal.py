"""The streams of a command: nothing that happens to them costs a run."""

import contextlib
import errno
import io
import os
import sys


class _Surviving(io.FileIO):
    """A stream that drops what cannot be written, and remembers the first reason."""

    lost: OSError | None = None

    def write(self, data) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.lost = self.lost or error
            return len(data)


def survive() -> None:
    """Lets the process outlive its output: a reader that has gone, a full disk, streams that are closed from the start.

    What a stream's encoding lacks is written as an escape. Streams that somebody else has put in place stay.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file that is opened would take its number, and what is printed
            os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
            os.set_inheritable(descriptor, True)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        old = getattr(sys, name)
        if old is getattr(sys, f"__{name}__"):
            with contextlib.suppress(OSError):
                os.set_blocking(descriptor, True)  # a terminal that another program left otherwise
            buffer = io.BufferedWriter(_Surviving(descriptor, "w", closefd=False))
            kept = {key: getattr(old, key, False) for key in ("line_buffering", "write_through")}
            encoding = old.encoding if old else "utf-8"
            setattr(sys, name, io.TextIOWrapper(buffer, encoding, "backslashreplace", **kept))


def lost_output() -> str | None:
    """Why not all of standard output could be written; None where it was, or where its reader wanted no more."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    error = getattr(raw, "lost", None)
    return error.strerror if error and error.errno != errno.EPIPE else None
