"""Executes runs in local processes or on a Ray cluster.

Both call `finish` for every run and return its files, so that a study's table does not depend on where it ran.
"""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment import copies, tensorflow_setup, terminal
from experiment.config import Config
from experiment.data import sources
from experiment.data.dataset import Dataset
from experiment.errors import Diverged, Interrupted, UserError
from experiment.evaluation.predict import predict_missing
from experiment.run_directory import RunDirectory
from experiment.sections import Data
from experiment.training import start

ROOT = Path(__file__).resolve().parents[2]
_NEEDED = ("experiment", "models", "configs", "numpy_layers")  # on the nodes of a cluster
_CONNECTION_SECONDS, _SECONDS_TO_STOP = 10, 60


@dataclass(frozen=True)
class Execution:
    """How runs are executed: by `workers` local processes, or as tasks on a Ray cluster."""

    executor: str = "local"  # or ray
    workers: int = 1
    address: str | None = None  # of a running cluster; None starts one on this machine
    cpus_per_run: int | None = None  # None: the number of cores divided by that of workers
    gpus_per_run: float = 0
    ship_data: bool = False  # whether to send the images to the workers

    def __post_init__(self):
        if self.executor == "local" and (self.address or self.ship_data or self.gpus_per_run):
            raise UserError("--address, --gpus-per-run and --ship-data belong to --executor ray")

    @property
    def cores(self) -> int:
        """Of a run."""
        return self.cpus_per_run or max(1, tensorflow_setup.available_cores() // self.workers)

    def job(self, config: Config, run: RunDirectory, data: str | None, until: int | None = None) -> "Job":
        where = data if data is None or data in sources.KEYWORDS else str(Path(data).absolute())
        return Job(config, run.path, where, self.cores, until)


@dataclass(frozen=True)
class Job:
    """One run, as it is sent to a worker."""

    config: Config
    path: Path
    where: str | None  # the value of `--data`
    cores: int  # the number of threads to use
    until: int | None = None  # the epoch after which it pauses


Outcome = dict[str, bytes] | Exception  # the run's small files, or why there are none
NextJob = Callable[[], Job | None]
Outcomes = Iterator[tuple[Job, Outcome]]


# ---- in a worker -----------------------------------------------------------------------------------------------------


def finish(job: Job, shipped: tuple[Data, Dataset] | None = None) -> dict[str, bytes]:
    """Starts or resumes a run, predicts the test images, and returns the run's small files by name.

    Args:
        shipped: a data set that was sent with the job, and its settings; another one is loaded as by `train.py`.

    Raises:
        UserError: the directory contains a run of another configuration, or on other images.
    """
    run, settings = RunDirectory(job.path), job.config.data
    sent = shipped is not None and shipped[0].images == settings.images
    dataset = shipped[1] if shipped and sent else sources.load(job.where, settings=settings)
    try:
        start.train(job.config, run, dataset, "finish", progress="quiet", cores=job.cores, until=job.until)
    except Diverged:
        pass  # recorded in its summary
    except Interrupted as interruption:
        os._exit(interruption.exit_code)  # the sender of the signal wants the process to end
    if run.read_summary()["status"] == "finished":
        predict_missing(run, lambda settings: dataset)
    return copies.contents(run)


def execute(next_job: NextJob, execution: Execution, data: str | None, settings: set[Data]) -> Outcomes:
    """Yields each job with its outcome as runs end, until none is running and there is no next job.

    Args:
        next_job: called when there is room for a run; returns None if there is no job at the moment.
        data: the value of `--data`.
        settings: all that the jobs have.
    """
    if execution.executor == "local":
        for each in {each.images: each for each in settings}.values():
            sources.load(data, settings=each)  # report an error once, and download once
        return run_locally(next_job, execution.workers)
    if execution.ship_data and len({each.images for each in settings}) > 1:
        raise UserError("--ship-data can send one data set, but the study has several: leave it out")
    first = next(iter(settings))
    return run_on_ray(next_job, execution, (first, sources.load(data, settings=first)) if execution.ship_data else None)


# ---- on this machine -------------------------------------------------------------------------------------------------


def run_locally(next_job: NextJob, workers: int) -> Outcomes:
    """As `execute`: each run has a process of its own, and a killed one does not affect the others.

    If this process is stopped, the others finish their step and end; continued, they repeat that epoch.
    """
    others = multiprocessing.active_children()
    running: dict = {}
    try:
        while True:
            while len(running) < workers and (job := next_job()) is not None:
                fresh = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
                pool = concurrent.futures.ProcessPoolExecutor(1, fresh, initializer=_end_with_parent)
                with _unheard_signals():
                    running[pool.submit(finish, job)] = job, pool
            if not running:
                return
            for future in concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED).done:
                job, pool = running.pop(future)
                pool.shutdown()
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    error = UserError("its process was killed, perhaps because memory ran out")
                yield job, error or future.result()
    finally:
        for worker in multiprocessing.active_children():
            if worker not in others:
                worker.terminate()
        for _, pool in running.values():
            pool.shutdown()


