"""A run that is killed, interrupted or starved resumes to the same bits; `make torture` does more of the same."""

import os
import random
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from experiment.run_directory import RunDirectory
from tests import killing

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of `bn.yaml`."""
    run = tmp_path_factory.mktemp("whole") / "run"
    killing.finish("bn", run)
    return killing.outcome(run)


def test_a_run_killed_at_random_moments_ends_where_it_would_have_ended(tmp_path, whole):
    hits = killing.torture("bn", tmp_path / "run", kills=2, rng=random.Random(1), longest=3.0)
    assert hits >= 1
    assert killing.differences(whole, killing.outcome(tmp_path / "run")) == []


def test_a_run_killed_in_the_middle_of_its_writes_ends_where_it_would_have_ended(tmp_path, whole):
    # Each file is synced once before its renaming and once after; 15 is in the second epoch's best weights or history.
    for moment in (8, 15, "state.npz", "curves.png"):
        assert killing.kill_at_sync("bn", tmp_path / "run", moment)
    killing.finish("bn", tmp_path / "run")
    assert killing.differences(whole, killing.outcome(tmp_path / "run")) == []
    assert not list((tmp_path / "run").glob(".unfinished*"))


def wait_for_first_epoch(process, run):
    while process.poll() is None and not (run / "state.npz").exists():
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_run_and_says_how_to_go_on(tmp_path, whole, number, code):
    run = tmp_path / "run"
    process = killing.start("bn", run)
    wait_for_first_epoch(process, run)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code
    assert "Traceback" not in errors
    assert "stopped; go on with: " in errors and "train.py --config bn" in errors
    assert "--resume" in errors
    assert RunDirectory(run).read_summary()["status"] == "interrupted"
    if number == signal.SIGINT:
        killing.finish("bn", run)
        assert killing.differences(whole, killing.outcome(run)) == []


_SLOW_STEPS = """
import sys, time
import train
from experiment.training.recorder import Recorder
on_train_batch_end = Recorder.on_train_batch_end
def slow(self, batch, logs=None):
    if self.history:
        print("slow", flush=True)
        time.sleep(60)
    on_train_batch_end(self, batch, logs)
Recorder.on_train_batch_end = slow
train.main(train.parse_arguments())
"""


def test_a_second_ctrl_c_stops_at_once_and_loses_only_the_epoch(tmp_path, whole):
    run = tmp_path / "run"
    _, _, *arguments = killing.command("bn", run)
    environment = {**os.environ, "PYTHONPATH": str(killing.ROOT)}
    slow_command = [sys.executable, "-c", _SLOW_STEPS, *arguments]
    process = subprocess.Popen(slow_command, cwd=killing.ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "slow\n"
    for _ in range(2):
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    killing.finish("bn", run)
    assert killing.differences(whole, killing.outcome(run)) == []


def test_a_second_training_in_one_directory_is_refused(tmp_path):
    run = tmp_path / "run"
    first = killing.start("bn", run, "--set", "epochs=500")
    wait_for_first_epoch(first, run)
    second = killing.start("bn", run, "--set", "epochs=500")
    _, errors = second.communicate(timeout=120)
    assert second.returncode == 2
    assert "another training is running" in errors
    first.kill()
    first.communicate()
    with RunDirectory(run).locked():  # the lock ended with the process that held it
        pass


def test_a_full_disk_is_named_and_the_last_checkpoint_stays_whole(tmp_path):
    run = tmp_path / "run"
    limit = 2_000_000  # above best.keras, below state.npz
    process = killing.start("bn", run, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert f"error: {run / 'state.npz'} cannot be written" in errors
    assert "Traceback" not in errors
    assert killing.best_weights(run)
    assert sorted(file.name for file in run.iterdir()) == [
        "best.keras",
        "config.yaml",
        "curves.png",
        "history.csv",
        "summary.json",
    ]


def test_a_full_disk_is_told_before_anything_is_trained(tmp_path):
    run = tmp_path / "run"
    process = killing.start("bn", run, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)))
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "cannot be written: File too large" in errors  # the network is saved and read back before the first epoch
    assert "Traceback" not in errors and not run.exists()


def test_mutated_files_give_clear_errors_in_bounded_time_and_memory(tmp_path):
    command = [sys.executable, "-m", "tests.fuzz", "--cases", "60", "--seed", "1", "--output", tmp_path / "fuzz.json"]
    result = subprocess.run(command, cwd=killing.ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]


@pytest.mark.slow
def test_real_cifar10_killed_twice(tmp_path, real_cifar10):
    """Two epochs on some of the images here; the six on all of them, of the promise, are in `make torture`."""
    options = ["--set", "epochs=2", "--set", "data.training_images=4000", "--data", os.environ["CIFAR10_DIR"]]
    killing.finish("bn", tmp_path / "whole", *options)
    for seconds in (1.0, 4.0):
        killing.kill_after("bn", tmp_path / "run", seconds, *options)
    killing.finish("bn", tmp_path / "run", *options)
    assert killing.differences(killing.outcome(tmp_path / "whole"), killing.outcome(tmp_path / "run")) == []


def test_outcomes_that_differ_in_one_bit_are_told_apart(whole):
    changed = {**whole, "arrays": [array.copy() for array in whole["arrays"]]}
    changed["arrays"][0].flat[0] = np.nextafter(changed["arrays"][0].flat[0], np.float32(9))
    assert killing.differences(whole, changed) == ["arrays"]
