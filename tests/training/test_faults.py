"""A run that is killed, interrupted or starved resumes to the same bits; `make torture` does more of the same."""

import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from experiment.run_directory import RunDirectory
from tests import killing
from tests.processes import ROOT, Command, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of `bn.yaml`."""
    run = tmp_path_factory.mktemp("whole") / "run"
    killing.finish("bn", run)
    return killing.outcome(run)


def test_a_run_that_is_killed_ends_where_it_would_have_ended(tmp_path, whole):
    """Between its writes and in the middle of them: each file is synced once before its renaming and once after."""
    run = tmp_path / "run"
    assert killing.kill_at_sync("bn", run, "best.keras")  # of the first epoch, whose checkpoint is there
    assert killing.kill_in_second_epoch("bn", run)
    assert killing.kill_at_sync("bn", run, 15)  # in the summary of an epoch, or the history of the next
    for moment in ("state.npz", "curves.png"):
        assert killing.kill_at_sync("bn", run, moment)
    killing.finish("bn", run)
    assert killing.differences(whole, killing.outcome(run)) == []
    assert not list(run.glob(".unfinished*"))


def be_slow(seconds: float) -> None:
    print("slow", flush=True)
    time.sleep(seconds)


def started(run: Path, after: int, seconds: float, *extra: str) -> Command:
    """A run in a step that takes so long, after so many epochs."""
    slow = partial(killing.in_steps, after, partial(be_slow, seconds))
    process = killing.start("bn", run, *extra, prepare=slow)
    wait_until(lambda: "slow" in process.output or process.poll() is not None)
    return process


def test_a_signal_stops_the_run_and_says_how_to_go_on(tmp_path, whole):
    run = tmp_path / "run"
    for epochs, number, code in ((1, signal.SIGTERM, 143), (2, signal.SIGINT, 130)):
        process = started(run, epochs, 5)
        process.send_signal(number)
        result = process.finish()
        assert result.returncode == code
        assert "Traceback" not in result.stderr
        assert "stopped; go on with: " in result.stderr and "train.py --config bn" in result.stderr
        assert "--resume" in result.stderr
        assert RunDirectory(run).read_summary()["status"] == "interrupted"
    process = started(run, 1, 60)  # a second Ctrl-C stops at once and loses only the epoch
    for _ in range(2):
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
    assert process.finish(timeout=30).returncode == 130
    killing.finish("bn", run)
    assert killing.differences(whole, killing.outcome(run)) == []


def limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk_is_named_and_the_last_checkpoint_stays_whole(tmp_path):
    run = tmp_path / "run"
    above_best_below_state = 2_000_000
    result = killing.start("bn", run, prepare=partial(limit_files, above_best_below_state)).finish()
    assert result.returncode == 2
    assert f"error: {run / 'state.npz'} cannot be written" in result.stderr
    assert "Traceback" not in result.stderr
    # Neither best weights without their checkpoint nor half a file.
    assert sorted(file.name for file in run.iterdir()) == ["config.yaml", "curves.png", "history.csv", "summary.json"]


def test_a_full_disk_is_told_before_anything_is_trained(tmp_path):
    run = tmp_path / "run"
    result = killing.start("bn", run, prepare=partial(limit_files, 200_000)).finish()
    assert result.returncode == 2
    assert "cannot be written: File too large" in result.stderr  # the network is saved and read back at first
    assert "Traceback" not in result.stderr and not run.exists()


def test_a_disk_without_any_space_is_told_before_tensorflow_is_imported(tmp_path):
    command = [sys.executable, "train.py", *killing.arguments("bn", tmp_path / "run")]
    limited = partial(limit_files, 0)  # a pipe takes what it prints
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, preexec_fn=limited, timeout=300)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith("error: no temporary file can be written")


def test_mutated_files_give_clear_errors_in_bounded_time_and_memory(tmp_path):
    command = [sys.executable, "-m", "tests.fuzz", "--cases", "20", "--seed", "1", "--output", tmp_path / "fuzz.json"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]


def test_outcomes_that_differ_in_one_bit_are_told_apart(whole):
    changed = {**whole, "arrays": [array.copy() for array in whole["arrays"]]}
    changed["arrays"][0].flat[0] = np.nextafter(changed["arrays"][0].flat[0], np.float32(9))
    assert killing.differences(whole, changed) == ["arrays"]