@contextlib.contextmanager
def _unheard_signals():
    """Blocks SIGINT and SIGHUP for processes that start in the context: this process handles them, and stops those."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """Stops this worker when its parent process ends for any reason; kills it if it does not stop in time."""

    def watch():
        if parent := multiprocessing.parent_process():
            parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_SECONDS_TO_STOP)
        os._exit(1)

    terminal.survive()
    threading.Thread(target=watch, daemon=True).start()


# ---- on a Ray cluster ------------------------------------------------------------------------------------------------


def run_on_ray(next_job: NextJob, execution: Execution, ship: tuple[Data, Dataset] | None) -> Outcomes:
    """As `execute`, on the cluster at an address, or on a new one on this machine. Ray retries runs of dead nodes.

    Ray gets all jobs at once, and starts each when enough cores are free.

    Raises:
        UserError: Ray is not installed, or it cannot connect to the address.
    """
    try:
        import ray
    except ImportError:
        raise UserError("Ray is not installed: pip install -e '.[cluster]'") from None
    address, gpus = execution.address, execution.gpus_per_run
    _check_address(address)
    others = [f"/{entry.name}" for entry in ROOT.iterdir() if entry.name not in _NEEDED]
    code = {"working_dir": str(ROOT), "excludes": others}
    try:
        ray.init(address or "local", runtime_env=code, log_to_driver=False, logging_level="error")
    except Exception as error:  # Ray raises many types
        where = f"--address {address}: cannot join the cluster" if address else "Ray cannot start on this machine"
        raise UserError(f"{where}: {error}") from None
    nodes = [node.get("Resources", {}) for node in ray.nodes() if node.get("Alive")]
    if not gpus and any(node.get("GPU") for node in nodes):
        print("note: the cluster has GPUs; without --gpus-per-run, runs of a node share its first one", file=sys.stderr)
    if not any(node.get("CPU", 0) >= execution.cores and node.get("GPU", 0) >= gpus for node in nodes):
        needs = f"{execution.cores} cores" + (f" and {gpus:g} GPUs" if gpus else "")
        print(f"note: no node has {needs} (--cpus-per-run): runs wait for one that has", file=sys.stderr)
    try:
        task: Any = ray.remote(num_gpus=gpus, max_retries=5, max_calls=1)(finish)
        shipped, waiting = ray.put(ship) if ship else None, {}
        while True:
            while (job := next_job()) is not None:
                waiting[task.options(num_cpus=job.cores).remote(job, shipped)] = job
            if not waiting:
                return
            (done, *_), _ = ray.wait(list(waiting))
            job = waiting.pop(done)
            try:
                yield job, ray.get(done)
            except ray.exceptions.RayError as error:
                yield job, error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
    finally:
        ray.shutdown()


def _check_address(address: str | None) -> None:
    """Checks the connection first: Ray waits long for an unreachable address, without a useful message."""
    if address is None or address in ("auto", "local"):
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        raise UserError(f"--address {address}: write it as HOST:PORT, for instance 10.0.0.1:6379")
    try:
        socket.create_connection((host, int(port)), _CONNECTION_SECONDS).close()
    except OSError as error:
        raise UserError(f"--address {address}: cannot connect ({error}). Is `ray start --head` running?") from None
