"""How many runs tell a difference: statistical power, before anything is trained."""

import bisect
import math

from scipy import stats

_SIGNIFICANCE = 0.05  # two-sided
_MOST = 10_000


def runs_needed(sd: float, difference: float, power: float = 0.8) -> int | None:
    """The smallest n at which a two-sided t test of n differences finds a true mean difference, at 5 %.

    Its power is that of the noncentral t distribution (Cohen 1988, chapter 2).

    Args:
        sd: the standard deviation of the n differences (of paired runs), in the unit of `difference`.
        difference: the true mean difference; its sign does not matter.
        power: how often it is to be found.

    Returns:
        None where more than 10,000 would be needed, or nothing is to be found.
    """
    if not difference or not math.isfinite(sd):
        return None

    def found(n: int) -> float:
        shift = abs(difference) / sd * math.sqrt(n) if sd else math.inf
        if shift > 100:  # beyond what the distribution is computed for
            return 1.0
        critical = stats.t.ppf(1 - _SIGNIFICANCE / 2, n - 1)
        return float(stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift))

    counts = range(2, _MOST + 1)
    position = bisect.bisect_left(counts, power, key=found)
    return counts[position] if position < len(counts) else None
