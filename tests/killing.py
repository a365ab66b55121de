"""Trains in a process of its own that is killed, and compares what is left bit for bit."""

import io
import itertools
import os
import random
import signal
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from experiment.run_directory import RunDirectory
from tests.processes import Command, wait_until

# Four epochs of a second each, so that many of the moments at which a run is killed lie between its writes.
SMALL = ["--data", "synthetic", "--quiet", "--set", "epochs=4", "--set", "batch_size=100"]
SMALL += ["--set", "data.training_images=1000", "--set", "data.validation_images=200"]


def _kill_at(moment: int | str) -> None:
    """Kills this process when a file whose name ends so is made durable, or the Nth time that anything is.

    A file is made durable before its renaming, its directory after it.
    """
    from experiment import files

    sync, syncs = files.sync, itertools.count(1)

    def killing_sync(path: Path) -> None:
        if moment == next(syncs) or (isinstance(moment, str) and path.name.endswith(moment)):
            os.kill(os.getpid(), signal.SIGKILL)
        sync(path)

    files.sync = killing_sync


def arguments(config: str, run: Path, *extra: str) -> list[str]:
    """Those of the train.py that starts a run, or goes on with it."""
    existing = []
    if (run / "config.yaml").exists():  # of a finished run, there is nothing to resume
        existing = ["--finish" if is_finished(run) else "--resume"]
    return ["--config", config, "--run-dir", str(run), *SMALL, *existing, *extra]


def is_finished(run: Path) -> bool:
    return (run / "summary.json").exists() and RunDirectory(run).read_summary()["status"] == "finished"


def finish(config: str, run: Path, *extra: str) -> None:
    """Starts or resumes a run and lets it end."""
    result = start(config, run, *extra).finish()
    assert result.returncode == 0, result.stderr


def start(config: str, run: Path, *extra: str, prepare: Callable[[], None] | None = None) -> Command:
    return Command("train.py", *arguments(config, run, *extra), prepare=prepare)


def kill_after(config: str, run: Path, seconds: float, *extra: str) -> bool:
    """Kills a run `seconds` after it began to train; False where it had ended before."""
    summary = run / "summary.json"
    before = summary.stat().st_mtime_ns if summary.exists() else 0
    process = start(config, run, *extra)
    # The first thing that a run writes when it is about to train is its summary.
    wait_until(lambda: process.poll() is not None or (summary.exists() and summary.stat().st_mtime_ns != before))
    time.sleep(seconds)
    process.kill()
    return process.finish().returncode == -signal.SIGKILL


def kill_in_second_epoch(config: str, run: Path, *extra: str) -> bool:
    """Kills a run after steps of the second epoch, before anything of it is written."""
    result = start(config, run, *extra, prepare=partial(in_steps, 1, _kill_itself)).finish()
    return result.returncode == -signal.SIGKILL and len(RunDirectory(run).read_history()) == 1


def _kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_steps(after: int, act: Callable[[], None]) -> None:
    """Lets the training of this process do something at the end of its steps, once so many epochs are recorded."""
    from experiment.training.recorder import Recorder

    on_train_batch_end = Recorder.on_train_batch_end

    def acting(self, batch, logs=None):
        if len(self.history) >= after:
            act()
        on_train_batch_end(self, batch, logs)

    Recorder.on_train_batch_end = acting


def kill_at_sync(config: str, run: Path, moment: int | str, *extra: str) -> bool:
    """Kills a run when it has written, and not yet renamed, a file: one of a name, or the Nth sync of any."""
    return kill_command("train.py", moment, arguments(config, run, *extra))


def kill_command(script: str, moment: int | str, given: list[str]) -> bool:
    """The same with any command; False where it had ended before, and well."""
    result = Command(script, *given, prepare=partial(_kill_at, moment)).finish()
    assert result.returncode in (0, -signal.SIGKILL), result.stderr
    return result.returncode == -signal.SIGKILL


def outcome(run: Path) -> dict:
    """All that must be equal between two runs: state, best weights, history without its times, best epoch."""
    directory = RunDirectory(run)
    facts, arrays = directory.read_state()
    timed = ("seconds", "images_per_second")
    history = [{key: value for key, value in row.items() if key not in timed} for row in facts["history"]]
    rows = [{key: value for key, value in row.items() if key not in timed} for row in directory.read_history()]
    summary = {key: directory.read_summary()[key] for key in ("status", "epochs", "best_epoch", "val_accuracy")}
    return {"arrays": arrays, "best": best_weights(run), "history": history, "csv": rows, "summary": summary}


def best_weights(run: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(run / "best.keras") as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    weights = {}
    with h5py.File(content) as file:
        file.visititems(lambda name, item: weights.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return weights


def differences(one: dict, other: dict) -> list[str]:
    """The names of the parts in which two outcomes differ by as little as a bit."""
    names = [key for key in ("history", "csv", "summary") if one[key] != other[key]]
    if [array.tobytes() for array in one["arrays"]] != [array.tobytes() for array in other["arrays"]]:
        names.append("arrays")
    if {k: v.tobytes() for k, v in one["best"].items()} != {k: v.tobytes() for k, v in other["best"].items()}:
        names.append("best")
    return names


def torture(config: str, run: Path, kills: int, rng: random.Random, longest: float, *extra: str) -> int:
    """Kills and resumes one run at random moments, at most `kills` times, lets it end, and returns how many hit."""
    hits = 0
    for _ in range(kills):
        if rng.random() < 0.25:
            hits += kill_at_sync(config, run, rng.randint(1, 14), *extra)
        else:
            hits += kill_after(config, run, rng.uniform(0, longest), *extra)
        if is_finished(run):
            return hits
    finish(config, run, *extra)
    return hits
