"""Training: what a run writes, that it is the same each time, and that it resumes exactly."""

import json
import math
import re
import shutil
import signal
import threading
from contextlib import nullcontext
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from experiment import config as configuration
from experiment.data.augmentation import AugmentedImages
from experiment.data.dataset import Images, split
from experiment.errors import Diverged, Interrupted, UserError
from experiment.evaluation import weights
from experiment.evaluation.predict import best_model, predict
from experiment.hardware import Cores
from experiment.reporting import figures
from experiment.resuming import check_resumable, last_is_best
from experiment.run_directory import RunDirectory
from experiment.training import loop
from experiment.training.input_pipeline import training_dataset
from experiment.training.recorder import Recorder
from models.network import preprocess
from tests import killing, processes

pytestmark = pytest.mark.usefixtures("two_blocks")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, two_blocks, images) -> tuple[RunDirectory, dict, int]:
    """An uninterrupted run of the small configuration, its summary, and how often a training step was traced."""
    traced = []
    step = keras.Model.train_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "train_step", lambda *arguments: traced.append(1) or step(*arguments))
        return *train(tmp_path_factory.mktemp("whole") / "run", images), len(traced)


@pytest.fixture(scope="module")
def whole(finished) -> dict:
    return killing.outcome(finished[0].path)


def small_config(*overrides: str) -> configuration.Config:
    base = ["epochs=3", "batch_size=100", "data.validation_images=100", "schedule.warmup_epochs=0.5"]
    return configuration.load("bn.yaml", [*base, *overrides])


def train(path, images, *overrides, resume=False, shards=1, until=None, progress="quiet"):
    run = RunDirectory(path)
    run.prepare()
    summary = loop.fit(small_config(*overrides), run, images, Cores(2, shards), resume, progress=progress, until=until)
    return run, summary


def test_on_a_terminal_the_time_that_is_left_of_the_run_stands_below_each_epochs_bar(tmp_path, images, capsys):
    train(tmp_path / "bar", images, progress="bar")
    lines = [line.split("\r")[-1] for line in capsys.readouterr().out.splitlines() if line.strip()]
    below = [lines[place + 1] for place, line in enumerate(lines) if "val_accuracy: " in line]
    assert len(below) == 3 and all(re.fullmatch(r"\d+ s left", line) for line in below), lines
    train(tmp_path / "lines", images, progress="lines")
    assert capsys.readouterr().out.count(" left") == 3


def interrupt_in_epoch(monkeypatch, number: int):
    """The run gets Ctrl-C after the second step of epoch `number`, counted from 1."""
    monkeypatch.setattr(loop, "_IMAGES_PER_EXECUTION", 0)  # step by step
    original = Recorder.on_train_batch_end

    def on_train_batch_end(self, batch, logs=None):
        if len(self.history) == number - 1 and batch == 1:
            signal.raise_signal(signal.SIGINT)
        original(self, batch, logs)

    monkeypatch.setattr(Recorder, "on_train_batch_end", on_train_batch_end)


def test_a_run_writes_what_it_promises(finished, images):
    run, summary, _ = finished
    assert summary == run.read_summary()
    assert summary["status"] == "finished"
    assert (summary["parameters"], summary["trainable_parameters"]) == (17_370, 17_178)  # of two blocks
    assert summary["architecture"] == weights.architecture(best_model(run))
    assert summary["epochs"] == 3
    assert summary["data"]["name"] == "synthetic"
    assert summary["data"]["training_images"] == 700
    assert summary["data"]["class_names"] == list(images.class_names)
    assert summary["data"]["image_shape"] == [16, 16, 3]
    history = run.read_history()
    assert [row["epoch"] for row in history] == [1, 2, 3]
    best = max(history, key=lambda row: row["val_accuracy"])
    assert (summary["best_epoch"], summary["val_accuracy"]) == (
        best["epoch"],
        pytest.approx(best["val_accuracy"], 1e-5),
    )
    assert all(row["seconds"] > 0 and row["images_per_second"] > 0 for row in history)
    assert run.curves_in("png").read_bytes().startswith(b"\x89PNG")
    assert run.read_config() == small_config()
    assert sorted(file.name for file in run.path.iterdir()) == sorted(
        ["best.keras", "config.yaml", "curves.png", "history.csv", "state.npz", "summary.json"]
    )


