"""Student's t intervals and tests of a mean and a lead over the seeds alone.

The variance among seeds is pooled over the finalists, as in a two-way analysis of variance
(finalist, seed) without interaction; with two finalists that of a lead is the ordinary paired
t-test.

Shapes: F finalists, S seeds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CONFIDENCE = 0.95


def error_of_a_mean(scores_FS: Floats) -> tuple[float, int]:
    """Standard error of a finalist's mean over the seeds, and its degrees of freedom F(S - 1)."""
    finalists, seeds = scores_FS.shape
    residuals_FS = scores_FS - scores_FS.mean(1, keepdims=True)
    return _error(residuals_FS, finalists * (seeds - 1), 1 / seeds)


def error_of_a_lead(scores_FS: Floats) -> tuple[float, int]:
    """Standard error of the difference of two finalists' means, and its degrees of freedom
    (F - 1)(S - 1). The effect that a seed has on all finalists is removed."""
    finalists, seeds = scores_FS.shape
    means_F1, means_S = scores_FS.mean(1, keepdims=True), scores_FS.mean(0)
    residuals_FS = scores_FS - means_F1 - means_S + scores_FS.mean()
    return _error(residuals_FS, (finalists - 1) * (seeds - 1), 2 / seeds)


def student_interval(
    mean: float, error: float, freedom: float
) -> tuple[float | None, float | None]:
    """The ends of the confidence interval by Student's t; None with 0 degrees of freedom."""
    if not freedom:
        return None, None
    from scipy import stats  # inside: importing it takes a second, and delays no search

    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return mean - half, mean + half


def student_p(mean: float, error: float, freedom: int) -> float | None:
    """Two-sided p-value that the mean is 0 by Student's t; None with 0 degrees of freedom.

    Where the standard error is 0, p is 1 for a mean of 0, and 0 for any other mean.
    """
    if not freedom:
        return None
    from scipy import stats

    return float(2 * stats.t.sf(abs(mean) / error, freedom)) if error else float(mean == 0)


def _error(residuals_FS: Floats, freedom: int, factor: float) -> tuple[float, int]:
    """Standard error √(residual variance · factor), and the degrees of freedom."""
    if not freedom:
        return 0.0, 0
    return float(np.sqrt((residuals_FS**2).sum() / freedom * factor)), freedom
