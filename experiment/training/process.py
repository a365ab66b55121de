"""Trains in a separate process, for callers from Python.

The number of threads determines the order of summation in a convolution, and TensorFlow accepts it only before its
first operation. A new process therefore gives the same bits as `train.py`, whatever the caller did with TensorFlow.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path

from experiment import config as configuration
from experiment import files
from experiment.config import Config
from experiment.data import sources
from experiment.errors import Interrupted, UserError
from experiment.run_directory import RunDirectory
from experiment.training import start

_ROOT = Path(__file__).resolve().parents[2]


def train(
    config: Config, run: RunDirectory, data: str | None, existing: start.Existing = "refuse", quiet: bool = False
) -> dict:
    """`start.train` in a separate process, with the same errors and result; prints one line per epoch unless `quiet`.

    Args:
        data: the location of the images, as for `--data`.
    """
    start.plan(config, run, existing)  # report errors before a process is started
    path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with files.temporary_folder() as folder:
        job, outcome = folder / "job", folder / "outcome"
        # As text, since the class of an edited network cannot be pickled.
        (folder / "config.yaml").write_text(configuration.to_yaml(config), encoding="utf-8")
        job.write_bytes(pickle.dumps((run, data, existing, "quiet" if quiet else "lines")))
        command = [sys.executable, "-m", "experiment.training.process", str(job), str(outcome)]
        environment, pipe = os.environ | {"PYTHONPATH": path}, subprocess.PIPE
        # In a new session, Ctrl-C reaches only the caller, which forwards it once.
        with subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env=environment, start_new_session=True
        ) as child:
            try:
                _show(child)
            except BaseException as error:
                child.send_signal(signal.SIGINT)
                _show(child)
                child.wait()
                if not (isinstance(error, KeyboardInterrupt) and outcome.exists()):  # which says how the run ended
                    raise
        if not outcome.exists():
            why = " (killed, perhaps for lack of memory)" if child.returncode == -9 else ""
            told = f"{run.path}: the training process ended with code {child.returncode}{why}"
            raise UserError(f'{told}; existing="finish" continues the run')
        result = pickle.loads(outcome.read_bytes())
    if isinstance(result, BaseException):
        raise result
    return result


def _show(child: subprocess.Popen) -> None:
    for line in child.stdout or ():
        print(line, end="", flush=True)


def _end_with_caller() -> None:
    """Stops the training when the caller ends for any reason, such as a notebook's kernel that is restarted."""
    sys.stdin.read()  # until the caller's end of the pipe is closed
    os.kill(os.getpid(), signal.SIGTERM)


def _main(job: str, outcome: str) -> None:
    threading.Thread(target=_end_with_caller, daemon=True).start()
    run, data, existing, progress = pickle.loads(Path(job).read_bytes())
    sys.argv = ["experiment.train"]  # the command in the run's summary
    try:
        config = configuration.read_resolved(Path(job).with_name("config.yaml"))
        dataset = sources.load(data, settings=config.data)
        result = start.train(config, run, dataset, existing, progress)
    except (UserError, Interrupted) as error:
        result = error
    Path(outcome).write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    _main(*sys.argv[1:])
