"""Runs the project's commands in processes of their own that do not import TensorFlow each time.

They are forked from a server that has imported it, which saves five seconds of a core each.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import time
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
        folder: the working directory.
        environment: all variables (default: those of this process).
        prepare: a function that is called in the new process before the command.
    """

    def __init__(
        self,
        script: str,
        *arguments: Any,
        folder: Path = ROOT,
        environment: dict[str, str] | None = None,
        prepare: Callable[[], None] | None = None,
    ):
        files = [tempfile.mkstemp() for _ in range(2)]
        self._printed = [Path(name) for _, name in files]
        for descriptor, _ in files:
            os.close(descriptor)
        argv = [str(ROOT / script), *map(str, arguments)]
        given = (argv, folder, dict(os.environ if environment is None else environment), prepare, self._printed)
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


def wait_until(condition: Callable[[], Any], seconds: float = 300) -> None:
    """Waits for a condition; fails if it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"nothing within {seconds} s"
        time.sleep(0.02)


def run(script: str, *arguments: Any, **keywords: Any) -> subprocess.CompletedProcess:
    """Runs a command until it ends."""
    return Command(script, *arguments, **keywords).finish()


def _run(argv: list[str], folder: Path, environment: dict, prepare: Callable[[], None] | None, files: list[Path]):
    for stream, file in zip((1, 2), files, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), stream)
    os.environ.clear()
    os.environ |= environment
    os.chdir(folder)
    sys.argv = argv
    if prepare:
        prepare()
    runpy.run_path(argv[0], run_name="__main__")
