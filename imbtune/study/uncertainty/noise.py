"""How far the finalists' means may be from their true values: variance over images and seeds.

A score varies with the training seed and with the validation images. All finalists have the same
seeds and the same images, so the design is crossed, and the variance of a mean is that of a two-way
layout with random effects (Searle, Casella & McCulloch 1992, chapter 4; for images and runs of a
classifier, arXiv 2103.03098):

    variance = images + seeds / S

The images' part comes from the delete-a-group jackknife (Shao & Tu 1995, section 2.3): the images
are divided into G groups, the score is computed without each of them, and
(G - 1)/G · Σ_g (score without g - their mean)² estimates its variance. It holds for every metric
that is smooth in the images, and the covariance of two finalists is estimated in the same way:
images that are difficult for both cancel out of their difference.

Runs of one configuration disagree on some images. The mean over the seeds has this part of the
variance among the images already, so it is taken out of that among the seeds; adding both would
count it twice (Owen 2007, arXiv 0711.4237).

A few seeds estimate a variance poorly, so that among the seeds is pooled over the finalists. One
whose runs vary more than that (F test at 1 %), or of which some fail and others do not, has its
own, and does not enter that of the others. Pooled, too, is the part of the images' variance
that the runs of one configuration share and other configurations do not, by which the images of the
search speak for a finalist in the finals. All else of the images is each pair's own.

A finalist that is no better than chance with every seed, and scores the same without each group of
the images, has no variance and enters no other's: as a `g_mean` of 0 of models that never find one
of the classes.

Shapes: F finalists, S seeds, G groups of images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ROUNDING = 1e-9  # of a mean of scores
UNUSUAL = 0.01  # level of the F test of a finalist's variance among seeds


@dataclass(frozen=True, eq=False)
class Noise:
    """The variance of the finalists' means.

    Attributes:
        images_FF: covariance of the means over the images.
        own_images_F: the part of a mean's variance over the images that the runs of its
            configuration share, and those of others do not.
        seeds_FF: covariance of the means over the seeds, without what is in `images_FF`.
        raw_seeds_FF: the same with it, as it is estimated.
        groups: G.
        pools: finalists whose variance among seeds is estimated together, by their positions, and
            its degrees of freedom.
    """

    images_FF: Floats
    own_images_F: Floats
    seeds_FF: Floats
    raw_seeds_FF: Floats
    groups: int
    pools: Sequence[tuple[Sequence[int], int]]

    @property
    def total_FF(self) -> Floats:
        """Covariance of the means."""
        total_FF: Floats = self.images_FF + self.seeds_FF
        return total_FF

    def error(self, contrast_F: Floats) -> tuple[float, float]:
        """Standard error of a linear combination of the means, and its degrees of freedom.

        The degrees are Satterthwaite's (1946) for a sum of variances; they are at least the fewest
        of its parts.
        """
        images = float(contrast_F @ self.images_FF @ contrast_F)
        seeds = float(contrast_F @ self.seeds_FF @ contrast_F)
        parts = [(images, self.groups - 1)]
        if seeds > 0:
            for pool, freedom in self.pools:
                own = contrast_F[pool]
                raw_FF = self.raw_seeds_FF[np.ix_(pool, pool)]
                parts.append((float(own @ raw_FF @ own), freedom))
        variance, parts = images + seeds, [part for part in parts if part[0] > 0]
        if not parts:
            return 0.0, self.groups - 1
        # by shares of the variance, since its square may be too small for a float
        doubt = sum((part / variance) ** 2 / freedom for part, freedom in parts)
        return variance**0.5, max(1 / doubt, min(freedom for _, freedom in parts))


def noise_of(scores_FS: Floats, without_FSG: Floats, chance: float = -math.inf) -> Noise:
    """Estimate the variance of the finalists' means.

    Args:
        scores_FS: the score of each finalist and seed; at least two seeds.
        without_FSG: the same scores without each group of the images; at least two groups.
        chance: the score of a model that predicts the same for every image; one that is not above
            it has failed.
    """
    finalists, seeds, groups = without_FSG.shape
    factor = (groups - 1) / groups
    moved_FSG = without_FSG - without_FSG.mean(2, keepdims=True)
    mean_FG = moved_FSG.mean(1)
    images_FF = factor * mean_FG @ mean_FG.T
    own_FSG = moved_FSG - mean_FG[:, None]  # what each run adds to the mean of its configuration
    seed_FS = scores_FS - scores_FS.mean(1, keepdims=True)
    raw_FF, by_images_FF, pure_FF = (np.zeros((finalists, finalists)) for _ in range(3))
    pools = []
    failed_FS = no_better(scores_FS, chance)
    varies_F = ~failed_FS.all(1) | (np.abs(moved_FSG) > ROUNDING).any((1, 2))
    fails_F = failed_FS.any(1) & ~failed_FS.all(1)  # with some seeds
    alike = np.flatnonzero(varies_F & ~fails_F).tolist()
    apart = [[finalist] for finalist in np.flatnonzero(fails_F).tolist()]
    for pool in _pools(seed_FS, own_FSG, alike) + apart:
        raw, freedom = _pooled(seed_FS[pool][..., None])
        by_images, _ = _pooled(own_FSG[pool] * factor**0.5)
        pure = (max(0.0, raw[0] - by_images[0]), max(0.0, raw[1] - by_images[1]))
        block = np.ix_(pool, pool)
        for matrix_FF, parts in ((raw_FF, raw), (by_images_FF, by_images), (pure_FF, pure)):
            matrix_FF[block] = parts[0] * np.eye(len(pool)) + parts[1]
        pools.append((pool, freedom))
    return Noise(
        images_FF,
        varies_F
        * _beyond_the_others((images_FF - by_images_FF / seeds)[np.ix_(varies_F, varies_F)]),
        pure_FF / seeds,
        raw_FF / seeds,
        groups,
        pools,
    )


def no_better(scores_FS: Floats, chance: float) -> NDArray[np.bool_]:
    """Which scores are not above chance by more than the rounding of a mean."""
    found_FS: NDArray[np.bool_] = scores_FS <= chance + ROUNDING
    return found_FS


def _pools(seed_FS: Floats, own_FSG: Floats, alike: list[int]) -> list[list[int]]:
    """Of these finalists, those whose runs do vary alike, and each of the others alone.

    Runs that hardly vary by chance make none unusual: the variance that they are compared with is
    at least what the runs disagree on among the images.
    """
    from scipy import stats  # inside: importing it takes a second, and delays no search

    if not alike:
        return []
    seeds = seed_FS.shape[1]
    variance_F = (seed_FS**2).sum(1) / (seeds - 1)
    least = float((own_FSG[alike] ** 2).sum()) / (len(alike) * (seeds - 1))
    apart: list[list[int]] = []
    while len(alike) > 2:
        largest = max(alike, key=lambda finalist: variance_F[finalist])
        rest = [finalist for finalist in alike if finalist != largest]
        ratio = stats.f.isf(UNUSUAL, seeds - 1, len(rest) * (seeds - 1))
        if variance_F[largest] <= ratio * max(least, float(variance_F[rest].mean())):
            break
        alike = rest
        apart.append([largest])
    return [alike, *apart]


def _pooled(effects_FSG: Floats) -> tuple[tuple[float, float], int]:
    """The variance of a run's effects, as the part of each finalist alone and the part that all
    share with the seed, and the degrees of freedom of the first.

    Args:
        effects_FSG: with mean 0 over the seeds; squares are summed over G.
    """
    finalists, seeds, _ = effects_FSG.shape
    whole = float((effects_FSG**2).sum()) / (finalists * (seeds - 1))
    if finalists == 1:
        return (whole, 0.0), seeds - 1
    freedom = (finalists - 1) * (seeds - 1)
    alone = float(((effects_FSG - effects_FSG.mean(0)) ** 2).sum()) / freedom
    return (alone, max(0.0, whole - alone)), freedom


def _beyond_the_others(covariance_FF: Floats) -> float:
    """By how much variances exceed covariances, on average; 0 for fewer than two finalists."""
    finalists = len(covariance_FF)
    if finalists < 2:
        return 0.0
    variance = covariance_FF.trace() / finalists
    beside = (covariance_FF.sum() - covariance_FF.trace()) / (finalists * (finalists - 1))
    return max(0.0, float(variance - beside))
