"""Measures of one run's answers, and what two runs or two groups of runs say of each other.

SciPy computes what SciPy has. Accuracies and probabilities are in 0..1, intervals cover 95 %, p-values are two-sided.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

CONFIDENCE = 0.95
CALIBRATION_BINS = 15
_RESAMPLES = 9_999

# ---- one run: logits [n, c] for labels [n] ---------------------------------------------------------------------------


def accuracy_interval(correct: int, count: int) -> tuple[float, float]:
    """Wilson's interval of a proportion (Wilson 1927)."""
    interval = stats.binomtest(correct, count).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """The softmax, in float64."""
    return special.softmax(logits.astype(np.float64), axis=1)


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean cross-entropy in nats."""
    log_probabilities = special.log_softmax(logits.astype(np.float64), axis=1)
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


def brier_score(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean squared distance of the probabilities from the truth, summed over the classes: 0 to 2 (Brier 1950)."""
    return float(np.mean(np.sum((probabilities(logits) - np.eye(logits.shape[1])[labels]) ** 2, axis=1)))


@dataclass(frozen=True)
class Calibration:
    """How often answers of like confidence were right: one entry a bin of equal width, NaN where a bin is empty."""

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def expected_error(self) -> float:
        """The expected calibration error: |accuracy - confidence|, weighted by the bins' counts (Guo et al. 2017)."""
        filled = self.counts > 0
        gaps = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float(np.average(gaps, weights=self.counts[filled]))


def calibration(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """Answers sorted by confidence, the largest probability, into 15 bins of (0, 1]."""
    answers = probabilities(logits)
    confidence, right = answers.max(1), answers.argmax(1) == labels
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    counts = stats.binned_statistic(confidence, right, "count", edges).statistic
    means = [stats.binned_statistic(confidence, values, "mean", edges).statistic for values in (confidence, right)]
    return Calibration(counts.astype(int), *means)


def pooled(calibrations: Sequence[Calibration]) -> Calibration:
    """The answers of several runs as if they were one run's."""
    counts = np.sum([each.counts for each in calibrations], axis=0)

    def mean(name: str) -> np.ndarray:
        sums = np.sum([np.nan_to_num(getattr(each, name)) * each.counts for each in calibrations], axis=0)
        return np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)

    return Calibration(counts, mean("confidence"), mean("accuracy"))


def confusion_matrix(predictions: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Counts [true class, predicted class]."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (labels, predictions), 1)
    return matrix


# ---- two runs on the same test images --------------------------------------------------------------------------------


def compare_answers(first: np.ndarray, second: np.ndarray) -> dict:
    """Two runs by which images [n] each got right (bool): how far the first is ahead, and whether by chance.

    The interval is a bootstrap over the images, which the two share (percentiles); the p-value McNemar's exact test
    (McNemar 1947), in which only the images count that one alone got right.
    """
    count = len(first)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    # An image counts +1, -1 or 0, so drawing images anew is drawing how many of each kind there are.
    shares = np.array([only_first, only_second, count - only_first - only_second]) / count
    resampled = np.random.default_rng(0).multinomial(count, shares, _RESAMPLES)
    low, high = np.quantile((resampled[:, 0] - resampled[:, 1]) / count, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    p_value = stats.binomtest(only_first, only_first + only_second).pvalue if only_first + only_second else 1.0
    return {
        "difference": (only_first - only_second) / count,
        "bootstrap_95": (float(low), float(high)),
        "only_first_right": only_first,
        "only_second_right": only_second,
        "mcnemar_p": float(p_value),
    }


def surest_disagreements(
    first: np.ndarray, second: np.ndarray, labels: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """The images that the first alone got right, and those that the second did: the surest `most` of each, in order.

    Both are given by their probabilities [n, c]; the less sure of the two counts.
    """
    sureness = np.minimum(first.max(1), second.max(1))
    right = [probabilities.argmax(1) == labels for probabilities in (first, second)]
    alone = [np.flatnonzero(own & ~other) for own, other in (right, right[::-1])]
    return tuple(images[np.argsort(-sureness[images], kind="stable")][:most] for images in alone)


# ---- two groups of runs ----------------------------------------------------------------------------------------------


def mean_and_sd(values) -> dict:
    """`sd` is that of a sample (n - 1), None where there is one value."""
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None}


def compare_groups(first: dict[int, float], second: dict[int, float]) -> dict:
    """Two groups of runs by their accuracies, each under its seed: how far the first is ahead, and how sure that is.

    Where both have the same seeds the runs are taken in pairs (they share order and augmentation): Student's interval
    of the mean paired difference, and the permutation test that exchanges the two of a pair. Elsewhere: Welch's
    interval, and the test that deals all runs anew. `chance_of_being_ahead` is the share of pairs, one run of each, in
    which the first is ahead, ties half: the Mann-Whitney U statistic over the number of pairs.

    Interval and p-value are None where a group is of one run: one seed cannot tell. The interval is None, too, where
    the runs do not differ among themselves at all: there is no spread to judge by.
    """
    paired = first.keys() == second.keys()
    seeds = sorted(first) if paired else None
    a, b = (np.array([group[seed] for seed in sorted(group)]) for group in (first, second))
    content = {
        "difference": float(a.mean() - b.mean()),
        "paired": paired,
        "seeds": seeds,
        "runs": [len(a), len(b)],
        "interval_95": None,
        "permutation_p": None,
        "smallest_possible_p": None,
        "chance_of_being_ahead": float(stats.mannwhitneyu(a, b).statistic / (len(a) * len(b))),
    }
    if min(len(a), len(b)) < 2:
        return content
    if paired:
        content["interval_95"] = mean_interval(a - b)
    elif np.ptp(a) or np.ptp(b):
        welch = stats.ttest_ind(a, b, equal_var=False)
        content["interval_95"] = tuple(map(float, welch.confidence_interval(CONFIDENCE)))
    kind = "samples" if paired else "independent"
    permuted = stats.permutation_test(
        (a, b), _difference_of_means, permutation_type=kind, vectorized=True, n_resamples=_RESAMPLES, rng=0
    )
    content["permutation_p"] = float(permuted.pvalue)
    arrangements = 2 ** len(a) if paired else special.comb(len(a) + len(b), len(a))
    content["smallest_possible_p"] = float(min(1.0, 2 / arrangements))
    return content


def _difference_of_means(first: np.ndarray, second: np.ndarray, axis: int):
    return first.mean(axis=axis) - second.mean(axis=axis)


def mean_interval(values) -> tuple[float, float] | None:
    """Student's interval of a mean; None for a single value, and for several that are all the same."""
    if len(values) < 2 or np.ptp(values) == 0:
        return None
    return tuple(map(float, stats.ttest_1samp(values, 0).confidence_interval(CONFIDENCE)))
