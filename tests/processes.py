"""Runs the project's commands in processes of their own that do not import TensorFlow each time.

They are forked from a server that has imported it, which saves five seconds of a core each.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.preloaded"])


class Command:
    """A command that runs, as a `subprocess.Popen`; what it prints is kept in files.

    Args:
        script: its file in the root of the project.
        prepare: a function that is called in the new process before the command.
        environment: variables to add.
    """

    def __init__(self, script: str, *arguments: Any, prepare: Callable[[], None] | None = None, **environment: str):
        self._printed = [Path(tempfile.mkstemp()[1]) for _ in range(2)]
        given = (script, [str(argument) for argument in arguments], environment, prepare, self._printed)
        self._process = _context.Process(target=_run, args=given)
        self._process.start()

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def send_signal(self, number: int) -> None:
        os.kill(self._process.pid, number)

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._printed[0].read_text()

    def finish(self, timeout: float = 900) -> subprocess.CompletedProcess:
        """Waits until it ends."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"{self._process} has not ended within {timeout} s"
        printed = [file.read_text() for file in self._printed]
        for file in self._printed:
            file.unlink()
        return subprocess.CompletedProcess("", self._process.exitcode, *printed)


def run(script: str, *arguments: Any, **keywords: Any) -> subprocess.CompletedProcess:
    """Runs a command until it ends."""
    return Command(script, *arguments, **keywords).finish()


def _run(script: str, arguments: list[str], environment: dict, prepare: Callable[[], None] | None, files: list[Path]):
    for stream, file in zip((1, 2), files, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), stream)
    os.environ |= environment
    os.chdir(ROOT)
    sys.argv = [script, *arguments]
    if prepare:
        prepare()
    runpy.run_path(str(ROOT / script), run_name="__main__")
