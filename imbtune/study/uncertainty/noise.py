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

A few seeds estimate a variance poorly, so that among the seeds is pooled over the finalists. That
of the images is each pair's own.

Shapes: F finalists, S seeds, G groups of images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Noise:
    """The variance of the finalists' means.

    Attributes:
        images_FF: covariance of the means over the images.
        own_images_FF: the part of it that another run of the same configurations shares.
        seeds_FF: covariance of the means over the seeds, without what is in `images_FF`.
        raw_seeds_FF: the same with it, as it is estimated.
        groups: G.
        seed_freedom: degrees of freedom of the seeds' variance.
    """

    images_FF: Floats
    own_images_FF: Floats
    seeds_FF: Floats
    raw_seeds_FF: Floats
    groups: int
    seed_freedom: int

    @property
    def total_FF(self) -> Floats:
        """Covariance of the means."""
        total_FF: Floats = self.images_FF + self.seeds_FF
        return total_FF

    def error(self, contrast_F: Floats) -> tuple[float, float]:
        """Standard error of a linear combination of the means, and its degrees of freedom.

        The degrees are Satterthwaite's (1946) for the sum of the two variances.
        """
        images = float(contrast_F @ self.images_FF @ contrast_F)
        seeds = float(contrast_F @ self.seeds_FF @ contrast_F)
        raw = float(contrast_F @ self.raw_seeds_FF @ contrast_F) if seeds > 0 else 0.0
        doubt = images**2 / (self.groups - 1) + raw**2 / self.seed_freedom
        variance = images + seeds
        return variance**0.5, variance**2 / doubt if doubt > 0 else float(self.groups - 1)


def noise_of(scores_FS: Floats, without_FSG: Floats) -> Noise:
    """Estimate the variance of the finalists' means.

    Args:
        scores_FS: the score of each finalist and seed; at least two seeds.
        without_FSG: the same scores without each group of the images; at least two groups.
    """
    finalists, seeds, groups = without_FSG.shape
    factor = (groups - 1) / groups
    moved_FSG = without_FSG - without_FSG.mean(2, keepdims=True)
    mean_FG = moved_FSG.mean(1)
    images_FF = factor * mean_FG @ mean_FG.T
    # what each run adds to the mean of its configuration, and without what a seed adds to all
    own_FSG = moved_FSG - mean_FG[:, None]
    alone_FSG = own_FSG - own_FSG.mean(0)
    seed_FS = scores_FS - scores_FS.mean(1, keepdims=True)
    alone_FS = seed_FS - seed_FS.mean(0)
    within, beside = finalists * (seeds - 1), (finalists - 1) * (seeds - 1)
    raw = _shared((seed_FS**2).sum() / within, _over((alone_FS**2).sum(), beside))
    by_images = _shared(
        factor * (own_FSG**2).sum() / within, _over(factor * (alone_FSG**2).sum(), beside)
    )
    pure = (max(0.0, raw[0] - by_images[0]), max(0.0, raw[1] - by_images[1]))
    return Noise(
        images_FF,
        images_FF - _matrix(by_images, finalists) / seeds,
        _matrix(pure, finalists) / seeds,
        _matrix(raw, finalists) / seeds,
        groups,
        beside or within,
    )


def _over(total: float, freedom: int) -> float | None:
    return float(total) / freedom if freedom else None


def _shared(whole: float, alone: float | None) -> tuple[float, float]:
    """A variance as the part of each finalist alone, and the part that all of them share."""
    if alone is None:
        return float(whole), 0.0
    return alone, max(0.0, float(whole) - alone)


def _matrix(parts: tuple[float, float], finalists: int) -> Floats:
    alone, shared = parts
    matrix_FF: Floats = alone * np.eye(finalists) + shared
    return matrix_FF
