"""Standard streams that never fail, so that a closed terminal or a full disk does not stop a run."""

import contextlib
import io
import os
import sys


class _Surviving(io.FileIO):
    """A stream that discards output it cannot write, and stores the first error."""

    lost: OSError | None = None

    def write(self, data) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.lost = self.lost or error
            return len(data)


def survive() -> None:
    """Replaces standard output and error by streams that survive a closed pipe, a full disk or a closed descriptor.

    Characters that the encoding lacks are written as escapes. Streams that other code has replaced are left alone.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file to be opened would get this descriptor, and the output
            os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
            os.set_inheritable(descriptor, True)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        old = getattr(sys, name)
        if old is getattr(sys, f"__{name}__"):
            with contextlib.suppress(OSError):
                os.set_blocking(descriptor, True)  # another program may have left the terminal non-blocking
            buffer = io.BufferedWriter(_Surviving(descriptor, "w", closefd=False))
            options = {key: getattr(old, key, False) for key in ("line_buffering", "write_through")}
            encoding = old.encoding if old else "utf-8"
            setattr(sys, name, io.TextIOWrapper(buffer, encoding, "backslashreplace", **options))
