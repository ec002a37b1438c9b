"""The 95 % confidence interval of a share of images, such as a recall."""

from __future__ import annotations

CONFIDENCE = 0.95
NORMAL = 1.959963984540054  # the 97.5 % quantile of the normal distribution


def wilson(hits: int, images: int) -> tuple[float | None, float | None]:
    """Wilson's interval of a share of `hits` among `images`; None without images.

    Source: Wilson 1927, doi 10.1080/01621459.1927.10502953.
    """
    if images <= 0:
        return None, None
    from scipy import stats  # inside: importing it takes a second

    found = stats.binomtest(hits, images).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)