def test_a_drawing_that_fails_costs_the_run_nothing(tmp_path, images, monkeypatch, capfd):
    def broken(*arguments):
        raise RuntimeError("no font")

    monkeypatch.setattr(figures, "curves", broken)
    run, summary = train(tmp_path / "run", images, "epochs=1")
    assert summary["status"] == run.read_summary()["status"] == "finished"
    assert f"{run.curves_in('png')} could not be drawn: no font" in capfd.readouterr().err


def test_a_run_that_is_stopped_while_its_last_curves_are_drawn_can_be_resumed(tmp_path, images, monkeypatch):
    stops = [Interrupted(130)]
    drawn = figures.curves

    def stopped_once(*arguments):
        if stops:
            raise stops.pop()
        return drawn(*arguments)

    monkeypatch.setattr(figures, "curves", stopped_once)
    with pytest.raises(Interrupted):
        train(tmp_path / "run", images, "epochs=1")
    run = RunDirectory(tmp_path / "run")
    run.curves_in("png").unlink(missing_ok=True)
    assert run.read_summary()["status"] == "interrupted"
    _, summary = train(run.path, images, "epochs=1", resume=True)
    assert summary["status"] == "finished" and run.curves_in("png").exists()


def test_best_weights_give_the_best_validation_accuracy(tmp_path, images):
    overrides = ["precision=float32", "epochs=4", "optimizer.learning_rate=0.005"]
    run, summary = train(tmp_path / "run", images, *overrides)
    config = small_config(*overrides)
    validation = split(images, config.data)[1]
    predictions = predict(run, validation.images).argmax(1)
    assert (predictions == validation.labels).mean() == pytest.approx(summary["val_accuracy"])


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path, images):
    overrides = ["epochs=1", "precision=mixed_bfloat16"]
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        train(tmp_path / name, images, *overrides, f"seed={seed}")
    one, same, other = (killing.outcome(tmp_path / name) for name in ("one", "same", "other"))
    assert killing.differences(one, same) == []
    assert "arrays" in killing.differences(one, other)


@pytest.mark.parametrize(
    ("epoch", "shards", "overrides"),
    [
        (1, 1, []),
        (3, 1, []),
        (3, 2, ["model.batch_norm=none", "optimizer.name=sgd", "optimizer.momentum=0.9", "augmentation.shift=3"]),
        (
            2,
            1,
            ["optimizer.name=adamw", "optimizer.weight_decay=0.01", "label_smoothing=0.1", "schedule.name=one_cycle"],
        ),
        (2, 1, ["optimizer.name=muon", "optimizer.momentum=0.95", "optimizer.nesterov=true", "steps_per_epoch=3"]),
        (2, 1, ["precision=mixed_float16", "epochs=2"]),
    ],
    ids=["adam-first", "adam", "sgd-shards", "adamw", "muon", "float16"],
)
def test_an_interrupted_run_ends_where_it_would_have_ended(
    tmp_path, images, whole, monkeypatch, epoch, shards, overrides
):
    if overrides:
        whole = killing.outcome(train(tmp_path / "whole", images, *overrides, shards=shards)[0].path)
    with monkeypatch.context() as patched:
        interrupt_in_epoch(patched, epoch)
        with pytest.raises(Interrupted) as interruption:
            train(tmp_path / "stopped", images, *overrides, shards=shards)
    assert interruption.value.exit_code == 130
    stopped = RunDirectory(tmp_path / "stopped")
    assert stopped.read_summary()["status"] == "interrupted"
    check_resumable(small_config(*overrides), stopped)
    train(stopped.path, images, *overrides, resume=True, shards=shards)
    assert killing.differences(whole, killing.outcome(stopped.path)) == []


