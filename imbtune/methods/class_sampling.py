"""Class sampling: the probability of each class in the batches of an epoch.

A sampler is a function `(counts_K, progress) -> probabilities_K`:

    counts_K:         training images of each class, int64 (K,)
    progress:         share of the run that is done, in [0, 1]
    probabilities_K:  float64 (K,), at least 0, sum 1; or None: each image once per epoch
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbtune.registry import Registry

DECOUPLING = "Kang et al. 2020, arXiv 1910.09217"
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

samplers = Registry("sampler", "how often each class is drawn")


@samplers.register("instance", help="every image once per epoch")
def instance(counts_K: Ints, progress: float) -> Floats | None:
    """None: an epoch is a permutation of the images."""
    return None


@samplers.register("class_balanced", help="every class equally often", source=DECOUPLING)
def class_balanced(counts_K: Ints, progress: float) -> Floats | None:
    """p_k = 1/K, for the K classes that have images. (K,)"""
    return class_shares(counts_K, 0)


@samplers.register(
    "square_root", help="classes by the square root of their size", source=DECOUPLING
)
def square_root(counts_K: Ints, progress: float) -> Floats | None:
    """p_k ∝ √n_k. (K,)"""
    return class_shares(counts_K, 0.5)


@samplers.register(
    "progressively_balanced", help="from instance to class-balanced sampling", source=DECOUPLING
)
def progressively_balanced(counts_K: Ints, progress: float) -> Floats | None:
    """p_k = (1-t)·n_k/N + t/K, where t is `progress`. (K,)"""
    return (1 - progress) * class_shares(counts_K, 1) + progress * class_shares(counts_K, 0)


def class_shares(counts_K: Ints, power: float) -> Floats:
    """Class probabilities ∝ n_k^power, and 0 for a class without images. (K,)"""
    weights_K = np.zeros(len(counts_K))
    np.power(counts_K, power, out=weights_K, where=counts_K > 0, dtype=np.float64)
    probabilities: Floats = weights_K / weights_K.sum()
    return probabilities


def draw_indices(
    sampler_probs_K: Floats | None,
    labels_N: Ints,
    total: int,
    rng: np.random.Generator,
) -> Ints:
    """Draw `total` image indices, int64 in [0, N).

    Args:
        sampler_probs_K: class probabilities: a class is drawn, then one of its images uniformly.
            None: permutations of all images, one after another.
        labels_N: the class of each image.
        rng: makes the draws.
    """
    n = len(labels_N)
    if sampler_probs_K is None:
        rounds = -(-total // n)
        return np.concatenate([rng.permutation(n) for _ in range(rounds)])[:total]
    counts_K = np.bincount(labels_N, minlength=len(sampler_probs_K))
    starts_K = np.concatenate([[0], np.cumsum(counts_K)[:-1]])
    by_class_N = np.argsort(labels_N, kind="stable")
    classes = rng.choice(len(sampler_probs_K), size=total, p=sampler_probs_K)
    member = np.floor(rng.random(total) * counts_K[classes]).astype(np.int64)
    drawn: Ints = by_class_N[starts_K[classes] + member]
    return drawn
