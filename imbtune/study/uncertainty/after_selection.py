"""Inference on an estimate that was chosen because it is large.

The winner of many trials on one set of images is in part the one that these images flatter: its
mean is too high, and so is its lead (the winner's curse). Given what was chosen, the estimate has a
normal distribution that is truncated to the values with which the same choice would have been made.
Its quantiles, solved for the true value, give a median-unbiased estimate and an interval with the
right coverage, however close the candidates are (Andrews, Kitagawa & McCloskey 2024, "Inference on
Winners", doi 10.1093/qje/qjad043). Where the choice was not close, they are the ordinary ones.

Where it was a near tie, such an interval may be very long. So it is their hybrid one: it ends where
an interval that holds for all candidates at once ends (Bonferroni's, at a level of β = 0.5 %), and
is computed at a level that leaves 95 % for both.

Student's t is used by its quantile: the standard error is multiplied by the ratio of Student's and
the normal quantile, so that an estimate that was not chosen has Student's interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

CLOSE = 0.01  # a limit is at least so many standard errors away, also in a tie
LEVEL = 0.05  # one minus the confidence
SPARE = 0.005  # β, the part of it that the simultaneous interval takes


@dataclass(frozen=True)
class Selected:
    """What can be said of the true value.

    Attributes:
        median: the median-unbiased estimate.
        low, high: the confidence interval, at 95 %.
        p: two-sided p-value that the true value is 0.
    """

    median: float
    low: float
    high: float
    p: float


def after_selection(
    estimate: float,
    error: float,
    freedom: float,
    limits: tuple[float, float] = (-math.inf, math.inf),
    candidates: int = 1,
) -> Selected:
    """Inference on the true value of an estimate that was chosen.

    Args:
        estimate: what was found.
        error: its standard error; 0 gives an interval without length.
        freedom: degrees of freedom of the standard error, at least 1.
        limits: the lowest and the highest estimate with which the same choice would have been made;
            `estimate` is between them.
        candidates: of which it was chosen.
    """
    if error <= 0:
        return Selected(estimate, estimate, estimate, float(estimate == 0))
    from scipy import stats  # inside: importing it takes a second, and delays no search

    quantile = 1 - LEVEL / 2
    scale = error * float(stats.t.ppf(quantile, freedom) / stats.norm.ppf(quantile))
    widest = float(stats.norm.isf(SPARE / (2 * candidates)))
    low = min(-CLOSE, (limits[0] - estimate) / scale)
    high = max(CLOSE, (limits[1] - estimate) / scale)

    def share(shift: float) -> float:
        """The chance of a lower estimate than the one found, if the true value is `shift`
        standard errors above it."""
        lowest, highest = max(low - shift, -widest), min(high - shift, widest)
        return _share(-shift, lowest, highest)

    level = (LEVEL - SPARE) / (1 - SPARE)
    median, lowest, highest = (
        estimate + scale * _solve(share, part, widest) for part in (0.5, 1 - level / 2, level / 2)
    )
    distance = estimate / scale
    if abs(distance) >= widest:
        p = min(SPARE, 2 * candidates * float(stats.norm.sf(abs(distance))))
    else:
        below = share(-distance)
        p = SPARE + (1 - SPARE) * 2 * min(below, 1 - below)
    return Selected(median, lowest, highest, p)


def _solve(share: Callable[[float], float], part: float, widest: float) -> float:
    """The shift at which the falling function `share` is `part`, by bisection."""
    low, high = -widest, widest
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) > part else (low, middle)
    return (low + high) / 2


def _share(x: float, low: float, high: float) -> float:
    """P(X ≤ x) of a standard normal variable X between low ≤ x ≤ high."""
    if low > 0:  # in the upper tail, where probabilities near 1 would lose their digits
        return 1 - _share(-x, -high, -low)
    below, whole = _log_between(low, x), _log_between(low, high)
    return math.exp(below - whole) if whole > -math.inf else float(x >= high)


def _log_between(low: float, high: float) -> float:
    """log P(low ≤ X ≤ high) of a standard normal variable."""
    from scipy import special

    if high <= low:
        return -math.inf
    upper, lower = float(special.log_ndtr(high)), float(special.log_ndtr(low))
    return upper + math.log1p(-math.exp(lower - upper)) if upper > lower else -math.inf