def test_a_run_that_paused_ends_where_it_would_have_ended(tmp_path, images, whole, capsys):
    paused, summary = train(tmp_path / "paused", images, until=1)
    assert (summary["status"], summary["epochs"]) == ("interrupted", 1)
    again = train(paused.path, images, resume=True, until=1)[1]  # nothing to do before that epoch
    assert again | {"started": 0} == summary | {"started": 0}
    assert train(paused.path, images, resume=True, until=3, progress="lines")[1]["status"] == "finished"
    assert capsys.readouterr().out.startswith("going on after epoch 1 of 3\nepoch   2/3")
    assert killing.differences(whole, killing.outcome(paused.path)) == []


def test_more_epochs_of_a_constant_schedule_are_those_of_the_longer_run(tmp_path, images):
    constant = ["schedule.name=constant"]
    train(tmp_path / "long", images, *constant, "epochs=3")
    train(tmp_path / "raised", images, *constant, "epochs=2")
    check_resumable(small_config(*constant, "epochs=3"), RunDirectory(tmp_path / "raised"))
    train(tmp_path / "raised", images, *constant, "epochs=3", resume=True)
    assert killing.differences(killing.outcome(tmp_path / "long"), killing.outcome(tmp_path / "raised")) == []


def test_a_kill_while_epochs_are_raised_leaves_a_run_that_can_be_resumed(tmp_path, images, monkeypatch):
    constant = ["schedule.name=constant"]
    run, _ = train(tmp_path / "run", images, *constant, "epochs=1")
    original = RunDirectory.write_config

    def write_config(self, config):
        original(self, config)
        raise SystemExit("killed")

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(RunDirectory, "write_config", write_config)
        train(run.path, images, *constant, "epochs=2", resume=True)
    check_resumable(small_config(*constant, "epochs=2"), run)
    assert train(run.path, images, *constant, "epochs=2", resume=True)[1]["status"] == "finished"


def test_curves_in_another_format_do_not_stay_beside_the_new_ones(tmp_path, images):
    run, _ = train(tmp_path / "run", images, until=1)
    loop.fit(small_config(), run, images, Cores(2), True, "quiet", figure_format="svg")
    assert [file.name for file in run.path.glob("curves.*")] == ["curves.svg"]


def test_a_kill_between_the_checkpoint_and_the_best_weights_of_an_epoch_costs_neither(
    tmp_path, images, whole, monkeypatch
):
    rows = whole["history"]
    epoch = max(row["epoch"] for row in rows if last_is_best(rows[: row["epoch"]]))
    original = RunDirectory.new_best

    def killed(self):
        if len(self.read_facts()["history"]) == epoch:
            raise SystemExit("killed")
        return original(self)

    run = RunDirectory(tmp_path / "run")
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(RunDirectory, "new_best", killed)
        train(run.path, images)
    check_resumable(small_config(), run)
    paused = train(run.path, images, resume=True, until=epoch)[1]  # no epoch is repeated
    assert (paused["best_epoch"], paused["weights"]) == (epoch, run.weights_digest())
    train(run.path, images, resume=True)
    assert killing.differences(whole, killing.outcome(run.path)) == []


def test_a_state_of_another_network_is_refused(tmp_path, images, finished):
    shutil.copytree(finished[0].path, tmp_path / "run")
    before = RunDirectory(tmp_path / "run").state_file.read_bytes()
    with pytest.raises(UserError, match=r"does not match .* if models/vgg\.py was changed, restore it"):
        train(tmp_path / "run", images, "model.batch_norm=none", resume=True)
    assert RunDirectory(tmp_path / "run").state_file.read_bytes() == before


def test_a_run_is_not_continued_in_another_precision(tmp_path, images, finished):
    run, summary, _ = finished
    shutil.copytree(run.path, tmp_path / "run")
    now = "mixed_bfloat16" if summary["precision"] == "float32" else "float32"
    with pytest.raises(UserError, match=f"precision: '{summary['precision']}' in the run, '{now}' on this machine"):
        train(tmp_path / "run", images, f"precision={now}", resume=True)


