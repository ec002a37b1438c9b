"""Populations of images and training runs with known true scores: recorded ones and simulated ones.

Shapes: C configurations, R seeds, N images of the population, M images of a validation set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Score = Callable[[Floats, Ints], Floats]  # of values (…, M) of images with labels (M,)


def balanced_accuracy(hits: Floats, labels_M: Ints) -> Floats:
    """Mean recall of the classes."""
    mean: Floats = recalls(hits, labels_M).mean(-1)
    return mean


def worst_class(hits: Floats, labels_M: Ints) -> Floats:
    """Smallest recall of a class."""
    smallest: Floats = recalls(hits, labels_M).min(-1)
    return smallest


def geometric_mean(hits: Floats, labels_M: Ints) -> Floats:
    """Geometric mean of the recalls; 0 where one is 0."""
    with np.errstate(divide="ignore"):  # the logarithm of 0
        mean: Floats = np.exp(np.log(recalls(hits, labels_M)).mean(-1))
    return mean


def negative_log_loss(log_likelihood: Floats, labels_M: Ints) -> Floats:
    """Mean log-likelihood of the true classes, each class with the same weight, in nats."""
    mean: Floats = recalls(log_likelihood, labels_M).mean(-1)
    return mean


def recalls(hits: Floats, labels_M: Ints) -> Floats:
    """Recall of each class (…, K), or the mean of other values."""
    order = np.argsort(labels_M, kind="stable")
    _, first_K, count_K = np.unique(labels_M[order], return_index=True, return_counts=True)
    recall: Floats = np.add.reduceat(hits[..., order], first_K, axis=-1) / count_K
    return recall


def average_precision(values: Floats, labels_M: Ints) -> Floats:
    """Average precision of class 1 against class 0; values without ties."""
    positive = labels_M[np.argsort(-values, axis=-1)]
    precision = positive.cumsum(-1) / np.arange(1, len(labels_M) + 1)
    area: Floats = (positive * precision).sum(-1) / labels_M.sum()
    return area


@dataclass(frozen=True, eq=False)
class Recorded:
    """Predictions that `record_predictions.py` has written.

    Attributes:
        folder: where they are.
        names: the configurations, presets first.
        presets: how many of them are presets.
        seeds: of each configuration.
        score: the metric: of hits, or `negative_log_loss`.
        per_class: validation images of each class.
        is_null: whether each configuration is made of runs of a single one, so that none is better.
        configs: how many there are then.
    """

    folder: Path
    names: list[str]
    presets: int
    seeds: int
    score: Score
    per_class: int = 30
    is_null: bool = False
    configs: int = 0

    @cached_property
    def labels_N(self) -> Ints:
        labels_N: Ints = np.load(self.folder / "labels.npy")
        return labels_N

    @cached_property
    def values_CRN(self) -> Floats:
        """Whether an image is predicted correctly, or the log-likelihood of its class."""
        of_image = self._log_likelihood if self.score is negative_log_loss else self._is_hit
        return np.array(
            [
                [
                    of_image(np.load(self.folder / f"{name}-{seed}.npy"))
                    for seed in range(self.seeds)
                ]
                for name in self.names
            ],
            dtype=np.float64,
        )

    def _is_hit(self, logits_NK: Floats) -> Floats:
        hit_N: Floats = logits_NK.argmax(1) == self.labels_N
        return hit_N

    def _log_likelihood(self, logits_NK: Floats) -> Floats:
        from scipy import special

        log_NK: Floats = special.log_softmax(logits_NK.astype(np.float64), axis=1)
        return log_NK[np.arange(len(log_NK)), self.labels_N]

    def draw(self, rng: np.random.Generator) -> Drawn:
        """A validation set, the runs of a search on it, and the true scores.

        The finals are runs that the search has not seen, as fresh seeds are.
        """
        values_CRN = self.values_CRN
        truth_C = self.score(values_CRN, self.labels_N).mean(1)
        classes = np.unique(self.labels_N)
        index_M = np.concatenate(
            [
                rng.choice(np.flatnonzero(self.labels_N == k), self.per_class)  # with replacement
                for k in classes
            ]
        )
        count = self.configs if self.is_null else len(values_CRN)
        of_C = np.zeros(count, np.int64) if self.is_null else np.arange(count)
        order_R = rng.permutation(self.seeds)
        if self.is_null:  # no run twice, since all configurations are one
            trial_C, fresh_R = order_R[:count], order_R[count:]
        else:
            trial_C = rng.choice(order_R[: self.seeds // 2], count)
            fresh_R = order_R[self.seeds // 2 :]

        def runs(configs: Ints, seeds: int) -> Floats:
            shape = (len(configs) if self.is_null else 1, seeds)
            drawn = fresh_R[: shape[0] * seeds].reshape(shape)
            return values_CRN[of_C[configs][:, None], drawn][:, :, index_M]

        return Drawn(
            self.labels_N[index_M],
            values_CRN[of_C, trial_C][:, index_M],
            runs,
            truth_C[of_C],
        )


@dataclass(frozen=True, eq=False)
class Drawn:
    """A validation set and the runs of one search on it.

    Attributes:
        labels_M: classes of the images.
        trials_CM: the values of each trial's own run.
        runs: from configurations and a number of seeds to the values of fresh runs, (F, S, M).
        truth_C: the true scores.
    """

    labels_M: Ints
    trials_CM: Floats
    runs: Callable[[Ints, int], Floats]
    truth_C: Floats


@dataclass(frozen=True, eq=False)
class Simulated:
    """Values that are normal: a quality, and noise of image, configuration and run.

    The value of an image is quality + shift of its class + noise of variance 1; a part of the noise
    is shared by all models, a part belongs to the configuration, and the rest to the run. With
    `average_precision` the value is compared between the classes; for other metrics, a value above
    0 is a hit.

    Attributes:
        counts: validation images of each class.
        configs: C.
        score: the metric.
        spread: standard deviation of the qualities; 0 where nothing differs.
        ease: mean quality.
        presets: how many configurations are presets.
        seed_spread: standard deviation of a run's quality.
        shared: part of the noise's variance that all models share.
        own: part of it that the runs of a configuration share.
    """

    counts: tuple[int, ...]
    configs: int
    score: Score
    spread: float
    ease: float = 1.0
    presets: int = 7
    seed_spread: float = 0.05
    shared: float = 0.5
    own: float = 0.25
    _cache: dict[str, Floats] = field(default_factory=dict)

    @property
    def _is_ranked(self) -> bool:
        return self.score is average_precision

    def draw(self, rng: np.random.Generator) -> Drawn:
        """A validation set, the runs of a search on it, and the true scores."""
        labels_M = np.repeat(np.arange(len(self.counts)), self.counts)
        images = len(labels_M)
        quality_C = self.ease + self.spread * rng.standard_normal(self.configs)
        shift_M = labels_M.astype(float) if self._is_ranked else np.ones(images)
        common_M = np.sqrt(self.shared) * rng.standard_normal(images)
        own_CM = np.sqrt(self.own) * rng.standard_normal((self.configs, images))
        rest = np.sqrt(1 - self.shared - self.own)

        def values(configs: Ints, seeds: int) -> Floats:
            noise = rest * rng.standard_normal((len(configs), seeds, images))
            run = self.seed_spread * rng.standard_normal((len(configs), seeds, 1))
            value = (quality_C[configs, None, None] + run) * shift_M + common_M
            value = value + own_CM[configs][:, None] + noise
            scored: Floats = value if self._is_ranked else (value > 0).astype(float)
            return scored

        everything = np.arange(self.configs)
        return Drawn(
            labels_M, values(everything, 1)[:, 0], values, np.array(self._truth(quality_C))
        )

    def _truth(self, quality_C: Floats) -> Floats:
        """The expected score over runs of infinitely many images, by interpolation."""
        from scipy import stats

        if not self._is_ranked:
            share_C: Floats = stats.norm.cdf(quality_C / np.sqrt(1 + self.seed_spread**2))
            return share_C
        if "grid" not in self._cache:
            share = self.counts[1] / sum(self.counts)
            grid = np.linspace(self.ease - 6 * self.spread - 1, self.ease + 6 * self.spread + 1, 61)
            x = np.linspace(-8, 12, 8001)
            precision = []
            for quality in grid:
                hit, alarm = share * stats.norm.sf(x - quality), (1 - share) * stats.norm.sf(x)
                density = stats.norm.pdf(x - quality)
                precision.append(np.trapezoid(density * hit / (hit + alarm), x))
            # a run's quality has noise: the mean over it
            nodes, weights = np.polynomial.hermite_e.hermegauss(7)
            at = grid[:, None] + self.seed_spread * nodes
            smooth = np.interp(at, grid, precision) @ weights / weights.sum()
            self._cache.update(grid=grid, values=smooth)
        return np.interp(quality_C, self._cache["grid"], self._cache["values"])
