"""What several test files share: real CIFAR-10, and directories that look like a finished run's."""

import collections
import os
import signal
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's threads slow each other down beside another process

import numpy as np
import pytest
from hypothesis import settings

import models
from experiment import config as configuration
from experiment import tensorflow_setup
from experiment.evaluation.predict import predict_missing
from experiment.evaluation.result import RunResult, load_result
from experiment.run_directory import RunDirectory
from models import vgg
from models.network import build_model

# Where the suite was started in the background, some signals are ignored, and would be in all the processes it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
tensorflow_setup.set_environment()  # before any test file imports TensorFlow

settings.register_profile("project", deadline=None, derandomize=True, database=None)
settings.load_profile("project")


def pytest_collection_modifyitems(items):
    """The files with most slow tests first, so that both processes end at about the same time."""
    slow = collections.Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def real_cifar10():
    """The real data set, from the directory that CIFAR10_DIR names."""
    named = os.environ.get("CIFAR10_DIR")
    if not named:
        pytest.skip("CIFAR10_DIR is not set: this test reads the real CIFAR-10")
    from experiment.data import sources

    return sources.read(Path(named))


@pytest.fixture
def no_cifar10(tmp_path, monkeypatch) -> Path:
    """No CIFAR-10 anywhere on this machine; returns the empty directory that stands for Keras's cache."""
    home = tmp_path / "keras-home"
    home.mkdir()
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(home))
    return home


@pytest.fixture(scope="module")
def two_blocks():
    """Two of the four blocks of the VGG-like networks, which TensorFlow traces in less time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg, "WIDTHS", vgg.WIDTHS[:2])
        yield


def build_vgg(batch_norm: str = "none", **keywords):
    """The VGG-like network for CIFAR-10, as `models.network.build_model` makes it with these keywords."""
    network = models.get("vgg").model_validate({"batch_norm": batch_norm})
    return build_model(network, (32, 32, 3), 10, **keywords)


def history_rows(*accuracies: float) -> list[dict]:
    """A history of one row for each validation accuracy."""
    return [
        {
            "epoch": epoch,
            "loss": 2.0 / epoch,
            "accuracy": accuracy + 0.01,
            "val_loss": 2.1 / epoch,
            "val_accuracy": accuracy,
            "learning_rate": 0.001,
            "seconds": 4.5,
            "images_per_second": 10_000.0,
        }
        for epoch, accuracy in enumerate(accuracies, start=1)
    ]


def make_run(path: Path, *overrides: str, correct: int = 80, data: str = "cifar10", **summary) -> RunDirectory:
    """A finished run without weights: `correct` of its 100 answers, ten a class, are right, and the others class 0."""
    run = RunDirectory(path)
    run.prepare()
    run.write_config(configuration.load("plain.yaml", ["title=null", "reported=null", "epochs=3", *overrides]))
    run.write_history(history_rows(0.5, 0.7, 0.6))
    images = ("0" if data == "cifar10" else "1") * 64
    facts = {
        "status": "finished",
        "epochs": 3,
        "best_epoch": 2,
        "val_accuracy": 0.7,
        "train_seconds": 13.5,
        "images_per_second": 10_000.0,
        "parameters": 294_810,
        "precision": "float32",
        "data": {"name": data, "sha256": images, "protocol": "held_out", "training_images": 45_000},
    }
    run.write_summary(facts | summary)
    labels = np.repeat(np.arange(10), 10)
    answers = np.where(np.arange(100) < 100 - correct, (labels + 1) % 10, labels)
    run.write_predictions(4.0 * np.eye(10)[answers], labels)
    return run


def predict_and_load(run: RunDirectory, name: str, dataset_for, engine="keras", tta="none") -> RunResult:
    """What evaluate.py does with a run."""
    unwritten = predict_missing(run, dataset_for, engine, tta)
    return load_result(run, name, tta, unwritten)


@pytest.fixture
def evaluated(tmp_path):
    """Makes a finished run and evaluates it by its kept answers; the name ends in its seed."""

    def no_data(name: str):
        raise AssertionError(f"the data set {name} was asked for")

    def make(name: str = "plain/seed0", *overrides: str, **keywords) -> RunResult:
        run = make_run(tmp_path / name, f"seed={name[-1]}", *overrides, **keywords)
        return predict_and_load(run, name, no_data)

    return make
