"""How every command ends: what becomes of its errors, of signals, and of output that cannot be written."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
START = "import sys, time, signal\nfrom experiment.errors import *\nfrom experiment import errors\n"
MUCH = "for line in range(20_000): print('a line that is printed')\n"


def script(body: str, shell: str = "{}", **environment) -> subprocess.CompletedProcess:
    """Runs the lines as a command does, on a line of shell in which {} stands for them."""
    code = START + "with reported():\n" + "".join(f"    {line}\n" for line in body.splitlines())
    return subprocess.run(
        ["bash", "-c", "set -o pipefail; " + shell.format(f"'{sys.executable}' -c \"$CODE\"")],
        env=os.environ | {"PYTHONPATH": str(ROOT), "CODE": code} | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "shell",
    [
        "{} | head -1",
        "{} >&-",
        "{} > /dev/full",
        "{} 2>&-",
        "{} 2> /dev/full",
        "{} <&- >&- 2>&-",
        "{} > /dev/full 2>&1",
    ],
)
def test_a_command_outlives_its_output(shell, tmp_path):
    done = tmp_path / "done"
    result = script(MUCH + f"print('a remark', file=sys.stderr)\nopen({str(done)!r}, 'w').write('done')", shell)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ("" if "2>" in shell else "a remark\n")
    assert done.read_text() == "done"  # and nothing that was printed went into the file


@pytest.mark.parametrize(("shell", "code"), [("{} > /dev/full", 2), ("{} | head -1", 0), ("{} > /dev/null", 0)])
def test_a_result_that_could_not_be_printed_is_an_error_and_a_reader_that_has_enough_is_none(shell, code):
    result = script(MUCH + "check_printed()", shell)
    assert result.returncode == code
    assert result.stderr == ("error: standard output cannot be written: No space left on device\n" if code else "")


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_what_the_terminal_cannot_show_is_escaped(environment):
    result = script(r"print('caf\u00e9 \udcff \ud800'); print('caf\u00e9', file=sys.stderr)", **environment)
    assert (result.returncode, result.stderr) == (0, "caf\\xe9\n")
    assert result.stdout == "caf\\xe9 \\udcff \\ud800\n"


def test_a_terminal_that_another_program_left_without_blocking_gets_every_line():
    read, write = os.pipe()
    os.set_blocking(write, False)
    code = START + "with reported():\n    " + MUCH
    process = subprocess.Popen([sys.executable, "-c", code], stdout=write, cwd=ROOT)
    os.close(write)
    time.sleep(0.5)  # the pipe is full by now
    with os.fdopen(read) as lines:
        assert sum(1 for _ in lines) == 20_000
    assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        ("UserError('seed: no')", "error: seed: no\n"),
        ("MemoryError()", "error: out of memory"),
        ("ModuleNotFoundError('no', name='matplotlib.figure')", "error: matplotlib.figure is not installed for "),
        ("type('ResourceExhaustedError', (Exception,), {})('OOM ' * 999)", "error: out of memory"),
    ],
)
def test_what_a_user_can_mend_is_one_line(raised, message):
    result = script(f"raise {raised}")
    assert result.returncode == 2
    assert result.stderr.startswith(message) and result.stderr.count("\n") == 1


def test_a_working_directory_that_was_removed_is_said_to_be_so(tmp_path):
    where = tmp_path / "gone"
    where.mkdir()
    train = f"{sys.executable} {ROOT / 'train.py'} --config bn.yaml --data x.npz --run-dir {tmp_path / 'run'}"
    result = subprocess.run(["bash", "-c", f"rmdir {where}; {train}"], cwd=where, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == "error: the working directory was removed; change to another one\n"


def test_an_error_of_the_program_keeps_its_traceback():
    for error in ("ValueError('a bug')", "ModuleNotFoundError('a bug', name='experiment.misspelt')"):
        result = script(f"raise {error}")
        assert result.returncode == 1 and "Traceback" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_signal_to_stop_ends_a_command_with_the_line_that_says_how_to_go_on(number):
    code = START + "with reported('do this'):\n    print('begun', flush=True)\n    time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True, cwd=ROOT)
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (128 + number, "\nstopped; do this\n")


def test_a_signal_that_nohup_turned_off_stays_off():
    code = START + "with reported():\n    print('begun', flush=True)\n    time.sleep(1)\n    print('done')"
    command = ["nohup", sys.executable, "-c", code]
    process = subprocess.Popen(command, stdout=-1, stderr=-1, text=True, cwd=ROOT)
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=30)[0] == "done\n" and process.returncode == 0
