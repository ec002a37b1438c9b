"""The 95 % interval of a metric for other images of the same classes, from its standard error.

Shapes: K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from imbtune.metrics.intervals import bounded_interval, positive_interval
from imbtune.metrics.metric import Metric
from imbtune.metrics.predictions import ClassCounts, Confusion
from imbtune.metrics.score_error import least_error


def metric_interval(
    metric: Metric,
    confusion: Confusion,
    value: Callable[[Confusion], float | None],
    draws: int,
) -> tuple[float, float]:
    """The interval of a metric of the predicted classes.

    Args:
        confusion: of the images.
        value: the metric of a confusion matrix.
        draws: of other images, for the standard error.
    """
    found = value(confusion)
    assert found is not None, "the metric is defined"
    drawn = [number for one in other_images(confusion, draws) if (number := value(one)) is not None]
    return interval_of(metric, confusion.counts, found, spread_of(drawn))


def other_images(confusion: Confusion, draws: int) -> Iterator[Confusion]:
    """Confusion matrices of other images, as many of each class.

    An image of a class is predicted as each class with the shares of the matrix after one more
    image of the class, half of it right and the other half spread over the other classes: the mean
    of Jeffreys' posterior for the recall. So a class of three images without an error may have one.
    """
    matrix_KK, counts = confusion.matrix_KK, confusion.counts
    classes = len(matrix_KK)
    images_K = matrix_KK.sum(1)
    prior_KK = np.full((classes, classes), 0.5 / max(1, classes - 1))
    np.fill_diagonal(prior_KK, 0.5 if classes > 1 else 1.0)
    shares_KK = (matrix_KK + prior_KK) / (images_K + 1)[:, None]
    rng = np.random.default_rng(0)
    for _ in range(draws):
        drawn_KK = rng.multinomial(np.rint(images_K).astype(np.int64), shares_KK)
        yield Confusion(drawn_KK, counts)


def interval_of(
    metric: Metric, counts: ClassCounts, value: float, error: float
) -> tuple[float, float]:
    """The interval of a value with a standard error, within the metric's bounds.

    The error is at least that of recalls of 1, where the metric is a kind of recall
    (:func:`imbtune.metrics.score_error.least_error`).
    """
    low, high = metric.range_on(counts)
    error = max(error, least_error(metric, counts))
    if math.isinf(high):
        return positive_interval(value, error)
    return bounded_interval(value, error, low, high)


def spread_of(values: Sequence[float]) -> float:
    """Their sample standard deviation; 0 for fewer than two."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
