"""Statistical power: how many runs are needed to detect a difference."""

import bisect
import math

import numpy as np
import scipy

from experiment.evaluation.metrics import FEWEST_FOR_AN_INTERVAL

_SIGNIFICANCE = 0.05  # two-sided
_MOST = 10_000


def runs_needed(sd: float, difference: float, power: float = 0.8, comparisons: int = 1) -> int | None:
    """The smallest n for which a two-sided t test of n differences, at 5 %, has the required power.

    The power is computed from the noncentral t distribution (Cohen 1988, chapter 2).

    Args:
        sd: the standard deviation of the (paired) differences, in the unit of `difference`.
        difference: the true mean difference; its sign does not matter.
        power: the required probability of detection.
        comparisons: the number of tests that share the 5 % (Bonferroni's correction).

    Returns:
        None if more than 10,000 are needed, or if `difference` is 0.
    """
    if not difference or not math.isfinite(sd):
        return None

    def power_of(n: int) -> float:
        shift = abs(difference) / sd * math.sqrt(n) if sd else math.inf
        if shift > 100:  # SciPy's distribution is inaccurate there
            return 1.0
        critical = scipy.stats.t.ppf(1 - _SIGNIFICANCE / 2 / comparisons, n - 1)
        wrong_sign = np.nan_to_num(scipy.stats.nct.cdf(-critical, n - 1, shift))  # tiny, and then NaN in SciPy
        return float(scipy.stats.nct.sf(critical, n - 1, shift) + wrong_sign)

    counts = range(FEWEST_FOR_AN_INTERVAL, _MOST + 1)
    position = bisect.bisect_left(counts, power, key=power_of)
    return counts[position] if position < len(counts) else None
