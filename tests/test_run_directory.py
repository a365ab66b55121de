"""A run's files: whole or as before, read back as written, refused where damaged; locks, resuming, leftovers."""

import errno
import json
import math
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from experiment import config as configuration
from experiment import copies, files, finding
from experiment.errors import UserError
from experiment.evaluation import export
from experiment.resuming import check_resumable, is_finished
from experiment.run_directory import HISTORY_COLUMNS, RunDirectory
from experiment.training import start
from tests.conftest import history_rows, make_run

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    run = RunDirectory(tmp_path / "run")
    run.prepare()
    return run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- atomic writes


def test_a_write_replaces_the_file(tmp_path):
    files.write_text(tmp_path / "file", "old")
    files.write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"
    assert names(tmp_path) == ["file"]


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with files.atomic(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, MemoryError])
def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(error), files.atomic(path) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(UserError) as caught, files.atomic(path) as temporary:
        temporary.write_text("half of the n")
        raise OSError(28, "No space left on device")
    assert str(caught.value) == f"{path} cannot be written: No space left on device"
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("place", ["gone", "file"])
def test_a_file_that_cannot_be_written_is_named(tmp_path, place):
    (tmp_path / "file").touch()
    path = tmp_path / place / "summary.json"
    with pytest.raises(UserError) as caught:
        files.write_text(path, "text")
    assert str(path) in str(caught.value)