@pytest.mark.parametrize(("moment", "loss"), [("on_train_batch_end", "loss"), ("on_epoch_end", "val_loss")])
def test_a_loss_that_diverges_stops_the_run_and_keeps_the_best_weights(tmp_path, images, monkeypatch, moment, loss):
    original = getattr(Recorder, moment)

    def diverge(self, number, logs=None):
        original(self, number, {**logs, loss: math.nan} if len(self.history) == 1 else logs)

    monkeypatch.setattr(Recorder, moment, diverge)
    with pytest.raises(Diverged, match="in epoch 2"):
        train(tmp_path / "run", images)
    run = RunDirectory(tmp_path / "run")
    assert run.read_summary()["status"] == "diverged"
    assert run.read_summary()["best_epoch"] == 1
    assert killing.best_weights(run.path)
    with pytest.raises(UserError, match="diverged"):
        check_resumable(small_config(), run)


def test_weights_that_are_not_finite_are_not_saved_although_the_losses_are(tmp_path, images, monkeypatch):
    original = Recorder.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            self.model.set_weights([np.full_like(weights, np.inf) for weights in self.model.get_weights()])
        original(self, epoch, logs)

    monkeypatch.setattr(Recorder, "on_epoch_end", on_epoch_end)
    with pytest.raises(Diverged, match="weights became NaN or infinite in epoch 2"):
        train(tmp_path / "run", images)
    assert RunDirectory(tmp_path / "run").read_summary()["best_epoch"] == 1


def test_an_absurd_learning_rate_diverges_and_quietly(tmp_path, images, capsys):
    sgd = ["optimizer.name=sgd", "optimizer.learning_rate=1e30", "model.batch_norm=none", "schedule.warmup_epochs=0"]
    with pytest.raises(Diverged, match="in epoch 1"):
        train(tmp_path / "run", images, *sgd)
    assert capsys.readouterr().out == ""


def test_several_steps_are_executed_at_a_time(images):
    """That they give the bits of one at a time: runs that are interrupted do one, and end as those that are not."""
    assert loop.compiled_model(small_config(), images, steps_per_epoch=7, precision="float32").steps_per_execution == 7


def test_tensorflow_traces_a_training_step_once(finished):
    """Each tracing is two seconds before the first step; metrics that are made in the first cause a second."""
    assert finished[2] == 1


@pytest.mark.parametrize(
    ("steps", "batch_size", "at_a_time"), [(352, 128, 32), (391, 128, 23), (88, 512, 8), (13, 128, 13), (37, 128, 1)]
)
def test_steps_at_a_time_divide_an_epoch(steps, batch_size, at_a_time):
    assert loop.steps_per_execution(steps, batch_size) == at_a_time


def test_a_run_directory_that_is_removed_is_named(tmp_path, images, monkeypatch):
    original = Recorder.on_train_batch_end

    def on_train_batch_end(self, batch, logs=None):
        if len(self.history) == 1:
            shutil.rmtree(self.run.path, ignore_errors=True)
        original(self, batch, logs)

    monkeypatch.setattr(Recorder, "on_train_batch_end", on_train_batch_end)
    with pytest.raises(UserError, match=str(tmp_path / "run")):
        train(tmp_path / "run", images)


def test_training_outside_the_main_thread_works(tmp_path, images):
    summaries = []
    thread = threading.Thread(target=lambda: summaries.append(train(tmp_path / "run", images, "epochs=1")[1]))
    thread.start()
    thread.join()
    assert summaries[0]["status"] == "finished"


