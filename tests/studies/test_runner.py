"""The workers of a study: they stop with it, however it ends, and one that is killed costs its own run alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import os, sys, time
from pathlib import Path
from experiment.errors import reported
from experiment.studies import runner

def finish(job, shipped=None):
    Path(sys.argv[1], str(job)).write_text(str(os.getpid()))
    if job == "killed":
        os.kill(os.getpid(), 9)
    time.sleep({"long": 300}.get(job, 0))
    return {"job": job.encode()}

if __name__ == "__main__":
    runner.finish = finish
    with reported("the same command goes on"):
        print("begun", flush=True)
        jobs = iter(sys.argv[2:])
        for job, outcome in runner.run_locally(lambda: next(jobs, None), 2):
            print(job, outcome, flush=True)
"""


@pytest.fixture
def study(tmp_path):
    """Starts two workers at a time on jobs of these names, in a process group of its own."""
    (tmp_path / "script.py").write_text(SCRIPT)

    def start(*jobs: str) -> subprocess.Popen:
        command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path), *jobs]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=environment, start_new_session=True, **pipes)

    return start


def is_there(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def wait_for(file: Path) -> int:
    for _ in range(600):
        if file.exists() and file.read_text():
            return int(file.read_text())
        time.sleep(0.1)
    raise AssertionError(f"{file} never came")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_workers_end_with_their_parent_however_it_ends(study, tmp_path, number):
    process = study("long")
    worker = wait_for(tmp_path / "long")
    process.send_signal(number)
    _, said = process.communicate(timeout=60)  # which takes as long as anybody holds the output
    end = time.monotonic() + 10  # it closes its files before it is gone
    while is_there(worker) and time.monotonic() < end:
        time.sleep(0.1)
    assert not is_there(worker)
    if number == signal.SIGKILL:  # Python itself may have a remark on what was left
        assert process.returncode == -9 and "Traceback" not in said
    else:
        assert (process.returncode, said) == (128 + number, "\nstopped; the same command goes on\n")


def test_ctrl_c_says_one_line_though_workers_were_just_importing(study):
    process = study("long", "long")
    assert process.stdout.readline() == "begun\n"
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "\nstopped; the same command goes on\n")


def test_a_worker_that_is_killed_costs_its_own_run_alone(study):
    process = study("one", "killed", "other", "last")
    said, errors = process.communicate(timeout=120)
    lines = sorted(said.splitlines()[1:])
    assert lines[1:] == [f"{name} {{'job': b'{name}'}}" for name in ("last", "one", "other")]
    assert lines[0].startswith("killed its process was killed") and errors == ""
