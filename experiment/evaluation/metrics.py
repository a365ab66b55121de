"""Metrics of one run's predictions, and statistics that compare two runs or groups of runs.

Accuracies and probabilities are in 0..1, intervals cover 95 %, p-values are two-sided.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # loads its submodules when they are used: a training uses none

CONFIDENCE = 0.95
CALIBRATION_BINS = 15
FEWEST_FOR_AN_INTERVAL = 3  # runs; see mean_interval
UNBOUNDED = (-np.inf, np.inf)
ROUNDING = 1e-12  # differences below this are none
_RESAMPLES = 9_999

# ---- one run: logits [n, c] for labels [n] ---------------------------------------------------------------------------


def accuracy_interval(correct: int, count: int) -> tuple[float, float]:
    """Wilson's interval of a proportion (Wilson 1927)."""
    interval = scipy.stats.binomtest(correct, count).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """The softmax, in float64."""
    return scipy.special.softmax(logits.astype(np.float64), axis=1)


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean cross-entropy in nats."""
    log_probabilities = scipy.special.log_softmax(logits.astype(np.float64), axis=1)
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


def brier_score(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean squared distance of the probabilities from the one-hot labels, 0 to 2 (Brier 1950)."""
    return float(np.mean(np.sum((probabilities(logits) - np.eye(logits.shape[1])[labels]) ** 2, axis=1)))


@dataclass(frozen=True)
class Calibration:
    """Accuracy and mean confidence in bins of confidence; arrays with one entry per bin, NaN for an empty one."""

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def expected_error(self) -> float:
        """The expected calibration error: the mean of |accuracy - confidence| over the images (Guo et al. 2017)."""
        filled = self.counts > 0
        gaps = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float(np.average(gaps, weights=self.counts[filled]))