def test_a_directory_that_vanishes_while_writing_is_an_error(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(UserError, match="cannot be written"), files.atomic(folder / "file") as temporary:
        temporary.write_text("text")
        shutil.rmtree(folder)


def test_a_directory_in_the_place_of_the_file_is_an_error(tmp_path):
    (tmp_path / "file" / "inside").mkdir(parents=True)
    with pytest.raises(UserError, match="cannot be written"):
        files.write_text(tmp_path / "file", "text")
    assert names(tmp_path) == ["file"]


# ---- the directory


def test_prepare_makes_the_directory_and_those_above(tmp_path):
    RunDirectory(tmp_path / "a" / "b" / "c").prepare()
    assert (tmp_path / "a" / "b" / "c").is_dir()


def test_prepare_removes_what_a_killed_write_left(run):
    with files.atomic(run.state_file) as temporary:
        temporary.write_text("half")
        leftover = temporary.name
    (run.path / leftover).write_text("half")
    run.prepare()
    assert names(run.path) == ["state.npz"]


@pytest.mark.parametrize("place", ["file", "file/run", "a" * 300])
def test_a_path_that_cannot_be_a_directory_is_refused(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as caught:
        RunDirectory(tmp_path / place).prepare()
    assert str(tmp_path / place) in str(caught.value)
    assert "cannot be used as a run directory" in str(caught.value)


@pytest.mark.parametrize("place", ["absent", "file", "file/run", "a" * 300])
def test_where_there_is_no_run_none_exists(tmp_path, place):
    (tmp_path / "file").touch()
    assert not RunDirectory(tmp_path / place).exists()


def test_a_run_exists_as_soon_as_it_has_one_file(run):
    assert not run.exists()
    (run.path / "notes.txt").touch()
    assert not run.exists()
    run.history_file.touch()
    assert run.exists()


def test_removing_a_run_leaves_foreign_files(tmp_path):
    run = make_run(tmp_path / "run")
    (run.path / "notes.txt").write_text("mine")
    run.remove_files()
    assert names(run.path) == ["notes.txt"]
    assert not run.exists()


def test_a_file_that_cannot_be_removed_is_named(run):
    run.best_file.mkdir()
    with pytest.raises(UserError, match=r"best\.keras"):
        run.remove_files()


def test_find_gives_every_run_below_in_order(tmp_path):
    for name in ("b/seed1", "a/seed0", "b/seed0"):
        make_run(tmp_path / name)
    (tmp_path / "c").mkdir()
    found = [run.path.relative_to(tmp_path).as_posix() for run in finding.find(tmp_path)]
    assert found == ["a/seed0", "b/seed0", "b/seed1"]


@pytest.mark.parametrize("place", ["absent", "file", "a" * 300])
def test_find_gives_nothing_where_there_is_nothing(tmp_path, place):
    (tmp_path / "file").touch()
    assert finding.find(tmp_path / place) == []


def test_a_file_among_the_runs_is_said_to_be_one(tmp_path):
    make_run(tmp_path / "seed0")
    (tmp_path / "classes.png").touch()
    message = refusal(lambda: finding.select([tmp_path / "seed0", tmp_path / "classes.png"], tmp_path))
    assert "classes.png is a file, not a run's directory; the pattern DIR/*/" in message


def test_copying_leaves_out_the_weights_and_the_state(tmp_path):
    run = make_run(tmp_path / "run")
    run.best_file.touch()
    run.state_file.touch()
    copies.copy(run, tmp_path / "copy" / "run")
    expected = ["config.yaml", "history.csv", "predictions.npz", "summary.json"]
    assert names(tmp_path / "copy" / "run") == expected


@pytest.mark.parametrize(
    ("there", "files", "told"),
    [
        ({}, ["best.keras"], "is a run with its weights, not a copy"),
        ({}, ["state.npz"], "is a run with its weights, not a copy"),
        ({"data": "own"}, [], "a copy of another run: it was trained on other images"),
        ({"seed": 1}, [], "a copy of another run: seed differs"),
        ({"epochs": 4}, [], "a copy of another run: epochs differs"),
        ({"epochs": 2}, [], ""),  # the run was made longer
        ({"facts": None}, [], ""),
        ({}, [], ""),
    ],
)
def test_a_copy_replaces_a_copy_of_the_same_run_and_nothing_else(tmp_path, there, files, told):
    run = make_run(tmp_path / "run")
    overrides = [f"{key}={there.pop(key, default)}" for key, default in (("seed", 0), ("epochs", 3))]
    without = "facts" in there and not there.pop("facts")
    copy = make_run(tmp_path / "copy", *overrides, "schedule.warmup_epochs=1", **there)
    if without:
        copy.write_summary({"status": "interrupted"})
    for name in files:
        (copy.path / name).touch()
    if not told:
        copies.check_destination(run, copy.path)
        copies.check_destination(run, tmp_path / "new")
        return
    assert told in refusal(lambda: copies.check_destination(run, copy.path))


def test_a_run_copied_onto_itself_keeps_its_weights(tmp_path):
    run = make_run(tmp_path / "run")
    run.best_file.touch()
    run.curves_in("svg").touch()
    before = names(run.path)
    copies.check_destination(run, run.path)
    copies.copy(run, run.path)
    assert names(run.path) == before


@pytest.mark.parametrize("place", ["file", "file/run"])
def test_a_copy_that_cannot_be_written_is_named(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as caught:
        copies.copy(make_run(tmp_path / "run"), tmp_path / place)
    assert str(tmp_path / place) in str(caught.value)


# ---- the lock

HOLD_LOCK = """
import sys
from pathlib import Path
from experiment.run_directory import RunDirectory
with RunDirectory(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(run):
    """Another process that holds the run's lock."""
    pytest.importorskip("fcntl", reason="the lock needs flock")
    command = [sys.executable, "-c", HOLD_LOCK, str(run.path)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def try_lock(run: RunDirectory) -> None:
    with run.locked():
        pass


def test_a_second_training_is_refused_and_the_first_one_s_end_frees_the_lock(run, holder):
    with pytest.raises(UserError, match="another training is running"):
        try_lock(run)
    holder.communicate("")
    assert holder.returncode == 0
    try_lock(run)


def test_a_killed_training_frees_the_lock(run, holder):
    holder.kill()
    holder.wait()
    try_lock(run)


def test_a_training_that_is_wanted_finished_is_waited_for(run, holder):
    freed = threading.Event()
    threading.Timer(0.5, lambda: (freed.set(), holder.kill())).start()
    with run.locked(wait=True):
        assert freed.is_set()  # only then did it go on


def test_a_second_training_does_not_remove_what_the_first_is_writing(run, holder):
    with files.atomic(run.best_file) as temporary:
        temporary.write_text("the first training's weights")
        run.prepare()
        with pytest.raises(UserError, match="another training is running"):
            copies.write(run, {"summary.json": b"{}"})
    assert run.best_file.read_text() == "the first training's weights"


def test_an_error_inside_frees_the_lock(run):
    with pytest.raises(OSError, match="inside"), run.locked():
        raise OSError("inside")
    try_lock(run)


# ---- what is written is what is read


def test_the_configuration_reads_back_equal(run):
    config = configuration.load("bn.yaml", ["seed=3", "optimizer.learning_rate=1e-5"])
    run.write_config(config)
    assert run.read_config() == config


def test_the_history_reads_back_to_six_digits(run):
    rows = history_rows(0.123456789, 1 / 3)
    run.write_history(rows)
    read = run.read_history()
    assert [row["epoch"] for row in read] == [1, 2]
    for before, after in zip(rows, read, strict=True):
        assert after == pytest.approx(before, rel=1e-5)
        assert list(after) == list(HISTORY_COLUMNS)


def test_a_history_without_epochs_reads_back_empty(run):
    run.write_history([])
    assert run.read_history() == []


def test_the_summary_reads_back_equal(run):
    summary = {"status": "running", "best_epoch": None, "data": {"name": "cifar10"}, "words": "größer"}
    run.write_summary(summary)
    assert run.read_summary() == summary


def test_the_state_reads_back_bit_for_bit(run):
    facts = {"history": history_rows(0.5), "best_accuracy": 1 / 3}
    arrays = [np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32), np.array(7), np.zeros((0, 2))]
    run.write_state(facts, arrays)
    read_facts, read_arrays = run.read_state()
    assert read_facts == facts
    for before, after in zip(arrays, read_arrays, strict=True):
        assert after.dtype == before.dtype
        assert np.array_equal(after, before)


def test_the_state_keeps_the_order_of_many_arrays(run):
    run.write_state({}, [np.array(number) for number in range(12)])
    assert [int(array) for array in run.read_state()[1]] == list(range(12))


@pytest.mark.parametrize("classes", [2, 100, 300])
def test_predictions_of_any_number_of_classes_read_back(run, classes):
    run.write_predictions(np.eye(classes), np.arange(classes, dtype=np.int32))
    logits, labels = run.read_predictions()
    assert np.array_equal(logits, np.eye(classes) - 1)
    assert np.array_equal(labels, np.arange(classes))


def test_predictions_read_back_to_half_precision(run):
    logits = np.random.default_rng(0).normal(0, 5, (20, 10))
    labels = np.arange(20, dtype=np.int32) % 10
    run.write_predictions(logits, labels)
    read_logits, read_labels = run.read_predictions()
    assert read_logits == pytest.approx(logits - logits.max(1, keepdims=True), rel=1e-3, abs=1e-6)
    assert np.array_equal(read_labels, labels)


# ---- damaged files


def refusal(read) -> str:
    with pytest.raises(UserError) as caught:
        read()
    return str(caught.value)


@pytest.mark.parametrize("name", ["config", "summary", "history", "state", "predictions"])
def test_a_missing_file_is_named(run, name):
    assert str(getattr(run, f"{name}_file")) in refusal(getattr(run, f"read_{name}"))


@pytest.mark.parametrize("name", ["config", "summary", "history", "state", "predictions"])
def test_a_directory_in_the_place_of_a_file_is_refused(run, name):
    path = getattr(run, f"{name}_file")
    path.mkdir()
    assert str(path) in refusal(getattr(run, f"read_{name}"))


@pytest.mark.parametrize("content", [b"", b"model: [", b"epochs: x", b"extends: plain.yaml", b"- 1", b"\xff"])
def test_a_damaged_configuration_is_refused(run, content):
    run.config_file.write_bytes(content)
    assert str(run.config_file) in refusal(run.read_config)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b"{}", b'{"status": 3}', b'{"status": "running"', b"\xff", b"[" * 100_000]
)
def test_a_damaged_summary_is_refused(run, content):
    run.summary_file.write_bytes(content)
    message = refusal(run.read_summary)
    assert str(run.summary_file) in message
    assert len(message) < 1000


def damage_history(run: RunDirectory, old: str, new: str) -> None:
    run.write_history(history_rows(0.5, 0.6))
    text = run.history_file.read_text()
    assert old in text
    run.history_file.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("val_accuracy", "accuracy_of_validation"),
        ("\n2,", "\ntwo,"),
        ("\n2,", "\n2.0,"),
        ("0.51", "much"),
        ("0.51", ""),
        (",10000\n", "\n"),
        ("\n2,", f"\n{'9' * 5000},"),
        ("\n2,", "\n\0,"),
    ],
)
def test_a_damaged_history_is_refused(run, old, new):
    damage_history(run, old, new)
    message = refusal(run.read_history)
    assert str(run.history_file) in message
    assert len(message) < 1000


