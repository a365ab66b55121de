"""A training in a process of its own, for callers from Python.

TensorFlow takes the number of its threads only before its first operation, and the sums inside a convolution are added
in another order with another number of threads. So a fresh process gives the bits of `train.py`, whatever TensorFlow
did before in the caller's.
"""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from experiment.config import Config
from experiment.data import sources
from experiment.errors import Interrupted, UserError
from experiment.run_directory import RunDirectory
from experiment.training import start

_ROOT = Path(__file__).resolve().parents[2]


def train(
    config: Config, run: RunDirectory, data: str | None, existing: start.Existing = "refuse", quiet: bool = False
) -> dict:
    """`start.train` in a process of its own: the same errors and result; prints a line an epoch.

    Args:
        data: where the images are, as `--data` says it.
    """
    start.plan(config, run, existing)  # a mistake is said before a process is started
    path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory() as folder:
        job, outcome = Path(folder, "job"), Path(folder, "outcome")
        job.write_bytes(pickle.dumps((config, run, data, existing, "quiet" if quiet else "lines")))
        command = [sys.executable, "-m", "experiment.training.process", str(job), str(outcome)]
        # A session of its own: Ctrl-C reaches the caller alone, which passes it on once.
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}, start_new_session=True
        ) as child:
            try:
                _show(child)
            except BaseException:
                child.send_signal(signal.SIGINT)
                _show(child)
                raise
        if not outcome.exists():
            raise UserError(f"{run.path}: the training's process ended with code {child.returncode}")
        result = pickle.loads(outcome.read_bytes())
    if isinstance(result, BaseException):
        raise result
    return result


def _show(child: subprocess.Popen) -> None:
    for line in child.stdout or ():
        print(line, end="", flush=True)


def _main(job: str, outcome: str) -> None:
    config, run, data, existing, progress = pickle.loads(Path(job).read_bytes())
    try:
        dataset = sources.load(data, settings=config.data)
        result = start.train(config, run, dataset, existing, progress)
    except (UserError, Interrupted) as error:
        result = error
    Path(outcome).write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    _main(*sys.argv[1:])
