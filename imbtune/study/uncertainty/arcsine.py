"""The scale on which a score between two bounds is equally uncertain everywhere.

The variance of a share p of n images is p(1 - p)/n: it falls towards 0 and 1. The validation images
that flatter a winner thus hide how uncertain it is, and an interval of the ordinary kind would be
too short, by up to a third of its variance with 12 images a class. The variance of arcsin √p is
1/(4n) for every p (Anscombe 1948, doi 10.1093/biomet/35.3-4.246). Intervals that are made on this
scale are longer towards the middle and end within the bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

NARROWEST = 1e-9  # a score at a bound counts as at least this share of the range inside


@dataclass(frozen=True)
class ArcsineScale:
    """Scores to the arcsine of their square root, and back.

    Attributes:
        low, high: the bounds of the score. Where one is infinite, the scale is the score itself.
    """

    low: float
    high: float

    @property
    def is_bounded(self) -> bool:
        """Whether both bounds are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def inside(self, score: float, step: float) -> float:
        """The score, at least half a step away from the bounds, where the scale has no slope."""
        if not self.is_bounded:
            return score
        margin = max(step / 2, NARROWEST * (self.high - self.low))
        return min(max(score, self.low + margin), self.high - margin)

    def forward(self, score: float) -> float:
        """The score on the scale; ±∞ beyond the bounds."""
        if not self.is_bounded:
            return score
        if not self.low <= score <= self.high:
            return math.copysign(math.inf, score - self.low)
        return math.asin(math.sqrt((score - self.low) / (self.high - self.low)))

    def slope(self, score: float) -> float:
        """How much the scale moves with the score, which is within the bounds."""
        if not self.is_bounded:
            return 1.0
        share = (score - self.low) / (self.high - self.low)
        return 1 / (2 * math.sqrt(share * (1 - share)) * (self.high - self.low))

    def back(self, value: float) -> float:
        """The score of a value on the scale; the bound for a value beyond it."""
        if not self.is_bounded:
            return value
        return self.low + (self.high - self.low) * math.sin(min(max(value, 0), math.pi / 2)) ** 2
