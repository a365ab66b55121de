"""The learning rate and the loss against values computed by hand."""

import math

import numpy as np
import pytest

from experiment import optimization


@pytest.mark.parametrize(
    ("fall", "expected"),
    [
        ("constant", [0.1, 1.0, 1.0, 1.0, 1.0]),
        ("cosine", [0.1, 1.0, 1.0, 0.5, 0.0]),
        ("one_cycle", [0.1, 1.0, 1.0, 0.5, 0.0]),
    ],
)
def test_learning_rate_at_known_steps(fall, expected):
    schedule = optimization.LearningRate(2.0, fall, warmup_steps=10, total_steps=110)
    rates = [float(schedule(step)) / 2 for step in (0, 9, 10, 60, 110)]
    assert rates == pytest.approx(expected, abs=1e-6)


def test_cosine_and_one_cycle_differ_between():
    rates = [float(optimization.LearningRate(1.0, fall, 0, 100)(25)) for fall in ("cosine", "one_cycle")]
    assert rates == pytest.approx([0.5 * (1 + math.cos(math.pi / 4)), 0.75])


def test_label_smoothing_is_cross_entropy_with_softened_targets():
    logits = np.array([[2.0, *[0.0] * 9]], np.float32)
    log_sum = math.log(math.exp(2) + 9)
    smoothed = np.asarray(optimization.build_loss(0.1)(np.array([0]), logits)).item()
    assert smoothed == pytest.approx(0.91 * (log_sum - 2) + 0.09 * log_sum, rel=1e-5)
    plain = float(optimization.build_loss(0.0)(np.array([0]), logits))
    assert plain == pytest.approx(log_sum - 2, rel=1e-5)
