"""How well two lists of scores rank trials alike. Each list has a score per trial: (N,)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

RESAMPLES = 2000  # of the bootstrap


def spearman(one: ArrayLike, other: ArrayLike) -> float:
    """Spearman's ρ: Pearson's r of the ranks, with mean ranks for ties; NaN if one is constant."""
    from scipy import stats  # inside: importing it takes a second, and delays no search

    ranks = stats.rankdata(one), stats.rankdata(other)
    if any(rank.std() == 0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def recall_of_best(scores: ArrayLike, truth: ArrayLike, k: int) -> float:
    """Share of the k best by `truth` that are among the k best by `scores`; ties in given order."""
    best = [set(np.argsort(-np.asarray(x), kind="stable")[:k].tolist()) for x in (scores, truth)]
    return len(best[0] & best[1]) / k


def interval(one: Floats, other: Floats) -> tuple[float, float]:
    """The bootstrapped 90 % interval of Spearman's ρ over trials; NaN if one is constant."""
    from scipy import stats

    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(one), (RESAMPLES, len(one)))
    ranks = (stats.rankdata(values[picks], axis=1) for values in (one, other))
    a, b = (rank - rank.mean(1, keepdims=True) for rank in ranks)
    size = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    drawn = (a * b).sum(1)[size > 0] / size[size > 0]  # a resample may be constant
    if not len(drawn):
        return float("nan"), float("nan")
    low, high = np.percentile(drawn, [5, 95])
    return float(low), float(high)
