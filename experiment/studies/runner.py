"""The runs of a study, carried out: by processes of this machine, or by a Ray cluster.

Both give every run to `finish`, which starts, goes on with, or only reads it, and both bring back what it returns; so
a study's table, which is read off those files, does not depend on where its runs went.
"""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment import tensorflow_setup, terminal
from experiment.config import Config
from experiment.data import sources
from experiment.data.dataset import Dataset
from experiment.errors import Diverged, Interrupted, UserError
from experiment.evaluation.predict import predict_missing
from experiment.run_directory import RunDirectory
from experiment.training import start

ROOT = Path(__file__).resolve().parents[2]
_CONNECTION_SECONDS, _SECONDS_TO_STOP = 10, 60


@dataclass(frozen=True)
class Job:
    """One run, as it is sent to a worker. `where` is what `--data` says; `cores` the threads that it may use."""

    config: Config
    path: Path
    where: str | None
    cores: int


# ---- in a worker -----------------------------------------------------------------------------------------------------


def finish(job: Job, shipped: Dataset | None = None) -> dict[str, bytes]:
    """Trains a run to its end from wherever it is, answers the test images, and returns its small files by name.

    Args:
        shipped: the data set, where it came with the job; else it is found as `train.py` finds it.

    Raises:
        UserError: the directory holds a run of another configuration, or on other images.
    """
    dataset, run = shipped or sources.load(job.where, settings=job.config.data), RunDirectory(job.path)
    _share_gpus()
    try:
        start.train(job.config, run, dataset, "finish", progress="quiet", cores=job.cores)
    except Diverged:
        pass  # its summary says so
    except Interrupted as interruption:
        os._exit(interruption.exit_code)  # as if it had not been caught: who sent it wants the process gone
    if run.read_summary()["status"] == "finished":
        predict_missing(run, lambda settings: dataset)
    return run.small_files()


def _share_gpus() -> None:
    """Else the first run takes all the memory of a GPU that several share."""
    tensorflow_setup.start()
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


# ---- on this machine -------------------------------------------------------------------------------------------------


def run_locally(jobs: Sequence[Job], workers: int) -> Iterator[tuple[int, dict[str, bytes] | Exception]]:
    """Yields (position of the job, the run's small files or what went wrong) as runs end.

    A process for each run: nothing of one run is left to the next, and one that is killed takes no other along. Where
    this one is stopped, they finish their step, write what is needed to go on, and end.
    """
    others = multiprocessing.active_children()
    waiting, running = collections.deque(enumerate(jobs)), {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                position, job = waiting.popleft()
                fresh = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
                pool = concurrent.futures.ProcessPoolExecutor(1, fresh, initializer=_end_with_parent)
                with _unheard_signals():
                    running[pool.submit(finish, job)] = position, pool
            for future in concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED).done:
                position, pool = running.pop(future)
                pool.shutdown()
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    error = UserError("its process was killed, for want of memory perhaps")
                yield position, error or future.result()
    finally:
        for worker in multiprocessing.active_children():
            if worker not in others:
                worker.terminate()
        for _, pool in running.values():
            pool.shutdown()


@contextlib.contextmanager
def _unheard_signals():
    """Processes that are started inside hear neither Ctrl-C nor the terminal's end: this one does, and tells them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """Stops this worker when its parent has gone, however it went; a training that does not stop is ended."""

    def watch():
        if parent := multiprocessing.parent_process():
            parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_SECONDS_TO_STOP)
        os._exit(1)

    terminal.survive()
    threading.Thread(target=watch, daemon=True).start()


# ---- on a Ray cluster ------------------------------------------------------------------------------------------------


def run_on_ray(
    jobs: Sequence[Job], address: str | None, gpus: float, ship: Dataset | None
) -> Iterator[tuple[int, dict[str, bytes] | Exception]]:
    """As `run_locally`, on the cluster at `address`, or on one that is started on this machine.

    A run whose node dies is given to another node, by Ray.

    Raises:
        UserError: Ray is not installed, or no cluster answers at the address.
    """
    try:
        import ray
    except ImportError:
        raise UserError("Ray is not installed: pip install -e '.[cluster]'") from None
    _check_address(address)
    code = {"working_dir": str(ROOT), "excludes": ["checkpoints", "results", ".venv", ".git", "tests", "docs"]}
    try:
        ray.init(address or "local", runtime_env=code, log_to_driver=False, logging_level="error")
    except Exception as error:  # Ray raises many kinds
        raise UserError(f"--address {address}: the cluster does not take us in: {error}") from None
    try:
        cores = jobs[0].cores if jobs else 1
        task: Any = ray.remote(num_cpus=cores, num_gpus=gpus, max_retries=5, max_calls=1)(finish)
        shipped = ray.put(ship) if ship else None
        waiting = {task.remote(job, shipped): position for position, job in enumerate(jobs)}
        while waiting:
            (done, *_), _ = ray.wait(list(waiting))
            position = waiting.pop(done)
            try:
                yield position, ray.get(done)
            except ray.exceptions.RayError as error:
                yield position, error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
    finally:
        ray.shutdown()


def _check_address(address: str | None) -> None:
    """Ray itself waits long, and says little, where nobody answers."""
    if address is None or address in ("auto", "local"):
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        raise UserError(f"--address {address}: write it as HOST:PORT, for instance 10.0.0.1:6379")
    try:
        socket.create_connection((host, int(port)), _CONNECTION_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"--address {address}: nobody answers there ({error}). Is `ray start --head` running?"
        ) from None


def cores_of(workers: int) -> int:
    """The share of this machine's cores that each of so many workers has."""
    return max(1, tensorflow_setup.available_cores() // workers)
