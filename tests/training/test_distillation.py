"""Distillation: the targets, the loss, which teachers are taken, and that a distilled run is exact like any other."""

import dataclasses
import shutil

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from experiment import config as configuration
from experiment.data.dataset import Images, split
from experiment.errors import UserError
from experiment.evaluation.predict import best_model, views
from experiment.hardware import Cores
from experiment.run_directory import RunDirectory
from experiment.sections import Distillation
from experiment.training import distillation, loop, optimizers, start
from tests import killing
from tests.conftest import make_run

pytestmark = pytest.mark.usefixtures("two_blocks")
SMALL = ["epochs=1", "batch_size=100", "data.validation_images=100", "schedule.warmup_epochs=0.5"]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory, two_blocks, images):
    """A folder of two trained runs."""
    folder = tmp_path_factory.mktemp("teachers")
    for seed in (0, 1):
        train(folder / f"seed{seed}", images, f"seed={seed}")
    return folder


def config_of(*overrides: str) -> configuration.Config:
    return configuration.load("bn.yaml", [*SMALL, *overrides])


def train(path, images, *overrides, **ways) -> RunDirectory:
    run, config = RunDirectory(path), config_of(*overrides)
    run.prepare()
    teachers = distillation.teachers_of(config, images, run)
    loop.fit(config, run, images, Cores(2, 1), teachers=teachers, **{"progress": "quiet", **ways})
    return run


def loss_by_hand(logits, label, taught, weight, temperature, smoothing):
    """From the definitions, in float64."""
    target = (1 - smoothing) * np.eye(len(logits))[label] + smoothing / len(logits)
    hard = -(target * scipy.special.log_softmax(logits)).sum()
    soft = (taught * (np.log(taught) - scipy.special.log_softmax(logits / temperature))).sum()
    return (1 - weight) * hard + weight * temperature**2 * soft


@pytest.mark.parametrize(("weight", "temperature", "smoothing"), [(0.9, 4.0, 0.0), (0.5, 1.0, 0.1), (0.0, 2.0, 0.2)])
def test_the_loss_is_that_of_its_definition(weight, temperature, smoothing):
    rng = np.random.default_rng(0)
    logits, taught = rng.normal(size=(4, 5)), scipy.special.softmax(rng.normal(size=(4, 5)), axis=1)
    labels = np.array([0, 2, 4, 2])
    settings = Distillation(teachers="x", weight=weight, temperature=temperature)
    loss = optimizers.build_loss(configuration.Config(distillation=settings, label_smoothing=smoothing))
    rows = tf.constant(np.column_stack([labels, taught]), tf.float32)
    by_hand = [
        loss_by_hand(logits[n], labels[n], taught[n], weight, temperature, smoothing) for n in range(len(labels))
    ]
    assert np.allclose(loss(rows, tf.constant(logits, tf.float32)), by_hand, rtol=1e-5)
    # Probabilities of 0 and 1 are possible, too.
    sure = tf.constant([[2.0, 0, 0, 1, 0, 0]])
    assert np.isfinite(loss(sure, tf.constant([[90.0, 0, -90, 0, 0]])))
    # A validation image has no teachers: the loss is the cross-entropy with its label.
    alone = [loss_by_hand(logits[n], labels[n], taught[n], 0, temperature, smoothing) for n in range(len(labels))]
    assert np.allclose(loss(tf.constant(labels, tf.float32), tf.constant(logits, tf.float32)), alone, rtol=1e-5)


def test_accuracy_is_by_the_labels_whatever_the_teachers_say():
    rows = tf.constant([[1, 0.9, 0.1], [0, 0.1, 0.9]])  # the label, and the probabilities of both classes
    logits = tf.constant([[0.0, 1.0], [0.0, 1.0]])
    assert distillation.accuracy(rows, logits).numpy().tolist() == [1, 0]
    assert distillation.accuracy(tf.constant([1.0, 0.0]), logits).numpy().tolist() == [1, 0]


