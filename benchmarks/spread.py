"""What repeated measurements come to."""

from __future__ import annotations

import statistics


def quartiles(values: list[float]) -> list[float]:
    """The median and both quartiles."""
    if len(values) == 1:
        return values * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return [middle, low, high]
