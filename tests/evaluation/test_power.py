"""Power: against published tables, and against simulated experiments."""

import numpy as np
import pytest
from scipy import stats

from experiment.evaluation.power import runs_needed


@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_it_gives_the_numbers_of_g_power(effect, n):
    assert runs_needed(1.0, effect) == runs_needed(2.0, -2 * effect) == n


def test_so_many_runs_find_the_difference_as_often_as_promised():
    n = runs_needed(1.0, 1.0)
    samples = np.random.default_rng(0).normal(1.0, 1.0, (20_000, n))
    found = (stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05).mean()
    assert 0.79 < found < 0.85  # n is a whole number, so a little more than 80 %


@pytest.mark.parametrize("comparisons", [2, 9, 39])
def test_more_comparisons_and_smaller_differences_never_need_fewer_runs(comparisons):
    effects = np.geomspace(0.1, 8, 60)
    one, several = ([runs_needed(1.0, effect, comparisons=n) for effect in effects] for n in (1, comparisons))
    assert several == sorted(several, reverse=True)
    assert all(more >= few for few, more in zip(one, several, strict=True))


def test_where_nothing_is_to_be_found_no_number_is_promised():
    assert runs_needed(1.0, 0.0) is None and runs_needed(1.0, 0.001) is None
    assert runs_needed(0.0, 1.0) == 3  # the fewest that have an interval