def test_a_missing_column_is_named(run):
    damage_history(run, "val_accuracy", "x")
    assert "val_accuracy" in refusal(run.read_history)


def written_archive(run: RunDirectory, name: str) -> tuple[Path, bytes]:
    run.write_state({"history": []}, [np.arange(100.0)])
    run.write_predictions(np.eye(10), np.arange(10))
    path = getattr(run, f"{name}_file")
    return path, path.read_bytes()


ARCHIVES = pytest.mark.parametrize("name", ["state", "predictions"])


@ARCHIVES
@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_archive_is_refused(run, name, part):
    path, content = written_archive(run, name)
    path.write_bytes(content[: int(part * len(content))])
    assert str(path) in refusal(getattr(run, f"read_{name}"))


@ARCHIVES
@pytest.mark.parametrize("start", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00"], ids=["nothing", "zip", "npy"])
def test_random_bytes_are_refused(run, name, start):
    path, _ = written_archive(run, name)
    path.write_bytes(start + np.random.default_rng(0).bytes(500))
    assert str(path) in refusal(getattr(run, f"read_{name}"))


@ARCHIVES
def test_a_single_array_in_the_place_of_an_archive_is_refused(run, name):
    path, _ = written_archive(run, name)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    assert str(path) in refusal(getattr(run, f"read_{name}"))


class MakesFile:
    """Unpickling it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(("name", "member"), [("state", "facts"), ("state", "array_0"), ("predictions", "logits")])
def test_a_pickled_object_is_refused_and_not_run(run, tmp_path, name, member):
    marker = tmp_path / "was_run"
    members = {"facts": np.zeros(1, np.uint8), "array_0": np.zeros(1), "logits": np.eye(10), "labels": np.arange(10)}
    path = getattr(run, f"{name}_file")
    np.savez(path, **{**members, member: np.array([MakesFile(marker)], object)})
    np.load(path, allow_pickle=True)[member]
    assert marker.exists(), "the attack does not work, so this test proves nothing"
    marker.unlink()
    assert str(path) in refusal(getattr(run, f"read_{name}"))
    assert not marker.exists()


@pytest.mark.parametrize("facts", ["", "{", "[]", "3"])
def test_a_state_with_other_facts_is_refused(run, facts):
    np.savez(run.state_file, facts=np.frombuffer(facts.encode(), np.uint8), array_0=np.zeros(3))
    assert str(run.state_file) in refusal(run.read_state)


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (np.eye(10), np.arange(9)),
        (np.zeros(10), np.arange(10)),
        (np.zeros((10, 9)), np.arange(10)),
        (np.zeros((0, 10)), np.zeros(0, int)),
        (np.eye(10), np.arange(10) + 1),
        (np.eye(10), np.arange(10) - 1),
        (np.eye(10), np.arange(10) / 2),
        (np.full((10, 10), "text"), np.arange(10)),
    ],
    ids=["fewer labels", "one dimension", "nine classes", "empty", "label 10", "label -1", "halves", "text"],
)
def test_predictions_that_are_none_are_refused(run, logits, labels):
    np.savez(run.predictions_file, logits=logits, labels=labels)
    assert str(run.predictions_file) in refusal(run.read_predictions)


@pytest.fixture(scope="module", params=["state", "predictions"])
def fuzzed(tmp_path_factory, request) -> tuple[RunDirectory, str, Path, bytes]:
    run = RunDirectory(tmp_path_factory.mktemp("fuzzed"))
    return run, request.param, *written_archive(run, request.param)


@given(places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4))
@hypothesis_settings(max_examples=200)
def test_changed_bytes_are_read_or_refused(fuzzed, places):
    run, name, path, content = fuzzed
    changed = bytearray(content)
    for place, value in places:
        changed[int(place * (len(content) - 1))] = value
    path.write_bytes(changed)
    try:
        getattr(run, f"read_{name}")()
    except UserError as error:
        assert str(path) in str(error)


def test_an_archive_that_wants_a_password_is_refused(run):
    path, content = written_archive(run, "predictions")
    with zipfile.ZipFile(path) as archive:
        central = archive.start_dir
    changed = bytearray(content)
    changed[central + 8] |= 1
    path.write_bytes(changed)
    assert str(path) in refusal(run.read_predictions)


# ---- resuming


def interrupted(tmp_path, *overrides: str, **summary) -> RunDirectory:
    return make_run(tmp_path / "run", *overrides, **{"status": "interrupted"} | summary)


def config(*overrides: str) -> configuration.Config:
    return configuration.load("plain.yaml", ["epochs=3", *overrides])


@pytest.mark.parametrize("status", ["running", "interrupted"])
def test_an_unfinished_run_of_the_same_configuration_is_resumed(tmp_path, status):
    check_resumable(config(), interrupted(tmp_path, status=status))


def test_nothing_is_not_resumed(tmp_path):
    assert "contains no run to resume" in refusal(lambda: check_resumable(config(), RunDirectory(tmp_path)))


def test_a_finished_run_is_not_resumed(tmp_path):
    assert "this run is finished (3 epochs)" in refusal(lambda: check_resumable(config(), make_run(tmp_path / "run")))


@pytest.mark.parametrize("summary", [{}, {"reason": "the loss became infinite"}])
def test_a_diverged_run_is_not_resumed(tmp_path, summary):
    run = interrupted(tmp_path, status="diverged", **summary)
    assert summary.get("reason", "diverged") in refusal(lambda: check_resumable(config(), run))


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("seed=1", "seed: 0 in the run, 1 now"),
        ("optimizer.learning_rate=0.01", "optimizer.learning_rate: 0.001 in the run, 0.01 now"),
        ("model.norm=batch", "model.norm: 'none' in the run, 'batch' now"),
        ("epochs=2", "epochs: 3 in the run, 2 now"),
    ],
)
def test_another_configuration_is_not_resumed_and_the_difference_is_named(tmp_path, override, line):
    run = interrupted(tmp_path)
    assert line in refusal(lambda: check_resumable(config(override), run))


def test_every_difference_is_named(tmp_path):
    run = interrupted(tmp_path)
    message = refusal(lambda: check_resumable(config("seed=1", "batch_size=64", "epochs=4"), run))
    assert [line.split(":")[0].strip() for line in message.splitlines()[1:]] == ["epochs", "batch_size", "seed"]


def test_epochs_can_be_raised_at_a_constant_rate(tmp_path):
    run = interrupted(tmp_path, "schedule.name=constant")
    check_resumable(config("schedule.name=constant", "epochs=4"), run)


def test_a_finished_run_without_its_checkpoint_is_not_begun_anew_to_make_it_longer(tmp_path):
    run = interrupted(tmp_path, "schedule.name=constant", status="finished")  # as `evaluate.py --keep` copies it
    message = refusal(lambda: check_resumable(config("schedule.name=constant", "epochs=4"), run))
    assert f"{run.state_file} is missing" in message and "--overwrite" in message


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
def test_epochs_cannot_be_raised_where_the_rate_depends_on_them(tmp_path, schedule):
    run = interrupted(tmp_path, f"schedule.name={schedule}")
    message = refusal(lambda: check_resumable(config(f"schedule.name={schedule}", "epochs=4"), run))
    assert f"cannot be raised from 3 to 4: a longer {schedule} schedule" in message


def test_a_diverged_run_cannot_be_made_longer(tmp_path):
    run = interrupted(tmp_path, "schedule.name=constant", status="diverged")
    assert "diverged" in refusal(lambda: check_resumable(config("schedule.name=constant", "epochs=4"), run))


@pytest.mark.parametrize("name", ["config_file", "summary_file"])
def test_a_damaged_run_is_not_resumed(tmp_path, name):
    run = interrupted(tmp_path)
    getattr(run, name).write_text("{")
    assert str(getattr(run, name)) in refusal(lambda: check_resumable(config(), run))


@pytest.mark.parametrize("existing", ["refuse", "resume", "finish"])
@pytest.mark.parametrize("damage", ["other seed", "no configuration", "damaged configuration", "damaged weights"])
def test_checking_touches_nothing(tmp_path, damage, existing):
    run = interrupted(tmp_path)
    run.write_state({"history": history_rows(0.5)}, [])
    run.best_file.write_bytes(b"no archive")
    if damage == "no configuration":
        run.config_file.unlink()
    elif damage == "damaged configuration":
        run.config_file.write_text("{")
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}
    refusal(lambda: start.plan(config("seed=1") if damage == "other seed" else config(), run, existing))
    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before


def test_a_run_on_the_same_data_passes(tmp_path):
    make_run(tmp_path / "run").check_same_data("0" * 64, "here")


@pytest.mark.parametrize("facts", [{"name": "cifar10", "sha256": "1" * 64}, {"name": "cifar10"}, None])
def test_a_run_on_other_data_is_refused(tmp_path, facts):
    run = make_run(tmp_path / "run")
    run.write_summary({"status": "interrupted", "data": facts})
    assert "other images than here" in refusal(lambda: run.check_same_data("0" * 64, "here"))


def test_a_configuration_that_is_a_dangling_link_has_a_time(tmp_path):
    assert RunDirectory(tmp_path).began() is None
    (tmp_path / "config.yaml").symlink_to(tmp_path / "absent")
    assert RunDirectory(tmp_path).began() is not None


def test_a_summary_is_json_that_other_programs_read(tmp_path):
    assert json.loads(make_run(tmp_path / "run").summary_file.read_text())["status"] == "finished"


# ---- untrusted and unlucky files

READERS = ["config", "summary", "history", "state", "predictions", "diagnostics"]


def bind(path: Path) -> None:
    """Makes a socket, in the working directory, since the path of one is short."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


def odd_files(path: Path):
    """Puts one thing after the other in the place of a file that is none, or more than it may be."""
    yield "FIFO", lambda: os.mkfifo(path)
    yield "device", lambda: path.symlink_to("/dev/zero")
    yield "link", lambda: path.symlink_to(ROOT / "README.md")
    yield "dangling link", lambda: path.symlink_to("nowhere")
    yield "socket", lambda: bind(path)
    yield "sparse", lambda: (path.touch(), os.truncate(path, 6 * 2**30))


@pytest.mark.skipif(os.name != "posix", reason="FIFOs and devices")
@pytest.mark.parametrize("name", [*READERS, "best"])
def test_only_regular_files_of_bounded_size_are_read(tmp_path, name, monkeypatch):
    run = RunDirectory(tmp_path)
    monkeypatch.chdir(tmp_path)
    path = getattr(run, f"{name}_file")
    read = run.check_weights if name == "best" else getattr(run, f"read_{name}")
    for kind, make in odd_files(path):
        make()
        signal.alarm(60)  # ends a read that waits for ever
        try:
            assert str(path) in refusal(read), kind
        finally:
            signal.alarm(0)
        path.unlink()


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + data


def zipped(path: Path, members: dict[str, bytes], method=zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


SMALL = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (2,)}", b"{}")
BOMBS = {
    "a header that promises more": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999,)}"),
    "negative shape": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1)}", bytes(8)),
    "items of no bytes": npy("{'descr': '|S0', 'fortran_order': False, 'shape': (9999999999,)}"),
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", bytes(8)),
    "nested header": npy("(" * 110),
}