def test_targets_are_the_labels_and_the_teachers_mean_probabilities(images, teachers, tmp_path):
    config = config_of(f"distillation={{teachers: {teachers}, temperature: 2.0, tta: flip}}")
    training = split(images, config.data)[0]
    found = distillation.teachers_of(config, images, RunDirectory(tmp_path))
    taught = distillation.with_targets(training, found, config.distillation)
    expected = []
    for seed in (0, 1):
        model = best_model(RunDirectory(teachers / f"seed{seed}"))
        logits = [model(view / np.float32(127.5) - 1).numpy() for view in views(training.images, "flip")]
        expected.append(scipy.special.softmax(np.mean(logits, axis=0) / 2, axis=1))
    assert taught.images is training.images
    assert taught.labels.dtype == np.float32 and (taught.labels[:, 0] == training.labels).all()
    assert np.allclose(taught.labels[:, 1:], np.mean(expected, axis=0), atol=1e-5)


def test_a_distilled_run_names_its_teachers_and_ends_where_it_would_have_ended(images, teachers, tmp_path):
    overrides = ["epochs=2", f"distillation.teachers={teachers}", "diagnostics=gradients"]
    whole = train(tmp_path / "whole", images, *overrides)
    digests = [RunDirectory(teachers / f"seed{seed}").weights_digest() for seed in (0, 1)]
    assert whole.read_summary()["teachers"] == digests
    paused = train(tmp_path / "paused", images, *overrides, until=1)
    train(paused.path, images, *overrides, resume=True)
    assert killing.differences(killing.outcome(whole.path), killing.outcome(paused.path)) == []
    alone = train(tmp_path / "alone", images, "epochs=2")
    assert "teachers" not in alone.read_summary()
    assert killing.differences(killing.outcome(whole.path), killing.outcome(alone.path))


def test_a_run_is_not_continued_with_other_teachers(images, teachers, tmp_path):
    folder = shutil.copytree(teachers / "seed0", tmp_path / "teacher")
    overrides = ["epochs=2", f"distillation.teachers={folder}"]
    train(tmp_path / "run", images, *overrides, until=1)
    shutil.copytree(teachers / "seed1", folder, dirs_exist_ok=True)
    with pytest.raises(UserError, match=r"the same distillation\.teachers, but what is there was changed"):
        train(tmp_path / "run", images, *overrides, resume=True)


def test_teachers_that_cannot_teach_are_refused(images, teachers, tmp_path):
    run = RunDirectory(tmp_path / "run")

    def refused(path, *overrides, data=images, of=run) -> str:
        with pytest.raises(UserError) as error:
            distillation.teachers_of(config_of(f"distillation.teachers={path}", *overrides), data, of)
        assert str(error.value).startswith("distillation.teachers: ")
        return str(error.value)

    assert "contains no run" in refused(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to("loop")
    assert "contains no run" in refused(tmp_path / "loop")
    for name in ("seed1", "seed2"):  # the second one is not there yet, but would be when it is resumed
        assert "cannot be its own teacher" in refused(teachers, of=RunDirectory(teachers / name))
    assert "stopped: it is interrupted" in refused(make_run(tmp_path / "stopped", status="interrupted").path)
    assert "best.keras" in refused(make_run(tmp_path / "without weights").path)
    other = dataclasses.replace(images, test=Images(images.test.images[::-1].copy(), images.test.labels))
    assert "was trained on other images" in refused(teachers, data=other)
    for key, value in (("validation_images", 50), ("split_seed", 1), ("protocol", "test_as_validation")):
        told = refused(teachers, f"data.{key}={value}")
        assert f"seed0 has data.{key} " in told and f"this run {value}: it may have learned" in told


def test_the_loss_of_a_distilled_run_is_called_so():
    assert config_of("distillation.teachers=x").loss_name == "cross-entropy loss, with teachers in training"
    assert config_of("label_smoothing=0.1").loss_name == "loss of smoothed labels"
    assert config_of().loss_name == "cross-entropy loss"


def test_a_student_is_started_like_any_run_and_not_replaced_by_one_without_teachers(images, teachers, tmp_path):
    run, config = RunDirectory(tmp_path / "student"), config_of(f"distillation.teachers={teachers}")
    summary = start.train(config, run, images, progress="quiet")
    assert summary["teachers"] == [RunDirectory(teachers / f"seed{seed}").weights_digest() for seed in (0, 1)]
    with pytest.raises(UserError, match=r"^distillation\.teachers: "):
        start.train(config_of(f"distillation.teachers={tmp_path / 'none'}"), run, images, "overwrite")
    assert run.read_summary() == summary  # nothing is lost
