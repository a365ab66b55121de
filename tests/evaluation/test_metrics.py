"""Intervals and measures against values from elsewhere."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from experiment.evaluation import metrics
from experiment.evaluation.metrics import accuracy_interval, confusion_matrix, negative_log_likelihood


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


def logits_of(probabilities) -> np.ndarray:
    return np.log(np.asarray(probabilities, float))


def test_the_brier_score_is_the_squared_distance_from_the_truth():
    logits = logits_of([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    first, second = 0.3**2 + 0.2**2 + 0.1**2, 0.1**2 + 0.9**2 + 0.8**2
    assert metrics.brier_score(logits, np.array([0, 1])) == pytest.approx((first + second) / 2)


def test_calibration_is_the_gap_between_confidence_and_accuracy():
    logits = logits_of([[0.95, 0.05]] * 10 + [[0.62, 0.38]] * 5)
    labels = np.array([0] * 8 + [1] * 2 + [0] * 2 + [1] * 3)
    found = metrics.calibration(logits, labels)
    assert found.counts.sum() == 15 and sorted(found.counts[found.counts > 0]) == [5, 10]
    assert found.expected_error == pytest.approx((10 * abs(0.95 - 0.8) + 5 * abs(0.62 - 0.4)) / 15)


def test_predictions_that_are_correct_as_often_as_they_are_confident_have_little_calibration_error():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(10) / 2, 50_000)
    labels = (probabilities.cumsum(1) > rng.random((50_000, 1))).argmax(1)
    assert metrics.calibration(logits_of(probabilities), labels).expected_error < 0.01
    assert metrics.calibration(3 * logits_of(probabilities), labels).expected_error > 0.1


def correct(both: int, only_first: int, only_second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    kinds = [(True, True)] * both + [(True, False)] * only_first + [(False, True)] * only_second
    return tuple(np.array(kinds + [(False, False)] * neither).T)


def test_mcnemars_test_is_the_exact_binomial_one():
    """The approval survey of Agresti 2013, "Categorical Data Analysis", table 11.1."""
    found = metrics.compare_predictions(*correct(794, 150, 86, 570))
    assert (found["only_first_correct"], found["only_second_correct"]) == (150, 86)
    assert found["mcnemar_p"] == pytest.approx(2 * sum(math.comb(236, k) for k in range(87)) / 2**236)
    assert found["difference"] == pytest.approx(64 / 1600)


def test_the_bootstrap_is_scipys():
    first, second = correct(700, 80, 50, 170)
    low, high = metrics.compare_predictions(first, second)["bootstrap_95"]
    difference = (first.astype(float) - second.astype(float),)
    theirs = stats.bootstrap(difference, np.mean, method="percentile", batch=500, rng=1).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.0015)


def test_equal_predictions_do_not_differ():
    found = metrics.compare_predictions(*correct(80, 0, 0, 20))
    assert (found["difference"], found["bootstrap_95"], found["mcnemar_p"]) == (0, (0, 0), 1)


# Student's sleep data (Biometrika 1908); the intervals are those that R prints for them.
SLEEP = (
    dict(enumerate([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])),
    dict(enumerate([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])),
)


def test_runs_of_the_same_seeds_are_compared_in_pairs():
    found = metrics.compare_groups(*SLEEP)
    assert found["paired"] and found["difference"] == pytest.approx(-1.58)
    assert found["interval_95"] == pytest.approx((-2.4598858, -0.7001142))
    assert found["permutation_p"] == pytest.approx(4 / 1024)  # one difference is zero, the others have one sign
    assert found["smallest_possible_p"] == pytest.approx(2 / 1024)


def test_runs_of_other_seeds_are_compared_as_they_are():
    found = metrics.compare_groups(SLEEP[0], {seed + 1: value for seed, value in SLEEP[1].items()})
    assert not found["paired"]
    assert found["interval_95"] == pytest.approx((-3.3654832, 0.2054832))


@pytest.mark.parametrize("values", [[0.85], [0.84, 0.85], [0.85, 0.85, 0.85]])
def test_fewer_than_three_values_or_equal_ones_have_no_interval(values):
    assert metrics.mean_interval(values) is None


def test_an_interval_of_three_is_students_and_stays_within_its_bounds():
    low, high = metrics.mean_interval([0.90, 0.95, 1.0])
    half = 4.302652729911275 * 0.05 / math.sqrt(3)  # Student's quantile of 0.975 with two degrees of freedom
    assert (low, high) == pytest.approx((0.95 - half, 0.95 + half))
    assert metrics.mean_interval([0.90, 0.95, 1.0], (0, 1)) == pytest.approx((low, 1.0))
    assert metrics.mean_interval([0.0, 0.05, 0.10], (0, 1)) == pytest.approx((0.0, 1 - low))


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("count", [4, 6])
def test_the_permutation_test_counts_ties_as_integers_do(paired, count):
    rng = np.random.default_rng(count)
    for _ in range(20):
        values = rng.integers(8600, 8612, 2 * count).tolist()
        first, second = values[:count], values[count:]
        observed = sum(first) - sum(second)
        if paired:
            signs = itertools.product([1, -1], repeat=count)
            pairs = [a - b for a, b in zip(first, second, strict=True)]
            every = [sum(s * d for s, d in zip(each, pairs, strict=True)) for each in signs]
        else:
            chosen = itertools.combinations(range(2 * count), count)
            every = [2 * sum(values[at] for at in each) - sum(values) for each in chosen]
        sides = [sum(each <= observed for each in every), sum(each >= observed for each in every)]
        seeds = range(count) if paired else range(10, 10 + count)
        arms = (dict(zip(each, [v / 10_000 for v in half], strict=True)) for each, half in
                ((range(count), first), (seeds, second)))  # fmt: skip
        found = metrics.compare_groups(*arms)
        assert found["permutation_p"] == pytest.approx(min(1, 2 * min(sides) / len(every)))


def test_two_seeds_have_a_permutation_test_and_no_interval():
    for second in ({0: 0.84, 1: 0.86}, {2: 0.84, 3: 0.86, 4: 0.85}):  # in pairs, and not
        found = metrics.compare_groups({0: 0.85, 1: 0.89}, second)
        assert found["interval_95"] is found["t_test_p"] is None and found["permutation_p"] is not None


def test_the_interval_of_a_difference_stays_within_its_bounds():
    first, second = {0: 1.0, 1: 0.9, 2: 1.0}, {0: 0.0, 1: 0.3, 2: 0.0}
    assert metrics.compare_groups(first, second)["interval_95"][1] > 1
    assert metrics.compare_groups(first, second, (-1, 1))["interval_95"][1] == 1


def test_the_t_test_agrees_with_its_interval_and_with_r():
    found = metrics.compare_groups(*SLEEP)
    assert found["t_test_p"] == pytest.approx(0.00283289)
    shifted = metrics.compare_groups(SLEEP[0], {seed + 1: value for seed, value in SLEEP[1].items()})
    assert shifted["t_test_p"] == pytest.approx(0.07939414)


def test_holms_correction_is_that_of_r():
    """p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm"): 0.03 0.06 0.06 0.02."""
    assert metrics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert metrics.holm([0.9, 0.8]) == [1.0, 1.0]
    assert metrics.holm([None, 0.02, None]) == [None, 0.02, None] and metrics.holm([]) == []


