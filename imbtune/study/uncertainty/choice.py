"""How the winner of a search was chosen, and what that leaves to be said of its mean and its lead.

Shapes: F finalists.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from imbtune.study.uncertainty.after_selection import Selected, after_selection
from imbtune.study.uncertainty.noise import Floats, Noise


@dataclass(frozen=True, eq=False)
class Choice:
    """How the winner and the best preset were chosen, and by how noisy scores.

    Attributes:
        means: of the finalists, by trial number.
        noise: of the means, in the order of `means`.
        finished: the score of one run of each finished trial.
        presets: trial numbers.
        seeds: of each mean.
        least: the smallest standard error: by how much one image moves the score.
        step: by how much scores of a run differ at least if they are not equal; 0 for any amount.
        smallest_of: of how many recalls a score is the smallest.
    """

    means: Mapping[int, float]
    noise: Noise
    finished: Mapping[int, float]
    presets: Collection[int]
    seeds: int
    least: float
    step: float
    smallest_of: int = 1

    def inference(self, winner: int, baseline: int | None) -> Selected:
        """On the true mean of the winner, or its true lead over the baseline."""
        contrast_F = self._unit(winner)
        if baseline is not None:
            contrast_F = contrast_F - self._unit(baseline)
        estimate = float(contrast_F @ np.array(list(self.means.values())))
        error, freedom = self.noise.error(contrast_F)
        limits = self._limits(winner, baseline, estimate, contrast_F)
        candidates = max(len(self.means), len(self.finished)) - (baseline is not None)
        error = max(error, self.least)
        found = after_selection(estimate, error, freedom, limits, candidates)
        if baseline is not None:
            return found
        return replace(found, high=found.high + self._too_low() * error)

    def _too_low(self) -> float:
        """By how many standard errors the smallest of noisy recalls is too low at most.

        That is the expected largest of as many normal errors (Blom 1958). It is so much where all
        classes are equally difficult, and nothing where one is much worse than the others; in a
        lead it cancels.
        """
        if self.smallest_of == 1:
            return 0.0
        from scipy import stats  # inside: importing it takes a second

        return float(stats.norm.ppf((self.smallest_of - 0.375) / (self.smallest_of + 0.25)))

    def _limits(
        self, winner: int, baseline: int | None, estimate: float, contrast_F: Floats
    ) -> tuple[float, float]:
        """The lowest and highest estimate with which the same trials would have been chosen.

        A choice was made because a difference was above 0. Given all that is independent of the
        estimate, such a difference is linear in it, with a slope that is their covariance over the
        estimate's variance. So each difference gives a limit. Scores move in steps: one that was
        at least 0 was above minus half a step.
        """
        total_F, own_F = (matrix @ contrast_F for matrix in self._covariances())
        variance = float(contrast_F @ total_F)
        if variance <= 0:
            return -math.inf, math.inf
        low, high = -math.inf, math.inf
        chosen: list[tuple[int, Mapping[int, float]]] = [(winner, self.means)]
        if baseline is not None:
            rivals = [n for n in self.means if n in self.presets or n == baseline]
            chosen.append((baseline, {n: self.means[n] for n in rivals}))
        differences = []
        others_F = np.array([n not in (winner, baseline) for n in self.means])
        typical = float(own_F[others_F].mean()) if others_F.any() else 0.0
        for number, among in chosen:
            at = self._index(number)
            differences += [
                (
                    among[number] - mean + self.step / (2 * self.seeds),
                    total_F[at] - total_F[self._index(other)],
                )
                for other, mean in among.items()
                if other != number
            ]
            if (gap := self._gap_in_the_search(number)) is not None:
                differences.append((gap + self.step / 2, own_F[at] - typical))
        for gap, covariance in differences:
            if covariance > 0:
                low = max(low, estimate - gap * variance / covariance)
            elif covariance < 0:
                high = min(high, estimate - gap * variance / covariance)
        return low, high

    def _covariances(self) -> tuple[Floats, Floats]:
        return self.noise.total_FF, self.noise.own_images_FF

    def _gap_in_the_search(self, number: int) -> float | None:
        """How far a finalist was ahead of the best trial that its score kept out of the finals.

        A preset was chosen as the best of the presets. None where nothing was kept out.
        """
        own = self.finished.get(number)
        if own is None:
            return None
        beaten = [
            score
            for other, score in self.finished.items()
            if other not in self.means
            and score <= own
            and (number not in self.presets or other in self.presets)
        ]
        return own - max(beaten) if beaten else None

    def _index(self, number: int) -> int:
        return list(self.means).index(number)

    def _unit(self, number: int) -> Floats:
        unit_F: Floats = np.eye(len(self.means))[self._index(number)]
        return unit_F
