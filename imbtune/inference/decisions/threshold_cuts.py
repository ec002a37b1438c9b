"""The thresholds that can be the best of some images, and what is on each side of them.

Shapes: N images, G thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbtune.metrics.predictions import Ints

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Cuts:
    """Thresholds in descending order, and what is at or above each; all of one length.

    Attributes:
        log_odds: the thresholds.
        hits: positive images.
        alarms: other images.
        above: images of both kinds, which are the first ones in the order of the images.
    """

    log_odds: Floats
    hits: Ints
    alarms: Ints
    above: Ints


@dataclass(frozen=True, eq=False)
class Ordered:
    """The images by descending log-odds."""

    log_odds_N: Floats
    is_positive_N: Bools

    @classmethod
    def of(cls, log_odds_N: Floats, is_positive_N: Bools) -> Ordered:
        order = np.argsort(-log_odds_N, kind="stable")
        return cls(log_odds_N[order], is_positive_N[order])

    def counts_at(self, log_odds: float) -> tuple[int, int]:
        """The positive and the other images at or above a threshold."""
        above_N = self.log_odds_N >= log_odds
        return int((above_N & self.is_positive_N).sum()), int((above_N & ~self.is_positive_N).sum())

    def cuts(self, most: int, also: float | None = None) -> Cuts:
        """The thresholds that can be best: all, none, and those below a positive image.

        Between two images that are next to each other the threshold is in the middle. At the same
        number of hits fewer alarms are better, so a threshold below a negative image is not best.

        Args:
            most: of the thresholds; evenly chosen where there are more.
            also: one that stays.
        """
        z_N, hit_N = self.log_odds_N, self.is_positive_N
        last_N = np.append(z_N[1:] != z_N[:-1], True)  # of images with equal log-odds
        z_G = z_N[last_N]
        above_G = np.flatnonzero(last_N) + 1
        hits_G = np.cumsum(hit_N)[last_N]
        below_G = np.append((z_G[:-1] + z_G[1:]) / 2, z_G[-1] - 1)
        has_hit_G = np.diff(hits_G, prepend=0) > 0
        has_hit_G[-1] = True
        chosen = np.flatnonzero(has_hit_G)
        if len(chosen) > most:
            kept = chosen[np.linspace(0, len(chosen) - 1, most).round().astype(np.int64)]
            chosen = np.unique(np.append(kept, chosen[below_G[chosen] == also]))
        above = np.concatenate([[0], above_G[chosen]])
        hits = np.concatenate([[0], hits_G[chosen]])
        return Cuts(np.concatenate([[z_G[0] + 1], below_G[chosen]]), hits, above - hits, above)