REASONS = {"zeros": "unpacks to", "members": "members", "packed by LZMA": "another method than deflate"}


@pytest.mark.parametrize("bomb", [*BOMBS, "zeros", "members", "packed by LZMA"])
@pytest.mark.parametrize("name", ["state", "predictions"])
def test_archives_are_bounded_before_they_are_unpacked(run, name, bomb):
    path = getattr(run, f"{name}_file")
    member = {"state": "facts.npy", "predictions": "logits.npy"}[name]
    if bomb == "members":
        zipped(path, {member: SMALL} | {f"{number}.npy": SMALL for number in range(20_000)}, zipfile.ZIP_STORED)
    elif bomb == "zeros":
        with zipfile.ZipFile(path, "w", 8, compresslevel=1) as archive, archive.open(member, "w") as file:
            for _ in range(9):
                file.write(bytes(64 * 2**20))
    else:
        zipped(path, {member: BOMBS.get(bomb, SMALL)}, zipfile.ZIP_LZMA if bomb not in BOMBS else zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    began = time.process_time()
    told = refusal(getattr(run, f"read_{name}"))
    assert str(path) in told and re.search(REASONS.get(bomb, ""), told), told
    assert time.process_time() - began < 5
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("val_accuracy", "1" + "0" * 400),
        ("val_accuracy", "1e400"),
        ("val_accuracy", "NaN"),
        ("best_epoch", "true"),
        ("best_epoch", "-1"),
        ("train_seconds", "1e308"),
        ("images_per_second", "-Infinity"),
        ("parameters", "1" + "0" * 400),
        ("epochs", "2.5"),
        ("training_images", '"45000"'),
    ],
)
def test_a_number_of_a_summary_that_is_none_is_refused(tmp_path, key, value):
    run = make_run(tmp_path / "run")
    summary = run.read_summary()
    (summary["data"] if key in summary["data"] else summary)[key] = "here"
    run.summary_file.write_text(json.dumps(summary).replace('"here"', value))
    assert str(run.summary_file) in refusal(run.read_summary)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("loss", "1e308"),
        ("val_accuracy", "nan"),
        ("loss", "inf"),
        ("seconds", "-1"),
        ("epoch", "-2"),
        ("epoch", "1"),
        ("epoch", "3"),
    ],
)
def test_a_row_of_a_history_that_is_none_is_refused(run, column, value):
    rows = history_rows(0.5, 0.6)
    rows[1][column] = value
    run.write_history(rows)
    assert str(run.history_file) in refusal(run.read_history)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_predictions_that_are_no_numbers_are_neither_read_nor_written(run, number):
    logits = np.full((10, 10), number)
    np.savez(run.predictions_file, logits=logits, labels=np.arange(10))
    assert "not all finite numbers" in refusal(run.read_predictions)
    assert "NaN or infinite" in refusal(lambda: run.write_predictions(logits, np.arange(10), "flip"))