def calibration(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """Bins predictions by confidence, which is the largest probability, into 15 bins of equal width in (0, 1]."""
    predicted = probabilities(logits)
    confidence, correct = predicted.max(1), predicted.argmax(1) == labels
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    counts = scipy.stats.binned_statistic(confidence, correct, "count", edges).statistic
    means = [
        scipy.stats.binned_statistic(confidence, values, "mean", edges).statistic for values in (confidence, correct)
    ]
    return Calibration(counts.astype(int), *means)


def confusion_matrix(predictions: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Counts [true class, predicted class]."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (labels, predictions), 1)
    return matrix


def class_shares(matrix: np.ndarray) -> np.ndarray:
    """A confusion matrix as shares of each true class, in 0..1; 0 for a class without test images."""
    return matrix / np.maximum(matrix.sum(1, keepdims=True), 1)


# ---- two runs on the same test images --------------------------------------------------------------------------------


def compare_predictions(first: np.ndarray, second: np.ndarray) -> dict:
    """The difference of two runs' accuracies on the same images, with an interval and a test.

    The interval is the percentile interval of a paired bootstrap over the images. The p-value is McNemar's exact test
    (McNemar 1947) on the images that exactly one run classified correctly.

    Args:
        first, second: which images each run classified correctly, bool [n].
    """
    count = len(first)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    # An image contributes +1, -1 or 0, so resampling images is sampling the counts of these three.
    shares = np.array([only_first, only_second, count - only_first - only_second]) / count
    resampled = np.random.default_rng(0).multinomial(count, shares, _RESAMPLES)
    low, high = np.quantile((resampled[:, 0] - resampled[:, 1]) / count, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    p_value = scipy.stats.binomtest(only_first, only_first + only_second).pvalue if only_first + only_second else 1.0
    return {
        "difference": (only_first - only_second) / count,
        "bootstrap_95": (float(low), float(high)),
        "only_first_correct": only_first,
        "only_second_correct": only_second,
        "mcnemar_p": float(p_value),
    }


def most_confident_disagreements(
    first: np.ndarray, second: np.ndarray, labels: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """The `most` most confident images that only the first classifies correctly, and those that only the second does.

    The confidence of a disagreement is the lower one of the two.

    Args:
        first, second: probabilities [n, c].
        labels: the true classes [n].

    Returns:
        Two arrays of indices of images, the most confident first.
    """
    confidence = np.minimum(first.max(1), second.max(1))
    correct = [probabilities.argmax(1) == labels for probabilities in (first, second)]
    alone = [np.flatnonzero(own & ~other) for own, other in (correct, correct[::-1])]
    return tuple(images[np.argsort(-confidence[images], kind="stable")][:most] for images in alone)


# ---- groups of runs --------------------------------------------------------------------------------------------------


def mean_and_sd(values) -> dict:
    """Mean and sample standard deviation (n - 1), which is None for a single value."""
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None}


def mean_interval(values, bounds: tuple[float, float] = UNBOUNDED) -> tuple[float, float] | None:
    """Student's 95 % interval of a mean (Student 1908), clipped to its possible range.

    Args:
        values: one per run.
        bounds: the possible range of the mean: (0, 1) for an accuracy.

    Returns:
        None for fewer than three values, or if all are equal. With two values the interval would be the mean plus or
        minus 12.7 standard errors (with three it is 4.3): too wide to be informative, and correct only for exactly
        normal values.
    """
    if len(values) < FEWEST_FOR_AN_INTERVAL or not _spread(values):
        return None
    return tuple(np.clip(scipy.stats.ttest_1samp(values, 0).confidence_interval(CONFIDENCE), *bounds).tolist())


def _spread(values: Sequence[float], rounding: float = ROUNDING) -> bool:
    """Whether the values differ by more than rounding."""
    return bool(np.ptp(values) > rounding)


def compare_groups(
    first: dict[int, float],
    second: dict[int, float],
    bounds: tuple[float, float] = UNBOUNDED,
    comparisons: int = 1,
    rounding: float = ROUNDING,
) -> dict:
    """The difference of two groups' mean accuracies (or scores), with an interval and tests.

    If both groups have the same seeds, the runs are paired, since they share order and augmentation: Student's interval
    of the mean paired difference, and the permutation test within pairs. Otherwise: Welch's interval, and the
    permutation test for independent samples. `chance_of_being_ahead` is the fraction of pairs, one run of each group,
    in which the first is ahead, with ties counted half: the Mann-Whitney U statistic over the number of pairs.

    Args:
        first, second: accuracies or scores by seed.
        bounds: the possible range of the difference: (-1, 1) for accuracies.
        comparisons: the number of intervals that together cover their differences with 95 % (Bonferroni's correction).
        rounding: values that differ by less have no spread.

    Returns:
        The interval and the p-value of the t test are None if a group has fewer than three runs (see `mean_interval`),
        or if there is no spread. The results of the permutation test are None if a group has only one run.
    """
    paired = first.keys() == second.keys()
    a, b = (np.array([group[seed] for seed in sorted(group)]) for group in (first, second))
    difference = float(a.mean() - b.mean())
    content = {
        "difference": difference if abs(difference) > rounding else 0.0,
        "paired": paired,
        "seeds": sorted(first) if paired else None,
        "runs": [len(a), len(b)],
        "interval_95": None,
        "t_test_p": None,
        "permutation_p": None,
        "smallest_possible_p": None,
        "chance_of_being_ahead": float(scipy.stats.mannwhitneyu(a, b).statistic / (len(a) * len(b))),
    }
    fewest = min(len(a), len(b))
    if fewest < 2:
        return content
    spread = any(_spread(values, rounding) for values in ([a - b] if paired else [a, b]))
    if fewest >= FEWEST_FOR_AN_INTERVAL and spread:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # SciPy's, of a group without spread
            test = scipy.stats.ttest_1samp(a - b, 0) if paired else scipy.stats.ttest_ind(a, b, equal_var=False)
        interval = test.confidence_interval(1 - (1 - CONFIDENCE) / comparisons)
        content["interval_95"] = tuple(np.clip(interval, *bounds).tolist())
        content["t_test_p"] = float(test.pvalue)
    kind, scale = "samples" if paired else "independent", max(np.abs(a).max(), np.abs(b).max()) or 1.0

    def rounded(x, y, axis):  # otherwise rounding would hide ties
        return np.round((x.mean(axis) - y.mean(axis)) / scale, 12)

    permuted = scipy.stats.permutation_test((a, b), rounded, permutation_type=kind, n_resamples=_RESAMPLES, rng=0)
    content["permutation_p"] = float(permuted.pvalue)
    arrangements = 2 ** len(a) if paired else scipy.special.comb(len(a) + len(b), len(a))
    content["smallest_possible_p"] = float(min(1.0, 2 / min(arrangements, _RESAMPLES + 1)))
    return content


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values with Holm's step-down correction for the number of tests (Holm 1979).

    The smallest is multiplied by the number of tests, the next by one less, and so on, and none becomes smaller than
    the one before. None marks a missing test: it remains None and is not counted.
    """
    tested = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(tested):
        largest = corrected[place] = max(largest, min(1.0, (len(tested) - rank) * p))
    return corrected
