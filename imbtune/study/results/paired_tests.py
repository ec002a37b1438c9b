"""Ranks of a comparison's rows, and paired tests between them.

Every row is trained with the same seeds, so two rows are compared seed by seed. The p-value counts
the seeds and nothing else: initial weights, batches and augmentation differ between them, training
and test images do not. A small p says that other seeds would give the same order on these images.

Shapes: R rows, S seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbtune.study.uncertainty.student import student_interval, student_p

Floats = NDArray[np.float64]
DECIMALS = 12  # scores that differ less are equal: the order of a sum changes the last bits


@dataclass(frozen=True)
class PairedTest:
    """A row compared with the reference.

    The interval and the p-values are None with a single seed.

    Attributes:
        lead: mean score of the row minus that of the reference.
        low, high: 95 % confidence interval of `lead`, not corrected.
        p: two-sided p-value of the paired t-test that `lead` is 0.
        p_holm: p corrected for all tests against this reference (Holm 1979), in [0, 1].
    """

    lead: float
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None


def mean_ranks(scores_RS: Floats) -> Floats:
    """The rank of each row among all rows, averaged over the seeds, (R,); 1 is the best.

    Equal scores share the mean of their ranks.
    """
    from scipy import stats  # inside: importing it takes a second

    ranks_R: Floats = stats.rankdata(-scores_RS.round(DECIMALS), method="average", axis=0).mean(1)
    return ranks_R


def ranks_of_means(scores_RS: Floats) -> list[int]:
    """The rank of each row's mean, (R,); 1 is the best. Equal means share the best of their
    ranks."""
    means_R = scores_RS.mean(1).round(DECIMALS)
    return [1 + int((means_R > mean).sum()) for mean in means_R]


def paired_tests(scores_RS: Floats, reference: int) -> dict[int, PairedTest]:
    """Compare every row with a reference by a paired t-test over the seeds.

    Args:
        scores_RS: higher is better.
        reference: index of the row that the others are compared with.

    Returns:
        The test of each other row, by its index.
    """
    seeds = scores_RS.shape[1]
    found = {}
    for i, scores_S in enumerate(scores_RS):
        if i == reference:
            continue
        difference_S = (scores_S - scores_RS[reference]).round(DECIMALS)
        lead = float(difference_S.mean())
        error = float(difference_S.std(ddof=1) / np.sqrt(seeds)) if seeds > 1 else 0.0
        interval = student_interval(lead, error, seeds - 1)
        found[i] = (lead, *interval, student_p(lead, error, seeds - 1))
    p_values = {i: p for i, (*_, p) in found.items() if p is not None}
    corrected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return {i: PairedTest(*values, corrected.get(i)) for i, values in found.items()}


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, corrected for their number by Holm's step-down method.

    A corrected p-value below α keeps the chance of any false positive below α (Holm 1979, A simple
    sequentially rejective multiple test procedure).
    """
    corrected, highest, tests = [0.0] * len(p_values), 0.0, len(p_values)
    for position, i in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (tests - position) * p_values[i]))
        corrected[i] = highest
    return corrected
