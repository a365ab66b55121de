"""Intervals and measures against values from elsewhere."""

import math

import numpy as np
import pytest

from experiment.statistics import accuracy_interval, confusion_matrix, negative_log_likelihood


def wilson(correct: int, count: int) -> tuple[float, float]:
    """The closed formula of Wilson 1927, with the normal quantile of 0.975."""
    z = 1.959963984540054
    share = correct / count
    centre = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count**2))
    return (centre - half) / (1 + z * z / count), (centre + half) / (1 + z * z / count)


@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_the_published_one(correct, count, low, high):
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3."""
    assert accuracy_interval(correct, count) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("correct", "count"), [(8193, 10_000), (8238, 10_000), (0, 10), (10, 10), (1, 1), (1, 100)])
def test_the_interval_is_wilsons_formula(correct, count):
    assert accuracy_interval(correct, count) == pytest.approx(wilson(correct, count), abs=1e-12)


def test_more_confidence_widens_the_interval():
    low, high = accuracy_interval(80, 100, 0.95)
    wider_low, wider_high = accuracy_interval(80, 100, 0.99)
    assert wider_low < low < high < wider_high


def test_the_likelihood_of_known_probabilities():
    probabilities = np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    expected = -(math.log(0.25) + math.log(0.8)) / 2
    assert negative_log_likelihood(np.log(probabilities), np.array([1, 2])) == pytest.approx(expected)


def test_equal_logits_cost_the_logarithm_of_the_classes():
    assert negative_log_likelihood(np.zeros((4, 10)), np.arange(4)) == pytest.approx(math.log(10))


@pytest.mark.parametrize("offset", [-1e4, 1e4])
def test_a_constant_on_all_logits_changes_nothing(offset):
    logits = np.array([[1.0, 2.0, 4.0], [0.0, -3.0, 1.0]])
    labels = np.array([0, 2])
    assert negative_log_likelihood(logits + offset, labels) == pytest.approx(negative_log_likelihood(logits, labels))


@pytest.mark.parametrize(("label", "expected"), [(0, 0.0), (1, 1e4)])
def test_the_likelihood_is_finite_for_huge_logits(label, expected):
    logits = np.array([[1e4, 0.0]], np.float16)
    assert negative_log_likelihood(logits, np.array([label])) == pytest.approx(expected)


def test_the_confusion_matrix_counts_true_by_predicted():
    labels, predictions = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 2, 2])
    assert confusion_matrix(predictions, labels, 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 2]]


def test_a_class_that_does_not_occur_has_an_empty_row():
    assert confusion_matrix(np.array([1]), np.array([0]), 3).tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
