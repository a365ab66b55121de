"""The learning rate and the loss against values computed by hand."""

import math

import keras
import numpy as np
import pytest

from experiment import config as configuration
from experiment.config import Config
from experiment.training import optimizers


@pytest.mark.parametrize(
    ("fall", "expected"),
    [
        ("constant", [0.1, 1.0, 1.0, 1.0, 1.0]),
        ("cosine", [0.1, 1.0, 1.0, 0.5, 0.0]),
        ("one_cycle", [0.1, 1.0, 1.0, 0.5, 0.0]),
    ],
)
def test_learning_rate_at_known_steps(fall, expected):
    schedule = optimizers.LearningRate(2.0, fall, warmup_steps=10, total_steps=110)
    rates = [float(schedule(step)) / 2 for step in (0, 9, 10, 60, 110)]
    assert rates == pytest.approx(expected, abs=1e-6)


def test_cosine_and_one_cycle_differ_between():
    rates = [float(optimizers.LearningRate(1.0, fall, 0, 100)(25)) for fall in ("cosine", "one_cycle")]
    assert rates == pytest.approx([0.5 * (1 + math.cos(math.pi / 4)), 0.75])


def built(*overrides: str):
    config = configuration.load("plain.yaml", ["optimizer.learning_rate=0.5", "epochs=4", *overrides])
    return optimizers.build_optimizer(config, steps_per_epoch=10, precision="float32")


@pytest.mark.parametrize(
    ("name", "kernel", "other"), [("adam", 1.0, 1.0), ("adamw", 0.95, 0.95), ("sgd", 0.95, 0.95), ("muon", 0.95, 1.0)]
)
def test_weight_decay_is_of_the_rate_and_what_the_configuration_says(name, kernel, other):
    decay = [] if name == "adam" else ["optimizer.weight_decay=0.1"]
    optimizer = built(f"optimizer.name={name}", *decay, "schedule.name=constant", "schedule.warmup_epochs=0")
    variables = [keras.Variable(np.ones(shape, np.float32)) for shape in ((3, 3, 4, 8), (8,))]
    optimizer.build(variables)
    optimizer.apply_gradients([(keras.ops.zeros(variable.shape), variable) for variable in variables])
    assert [float(np.mean(variable)) for variable in variables] == pytest.approx([kernel, other])


@pytest.mark.parametrize("name", ["sgd", "muon"])
def test_momentum_is_what_the_configuration_says(name):
    for nesterov in (True, False):
        optimizer = built(f"optimizer.name={name}", "optimizer.momentum=0.7", f"optimizer.nesterov={nesterov}".lower())
        assert (optimizer.momentum, optimizer.nesterov) == (0.7, nesterov)


def test_the_rate_rises_in_the_warm_up_and_falls_over_all_epochs():
    optimizer = built("schedule.name=cosine", "schedule.warmup_epochs=0.5")
    rates = []
    for step in (0, 4, 40):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    assert rates == pytest.approx([0.1, 0.5, 0.0], abs=1e-7)


def test_label_smoothing_is_cross_entropy_with_softened_targets():
    logits = np.array([[2.0, *[0.0] * 9]], np.float32)
    log_sum = math.log(math.exp(2) + 9)
    smoothed = np.asarray(optimizers.build_loss(Config(label_smoothing=0.1))(np.array([0]), logits)).item()
    assert smoothed == pytest.approx(0.91 * (log_sum - 2) + 0.09 * log_sum, rel=1e-5)
    plain = float(optimizers.build_loss(Config())(np.array([0]), logits))
    assert plain == pytest.approx(log_sum - 2, rel=1e-5)


def stepped(optimizer, gradient, shape) -> np.ndarray:
    """What one step of the optimiser adds to a variable."""
    variable = keras.Variable(np.zeros(shape, np.float32))
    optimizer.build([variable])
    optimizer.apply_gradients([(keras.ops.convert_to_tensor(gradient.reshape(shape), "float32"), variable)])
    return np.array(variable)


def muon(**options) -> optimizers.KernelMuon:
    return optimizers.KernelMuon(0.1, weight_decay=None, adam_weight_decay=None, **options)


def test_muon_moves_a_kernel_equally_far_in_all_directions():
    gradient = np.random.default_rng(0).standard_normal((3 * 3 * 8, 16)) * np.logspace(-1, 1, 16)
    before = np.linalg.svd(gradient, compute_uv=False)
    moved = stepped(muon(), gradient, (3, 3, 8, 16)).reshape(72, 16)
    after = np.linalg.svd(moved, compute_uv=False)
    assert before.max() / before.min() > 20
    assert after.max() / after.min() < 2  # Newton and Schulz's iteration stops near one
    assert np.sum(moved * gradient) < 0
    assert np.median(after) == pytest.approx(0.1 * 0.2 * math.sqrt(72), rel=0.3)  # rate, and Moonlight's scale


def test_muon_iterates_as_keras_does():
    matrix = np.random.default_rng(0).normal(size=(72, 16)).astype("float32")
    ours, keras_own = muon()._orthogonalized(matrix), muon().zeropower_via_newtonschulz5(matrix, 5)
    np.testing.assert_allclose(ours, keras_own, atol=1e-5)


def test_muon_leaves_matrices_and_vectors_to_adam():
    for shape in ((128, 10), (16,)):
        gradient = np.random.default_rng(1).standard_normal(math.prod(shape))
        moved = stepped(muon(adam_lr_ratio=0.5), gradient, shape)
        assert np.allclose(np.abs(moved), 0.05, rtol=0.05)  # Adam's first step is its rate, whatever the gradient
