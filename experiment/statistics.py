"""Intervals and measures for one run's answers. SciPy computes what SciPy has."""

import numpy as np
from scipy import special, stats


def accuracy_interval(correct: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a proportion (Wilson 1927), in 0..1."""
    interval = stats.binomtest(correct, count).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean cross-entropy in nats of logits [n, c] for labels [n]."""
    log_probabilities = special.log_softmax(logits.astype(np.float64), axis=1)
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


def confusion_matrix(predictions: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Counts [true class, predicted class]."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (labels, predictions), 1)
    return matrix
