"""A batch that is divided among devices trains as on one. Two logical CPU devices stand for two GPUs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

_LOSSES = """
import json, sys, tempfile
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from pathlib import Path
from experiment import config
from experiment.data import synthetic
from experiment.hardware import Cores
from experiment.training import loop, recorder
from experiment.run_directory import RunDirectory
from models import vgg
vgg.WIDTHS = vgg.WIDTHS[:2]  # traced in half the time
loop._IMAGES_PER_EXECUTION = 0  # the loss of each step is wanted
on_train_batch_end = recorder.Recorder.on_train_batch_end
def record(self, batch, logs=None):
    losses.append(logs["loss"])
    on_train_batch_end(self, batch, logs)
recorder.Recorder.on_train_batch_end = record
overrides = [
    "epochs=2", "batch_size=64", "precision=float32", "data.validation_images=100",
    "optimizer.learning_rate=0.0001",  # at ten times this rate, Keras's layer and ours on one device part as far
]
every = {}
for devices in ("one", "all"):
    losses = every[devices] = []
    with tempfile.TemporaryDirectory() as folder:
        run, settings = RunDirectory(Path(folder)), config.load(sys.argv[1], [*overrides, f"devices={devices}"])
        loop.fit(settings, run, synthetic.generate(740, 100), Cores(2), progress="quiet")
        assert run.best_file.exists()
print(json.dumps(every))
"""


def losses(config: str) -> dict[str, list[float]]:
    """The mean loss of the epoch so far, after each step, on one device and on all."""
    command = [sys.executable, "-c", _LOSSES, config]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("config", ["plain", "bn"])
def test_twenty_steps_on_two_devices_are_those_on_one(config):
    one, two = losses(config).values()
    assert len(one) == len(two) == 20
    assert two == pytest.approx(one, abs=1e-3)
    assert one[0] != one[9]