def test_what_a_stranger_wrote_cannot_move_a_terminal_s_cursor(tmp_path):
    run = make_run(tmp_path / "run", reason="\x1b[2J\u202egnp.exe\ud800", machine={"cpu\x07": ["\x9b"]})
    summary = run.read_summary()
    assert summary["reason"] == "\\x1b[2J\\u202egnp.exe\\ud800"
    assert summary["machine"] == {"cpu\\x07": ["\\x9b"]}
    assert str(UserError("\x1b[31m\nnext line")) == "\\x1b[31m\nnext line"


# ---- many writers


def test_a_planted_link_is_not_written_through(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    for name in (".unfinished-summary.json", ".unfinished-0-summary.json"):
        (run.path / name).symlink_to(victim)
    os.mkfifo(run.path / ".unfinished-1-summary.json")
    run.write_summary({"status": "running"})
    run.prepare()
    assert victim.read_text() == "mine"
    assert run.read_summary() == {"status": "running"}


def test_a_written_file_has_the_rights_that_the_user_gives(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_text(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_what_a_living_writer_writes_is_no_leftover(run):
    with files.atomic(run.summary_file) as temporary:
        temporary.write_text("whole")
        run.prepare()
        files.write_text(run.summary_file, "another's")
    assert run.summary_file.read_text() == "whole"


WRITE_OFTEN = """
import sys
from pathlib import Path
import numpy as np
from experiment.run_directory import RunDirectory
run, value = RunDirectory(Path(sys.argv[1])), int(sys.argv[2])
for _ in range(40):
    run.write_predictions(np.eye(10)[[value] * 2000], np.arange(2000) % 10)
    run.prepare()
"""


def test_two_writers_and_a_reader_see_whole_files_alone(run):
    run.write_predictions(np.eye(10)[[0] * 2000], np.arange(2000) % 10)
    command = [sys.executable, "-c", WRITE_OFTEN, str(run.path)]
    writers = [subprocess.Popen([*command, value], cwd=ROOT, stderr=subprocess.PIPE, text=True) for value in "12"]
    reads = []
    while any(writer.poll() is None for writer in writers):
        (value,) = set(run.read_predictions()[0].argmax(1).tolist())  # of one writer alone
        reads.append(value)
    assert len(reads) > 10 and {*reads} & {1, 2}
    for writer in writers:
        errors = writer.communicate()[1]
        assert writer.returncode == 0, errors
    assert names(run.path) == ["predictions.npz"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_that_cannot_sync_a_directory_or_lock_still_works(tmp_path, monkeypatch, code):
    sync = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        sync(descriptor)

    def flock(*arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(files.fcntl, "flock", flock)
    run = RunDirectory(tmp_path / "run")
    run.prepare()
    with run.locked():
        run.write_summary({"status": "running"})
    assert run.read_summary() == {"status": "running"}


def test_a_file_that_cannot_be_synced_is_an_error(tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    assert "cannot be written: Input/output error" in refusal(lambda: files.write_text(tmp_path / "file", "text"))


# ---- links to directories


def test_runs_behind_links_are_found_once_and_loops_end(tmp_path):
    make_run(tmp_path / "elsewhere" / "bn" / "seed0")
    root = tmp_path / "checkpoints"
    make_run(root / "plain" / "seed0")
    (root / "bn").symlink_to(tmp_path / "elsewhere" / "bn")
    (root / "again").symlink_to(root / "plain" / "seed0")
    (root / "plain" / "loop").symlink_to(root)
    (root / "everything").symlink_to("/")
    (root / "self").symlink_to(root / "self")
    found = [run.path.relative_to(root).as_posix() for run in finding.find(root)]
    assert found == ["bn/seed0", "plain/seed0"]


# ---- what is kept


def test_a_copy_takes_nothing_that_a_link_points_to_and_keeps_no_stale_predictions(tmp_path):
    run, copy = make_run(tmp_path / "run"), make_run(tmp_path / "copy")
    (tmp_path / "secret").write_text("secret")
    run.curves_in("png").symlink_to(tmp_path / "secret")
    copy.write_predictions(np.eye(10), np.arange(10), "flip")
    copy.curves_in("svg").touch()
    copies.copy(run, copy.path)
    assert names(copy.path) == ["config.yaml", "history.csv", "predictions.npz", "summary.json"]


def test_a_place_for_copies_that_no_file_system_has_is_told(tmp_path):
    run = make_run(tmp_path / "run")
    copies.check_destination(run, tmp_path / ("a" * 300))
    with pytest.raises(UserError, match="File name too long"):
        copies.copy(run, tmp_path / ("a" * 300))


def test_an_export_does_not_replace_the_weights_of_a_run(tmp_path):
    run = make_run(tmp_path / "run")
    (tmp_path / "folder.keras").mkdir()
    for place, words in (
        (run.best_file, "the weights of runs have this name"),
        (tmp_path / "folder.keras", "it is a directory"),
        (tmp_path / "there" / "network.keras", "no directory"),
        (tmp_path / "network.h5", "must end in .keras"),
    ):
        with pytest.raises(UserError, match=words):
            export.check(place)
    export.check(tmp_path / "network.keras")


def test_a_copy_has_the_predictions_that_the_run_could_not_store(tmp_path):
    run = make_run(tmp_path / "run")
    run.best_file.write_bytes(b"weights")
    run.predictions_file.unlink()
    run.write_summary(run.read_summary() | {"weights": run.weights_digest()})
    copy, logits, labels = RunDirectory(tmp_path / "copy"), np.eye(10), np.arange(10)
    copies.copy(run, copy.path, {"none": (logits, labels), "flip": (2 * logits, labels)})
    assert copy.has_predictions() and copy.has_predictions("flip")


def test_stored_logits_tell_close_classes_apart(run):
    logits = np.array([[20.001, 20.002, -5.0], [-30.0, -30.003, -30.004]])
    run.prepare()
    run.write_predictions(logits, np.array([1, 0]))
    stored, _ = run.read_predictions()
    assert stored.argmax(1).tolist() == [1, 0]
    difference = stored - stored[:, :1] - (logits - logits[:, :1])
    assert np.abs(difference).max() < 0.02


def test_predictions_belong_to_weights(tmp_path):
    run = make_run(tmp_path / "run")
    run.best_file.write_bytes(b"first weights")
    assert not run.has_predictions()  # kept before, by whom nobody knows
    run.write_predictions(np.eye(10), np.arange(10), weights=run.weights_digest())
    assert run.has_predictions()
    run.best_file.write_bytes(b"second weights")
    assert "not from the weights in best.keras" in refusal(run.read_predictions)
    run.write_summary(run.read_summary() | {"weights": run.weights_digest()})
    run.best_file.unlink()
    assert not run.has_predictions()  # nor of those that the summary names


def test_better_weights_drop_what_earlier_ones_predicted(tmp_path):
    run = make_run(tmp_path / "run")
    run.write_predictions(np.eye(10), np.arange(10), "flip")
    with run.new_best() as temporary:
        assert temporary.suffix == ".keras"
        temporary.write_bytes(b"weights")
    assert not any(file.exists() for file in run.all_predictions())


# ---- runs whose files do not fit each other


@pytest.mark.parametrize("check", [check_resumable, is_finished])
def test_a_run_without_its_configuration_gets_one_answer(tmp_path, check):
    run = make_run(tmp_path / "run")
    run.config_file.unlink()
    assert "no config.yaml" in refusal(lambda: check(config(), run))


def test_removing_a_run_takes_its_configuration_last(tmp_path, monkeypatch):
    run, removed = make_run(tmp_path / "run"), []
    (run.tensorboard_folder / "train").mkdir(parents=True)
    (run.tensorboard_folder / "train" / "events.out.tfevents.1").touch()
    monkeypatch.setattr(files, "remove", lambda file: removed.append(file.name))
    run.remove_files()
    assert "events.out.tfevents.1" in removed and removed[-1] == "config.yaml"


@pytest.mark.parametrize("damage", ["gone", "cut off", "changed"])
@pytest.mark.parametrize("check", [check_resumable, is_finished])
def test_weights_that_are_gone_or_damaged_are_told(tmp_path, check, damage):
    run = make_run(tmp_path / "run", status="finished" if check is is_finished else "interrupted")
    run.predictions_file.unlink()
    run.write_state({"history": history_rows(0.5)}, [])
    zipped(run.best_file, {"model.weights.h5": b"weights"}, zipfile.ZIP_STORED)
    assert check(config(), run) in (None, True)
    content = run.best_file.read_bytes()
    run.best_file.write_bytes(content[:50] if damage == "cut off" else content.replace(b"weights", b"weighty"))
    if damage == "gone":
        run.best_file.unlink()
    assert str(run.best_file) in refusal(lambda: check(config(), run))


def test_more_epochs_than_the_configuration_has_are_told(tmp_path):
    run = make_run(tmp_path / "run")
    run.write_history(history_rows(0.5, 0.6, 0.7, 0.8))
    assert "history.csv has 4 epochs" in refusal(lambda: is_finished(config(), run))
    run.write_summary(run.read_summary() | {"status": "interrupted"})
    run.write_state({"history": history_rows(0.5, 0.6, 0.7, 0.8)}, [])
    assert "has 4 epochs, but the configuration only 3" in refusal(lambda: check_resumable(config(), run))


@pytest.mark.parametrize("history", ["[1]", "3", '[{"epoch": 1}]', '[{"epoch": true}]', "{}", '"x"', "null"])
def test_odd_facts_of_a_state_are_refused(run, history):
    facts = np.frombuffer(f'{{"history": {history}, "precision": "float32"}}'.encode(), np.uint8)
    np.savez(run.state_file, facts=facts)
    assert str(run.state_file) in refusal(run.read_state)


def test_runs_are_found_in_the_order_of_their_numbers(tmp_path):
    for name in ("bn/seed10", "bn/seed2", "bn-2/seed0"):
        make_run(tmp_path / name)
    found = [run.path.relative_to(tmp_path).as_posix() for run in finding.find(tmp_path)]
    assert found == ["bn/seed2", "bn/seed10", "bn-2/seed0"]


def test_logits_too_large_for_float16_keep_their_class_and_their_differences(run):
    stored = run.as_stored(np.array([[3e5, 3e5 + 8, 1.0], [-9e4, -9e4, -8.9e4], [4.0, 2.0, 1.0]]))
    assert stored.argmax(1).tolist() == [1, 2, 0]
    assert stored[0].tolist() == [-8, 0, -65504] and stored[2].tolist() == [0, -2, -3]