def test_one_seed_has_no_interval():
    found = metrics.compare_groups({0: 0.85}, {0: 0.84})
    assert found["difference"] == pytest.approx(0.01)
    assert found["interval_95"] is found["permutation_p"] is None


def test_two_identical_groups_do_not_differ():
    group = {0: 0.84, 1: 0.85, 2: 0.86}
    found = metrics.compare_groups(group, dict(group))
    assert (found["difference"], found["interval_95"], found["permutation_p"]) == (0, None, 1)  # no spread
    assert found["chance_of_being_ahead"] == 0.5


def test_seeds_that_all_say_the_same_give_no_interval():
    first, second = {0: 1.0, 1: 1.0}, {0: 0.0, 1: 0.0}
    assert metrics.compare_groups(first, second)["interval_95"] is None
    assert metrics.compare_groups(first, {1: 0.0, 2: 0.0})["interval_95"] is None


@pytest.mark.parametrize("shift", [0, 1])
def test_a_planted_difference_is_found_paired_or_not(shift):
    rng = np.random.default_rng(shift)
    first = dict(enumerate(0.85 + 0.003 * rng.standard_normal(8)))
    second = {seed + shift: value for seed, value in enumerate(0.83 + 0.003 * rng.standard_normal(8))}
    found = metrics.compare_groups(first, second)
    assert found["interval_95"][0] > 0 and found["permutation_p"] < 0.01
    assert found["chance_of_being_ahead"] > 0.95


def test_the_chance_of_being_ahead_counts_ties_half():
    assert metrics.compare_groups({0: 1.0, 1: 2.0}, {0: 1.0, 1: 0.0})["chance_of_being_ahead"] == 3.5 / 4


def coverage(intervals, truth: float) -> float:
    return float(np.mean([low <= truth <= high for low, high in intervals]))


def test_the_intervals_hold_the_truth_in_95_of_100_simulations():
    rng = np.random.default_rng(0)
    wilson_intervals = [accuracy_interval(int(count), 500) for count in rng.binomial(500, 0.85, 1000)]
    assert coverage(wilson_intervals, 0.85) == pytest.approx(0.95, abs=0.02)
    student = [metrics.mean_interval(sample) for sample in rng.normal(0.02, 0.004, (1000, 5))]
    assert coverage(student, 0.02) == pytest.approx(0.95, abs=0.02)
    counts = rng.multinomial(1000, [0.7, 0.09, 0.06, 0.15], 1000)
    bootstrap = [metrics.compare_predictions(*correct(*map(int, row)))["bootstrap_95"] for row in counts]
    assert coverage(bootstrap, 0.03) == pytest.approx(0.95, abs=0.02)


def test_a_confusion_matrix_of_many_classes_counts_labels_of_one_byte():
    labels, predictions = np.array([99, 99, 3], np.uint8), np.array([98, 99, 3])
    matrix = metrics.confusion_matrix(predictions, labels, 100)
    assert (matrix[99, 98], matrix[99, 99], matrix[3, 3], matrix.sum()) == (1, 1, 1, 3)
