"""How the winner of a search was chosen, and what that leaves to be said of its mean and its lead.

Shapes: F finalists.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from imbtune.study.uncertainty.after_selection import Selected, after_selection
from imbtune.study.uncertainty.arcsine import ArcsineScale
from imbtune.study.uncertainty.noise import Floats, Noise

SAME = 1e-7  # scores that differ by less are the same one, computed in another order


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
        one_hit: by how much an image that becomes a hit moves the score, on average over the
            classes; 0 for scores that do not count hits.
        step: of which the differences between the scores of runs are multiples, as
            :func:`common_step` finds it; 0 for any amount.
        scale: on which a mean has its interval.
        smallest_of: of how many recalls a score is the smallest.
    """

    means: Mapping[int, float]
    noise: Noise
    finished: Mapping[int, float]
    presets: Collection[int]
    seeds: int
    least: float
    one_hit: float
    step: float
    scale: ArcsineScale
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
        if baseline is not None:
            # Few images decide a lead, and their number is itself a chance: one more on which the
            # two disagree (Agresti & Min 2005, doi 10.1002/sim.1781)
            error = max(math.hypot(error, self.one_hit), self.least)
            return after_selection(estimate, error, freedom, limits, candidates)
        error = max(error, self.least)
        found = self._of_a_mean(estimate, error, freedom, limits, candidates)
        return replace(found, high=found.high + self._too_low() * error)

    def _of_a_mean(
        self,
        estimate: float,
        error: float,
        freedom: float,
        limits: tuple[float, float],
        candidates: int,
    ) -> Selected:
        """As `after_selection`, on the scale of the mean."""
        scale = self.scale
        inside = scale.inside(estimate, self.least)
        found = after_selection(
            scale.forward(inside),
            error * scale.slope(inside),
            freedom,
            (scale.forward(limits[0]), scale.forward(limits[1])),
            candidates,
        )
        # next to a bound, the interval reaches it
        low = scale.low if estimate < inside else scale.back(found.low)
        high = scale.high if estimate > inside else scale.back(found.high)
        return replace(found, median=scale.back(found.median), low=low, high=high)

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
        estimate's variance. So each difference gives a limit.
        """
        total_F = self.noise.total_FF @ contrast_F
        variance = float(contrast_F @ total_F)
        if variance <= 0:
            return -math.inf, math.inf
        low, high = -math.inf, math.inf
        chosen: list[tuple[int, Mapping[int, float]]] = [(winner, self.means)]
        if baseline is not None:
            rivals = [n for n in self.means if n in self.presets or n == baseline]
            chosen.append((baseline, {n: self.means[n] for n in rivals}))
        differences = []
        for number, among in chosen:
            at = self._index(number)
            differences += [
                (
                    among[number] - mean + self._to_the_edge(number, other) / self.seeds,
                    total_F[at] - total_F[self._index(other)],
                )
                for other, mean in among.items()
                if other != number
            ]
            if (gap := self._gap_in_the_search(number)) is not None:
                differences.append((gap, self.noise.own_images_F[at] * contrast_F[at]))
        for gap, covariance in differences:
            if covariance > 0:
                low = max(low, estimate - gap * variance / covariance)
            elif covariance < 0:
                high = min(high, estimate - gap * variance / covariance)
        return low, high

    def _to_the_edge(self, number: int, other: int) -> float:
        """The continuity correction of a difference by which `number` was chosen over `other`.

        Scores move in steps, and the lower trial number wins a tie. So the difference of two runs
        was above minus half a step, or above half a step, if it were not rounded.
        """
        return self.step / 2 if number < other else -self.step / 2

    def _gap_in_the_search(self, number: int) -> float | None:
        """How far a finalist was ahead of the best trial that its score kept out of the finals,
        with the continuity correction.

        A preset was chosen as the best of the presets. None where nothing was kept out.
        """
        own = self.finished.get(number)
        if own is None:
            return None
        gaps = [
            own - score + self._to_the_edge(number, other)
            for other, score in self.finished.items()
            if other not in self.means
            and (-own, number) < (-score, other)
            and (number not in self.presets or other in self.presets)
        ]
        return min(gaps, default=None)

    def _index(self, number: int) -> int:
        return list(self.means).index(number)

    def _unit(self, number: int) -> Floats:
        unit_F: Floats = np.eye(len(self.means))[self._index(number)]
        return unit_F


def common_step(scores: Iterable[float]) -> float:
    """The step of which all differences between scores are multiples; 0 where there is none.

    With equally many images in each class, a balanced accuracy moves in steps of one image; with
    other counts it may take nearly any value. It is found by Euclid's algorithm.
    """
    step, ordered = 0.0, sorted(scores)
    for difference in (after - before for before, after in pairwise(ordered)):
        rest = difference
        while rest > SAME:
            step, rest = rest, abs(math.remainder(step, rest))
        if 0 < step < 10 * SAME:
            return 0.0
    return step
