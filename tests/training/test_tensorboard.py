"""What TensorBoard reads of a run, and that writing it changes nothing."""

import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from experiment import config as configuration
from experiment.data import synthetic
from experiment.hardware import Cores
from experiment.run_directory import RunDirectory
from experiment.training import loop
from tests import killing

event_accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="needs pip install -e '.[tensorboard]'"
)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def logged(tmp_path_factory) -> RunDirectory:
    return train(tmp_path_factory.mktemp("logged"), tensorboard=True)


def train(path: Path, tensorboard: bool) -> RunDirectory:
    overrides = ["epochs=2", "batch_size=100", "data.validation_images=100", "precision=float32"]
    run = RunDirectory(path)
    run.prepare()
    config = configuration.load("bn.yaml", overrides)
    loop.fit(config, run, synthetic.generate(500, 100), Cores(2), progress="quiet", tensorboard=tensorboard)
    return run


def read(folder: Path):
    events = event_accumulator.EventAccumulator(str(folder))
    events.Reload()
    return events


def value(events, tag: str) -> list[float]:
    return [float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)]


def test_scalars_gradients_and_the_configuration_are_logged(logged):
    run, history = logged, logged.read_history()
    training_log, validation_log = (read(run.tensorboard_folder / part) for part in ("train", "validation"))
    assert value(training_log, "epoch_loss") == pytest.approx([row["loss"] for row in history], rel=1e-4)
    assert value(validation_log, "epoch_accuracy") == pytest.approx([row["val_accuracy"] for row in history], rel=1e-4)
    assert len(value(training_log, "epoch_learning_rate")) == 2
    assert all(len(value(training_log, f"gradient_norm/layer_{layer}")) == 2 for layer in range(1, 10))
    (text,) = training_log.Tensors("configuration")
    assert b"norm: batch" in text.tensor_proto.string_val[0]


def test_logging_changes_nothing_of_the_run_and_overwriting_removes_it(logged, tmp_path):
    plain = train(tmp_path / "plain", tensorboard=False)
    assert killing.differences(killing.outcome(logged.path), killing.outcome(plain.path)) == []
    logged.remove_files()
    assert list(logged.tensorboard_folder.rglob("events*")) == []


def test_without_tensorboard_the_message_says_what_to_install(tmp_path):
    code = (
        "import importlib.util, train\nfrom experiment.errors import reported\n"
        "train.find_spec = lambda name: None\n"
        "with reported(): train.main(train.parse_arguments("
        f"['--config', 'bn.yaml', '--tensorboard', '--data', 'generated', '--run-dir', {str(tmp_path / 'run')!r}]))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2 and "'.[tensorboard]'" in result.stderr
    assert not (tmp_path / "run").exists()
