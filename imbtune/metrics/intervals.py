"""95 % confidence intervals of shares of images, such as a recall, and of other metrics."""

from __future__ import annotations

import math

import numpy as np

from imbtune.metrics.from_confusion import recall_variance

CONFIDENCE = 0.95
NORMAL = 1.959963984540054  # the 97.5 % quantile of the normal distribution
STEPS = 60  # of the bisection
FEWEST, MOST = 1e-6, 1e14  # images


def wilson(hits: float, images: float) -> tuple[float | None, float | None]:
    """Wilson's interval of a share of `hits` among `images`; None without images.

    Source: Wilson 1927, doi 10.1080/01621459.1927.10502953.

    Args:
        hits: of an effective number of images, a fraction.
        images: their number.
    """
    if images <= 0:
        return None, None
    return _wilson(hits / images, images, NORMAL)


def bounded_interval(
    value: float, error: float, low: float = 0.0, high: float = 1.0
) -> tuple[float, float]:
    """The interval of a metric with bounds, from its standard error.

    It is Wilson's interval for the number of images with which a recall would have this standard
    error (:func:`.recall_variance`), the effective sample size, and with Student's t. So it stays
    within the bounds, is long enough next to them, and is close to Wilson's where the metric is a
    share. (Franco, Little, Louis & Slud 2019, doi 10.1093/jssam/smy019, compare such intervals.)

    Args:
        value: of the metric, from `low` to `high`.
        error: its standard error; where it is 0, the interval has no length.
    """
    span = high - low
    if not span > 0 or not error > 0:
        return value, value
    share, variance = min(max((value - low) / span, 0.0), 1.0), (error / span) ** 2
    fewest, most = math.log(FEWEST), math.log(MOST)
    for _ in range(STEPS):  # the variance falls with the number of images
        middle = (fewest + most) / 2
        images = math.exp(middle)
        if float(recall_variance(np.array(share * images), np.array(images))) > variance:
            fewest = middle
        else:
            most = middle
    images = math.exp(most)
    start, end = _wilson(share, images, student(images))
    return low + span * start, low + span * end


def positive_interval(value: float, error: float) -> tuple[float, float]:
    """The interval of a metric without an upper bound: symmetric for its logarithm.

    Args:
        value: above 0.
        error: its standard error.
    """
    if value <= 0:
        return value, value
    factor = math.exp(min(NORMAL * error / value, 700.0))
    return value / factor, value * factor


def student(images: float) -> float:
    """The 97.5 % quantile of Student's t for the mean of so many images, of at least two."""
    from scipy.special import stdtrit  # inside: importing it takes a moment

    return float(stdtrit(max(images - 1, 1.0), 0.5 + CONFIDENCE / 2))


def _wilson(share: float, images: float, quantile: float) -> tuple[float, float]:
    more = quantile**2 / images
    centre, half = share + more / 2, quantile * math.sqrt((share * (1 - share) + more / 4) / images)
    low, high = (centre - half) / (1 + more), (centre + half) / (1 + more)
    return (0.0 if share == 0 else max(low, 0.0)), (1.0 if share == 1 else min(high, 1.0))