@pytest.mark.slow
def test_train_and_evaluate_both_networks_from_the_command_line(tmp_path):
    for name in ("plain", "bn"):
        options = ["--data", "generated", "--set", "epochs=2", "--set", "batch_size=32"]
        options += ["--set", "schedule.warmup_epochs=0.2", "--set", "data.training_images=2000"]
        options += ["--set", "model.norm_momentum=0.9", "--set", "precision=float32"]
        result = processes.run("train.py", "--config", name, "--run-dir", tmp_path / name / "seed0", *options)
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("epoch  ") == 2
        assert "Traceback" not in result.stderr
    result = processes.run("evaluate.py", tmp_path, "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "synthetic images" in result.stdout
    assert "One seed" in result.stdout
    content = json.loads((tmp_path / "comparison.json").read_text())
    accuracy = {run["run"]: run["test_accuracy"] for run in content["runs"]}
    assert accuracy["bn/seed0"] > 0.4 > accuracy["plain/seed0"]  # batch norm is ahead early
    for figure in ("comparison.png", "confusion.png", "classes.png"):
        assert (tmp_path / figure).read_bytes().startswith(b"\x89PNG")
    (tmp_path / "plain" / "seed0" / "best.keras").write_bytes(b"PK")
    damaged = processes.run("evaluate.py", tmp_path, "--output", tmp_path)
    assert damaged.returncode == 3  # some were left out
    assert "left out" in damaged.stderr
    assert "best.keras" in damaged.stderr
    assert "bn/seed0" in damaged.stdout


@pytest.mark.slow
def test_two_epochs_on_some_of_the_real_cifar10_beat_50_percent(tmp_path, real_cifar10):
    # After one epoch, batch norm's moving averages still lag behind the weights.
    options = ["--set", "epochs=2", "--set", "data.training_images=15000", "--set", "batch_size=64"]
    result = processes.run("train.py", "--config", "bn.yaml", "--run-dir", tmp_path / "run", *options)
    assert result.returncode == 0, result.stderr
    result = processes.run("evaluate.py", tmp_path / "run", "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    run = json.loads((tmp_path / "comparison.json").read_text())["runs"][0]
    assert run["test_images"] == 10_000
    assert run["test_accuracy"] > 0.5


def test_keras_own_layers_are_all_that_best_keras_names(finished):
    model = keras.models.load_model(finished[0].best_file, safe_mode=True)
    assert {type(layer).__module__.split(".")[0] for layer in model.layers} == {"keras"}


@pytest.mark.parametrize(
    ("images", "batch", "refused"),
    [(6, 6, False), (8, 6, True), (7, 6, True), (5, 6, True), (10, 4, True), (9, 6, False)],
)
def test_batches_that_the_devices_cannot_share_are_refused(monkeypatch, images, batch, refused):
    monkeypatch.setattr(loop.tf.distribute, "get_strategy", lambda: SimpleNamespace(num_replicas_in_sync=3))
    part = Images(np.zeros((images, 8, 8, 3), np.uint8), np.zeros(images, np.int32))
    expected = pytest.raises(UserError, match="cannot be divided among 3 devices") if refused else nullcontext()
    with expected:
        assert loop.shards_of_a_batch(small_config(), Cores(2), (part, batch)) == 1


def test_statistics_of_convolutions_that_a_network_lacks_are_refused_before_training(images, monkeypatch):
    dense = keras.Sequential([keras.layers.Input(images.image_shape), keras.layers.Flatten(), keras.layers.Dense(10)])
    monkeypatch.setattr(loop, "_stock_model", lambda config, dataset: dense)
    with pytest.raises(UserError, match="batch_statistics needs a network with convolutions"):
        loop.check_network(small_config("diagnostics=batch_statistics"), images)


def test_an_epoch_of_fewer_steps_begins_where_the_last_one_ended(images):
    training_images, _ = split(images, small_config().data)

    def labels(epoch, steps, *overrides):
        dataset = training_dataset(training_images, small_config(*overrides), epoch)
        return [batch.tolist() for _, batch in dataset.take(steps).as_numpy_iterator()]

    passes = labels(0, 14)  # two, of seven batches
    assert labels(0, 14, "steps_per_epoch=3") == passes
    assert labels(3, 5, "steps_per_epoch=3") == passes[9:]
    assert small_config("steps_per_epoch=3").images_per_epoch(700) == 300
    assert small_config().images_per_epoch(700) == 700


def test_batches_are_augmented_as_the_configuration_and_its_seed_say(images):
    config = small_config("seed=5", "augmentation.shift=3", "augmentation.cutout=4")
    training_images, _ = split(images, config.data)
    given, labels = next(training_dataset(training_images, config, first_epoch=2).as_numpy_iterator())
    expected, their_labels = AugmentedImages(training_images, config.augmentation).batch(100, 5, 2, 0)
    assert np.array_equal(given, preprocess(expected)) and np.array_equal(labels, their_labels)
