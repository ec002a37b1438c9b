"""Samplers: how often each class is drawn in an epoch.

A sampler is a function `(counts_K, progress) -> probabilities_K`, or None for every image once
(instance sampling). `progress` is the share of the whole run done, in [0, 1].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbtune.registry import Registry

DECOUPLING = "Kang et al. 2020, arXiv 1910.09217"
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

samplers = Registry("sampler", "how often each class is drawn")


@samplers.register("instance", help="every image once an epoch")
def instance(counts_K: Ints, progress: float) -> Floats | None:
    """No class probabilities: a permutation of the images."""
    return None


@samplers.register("class_balanced", help="every class equally often", source=DECOUPLING)
def class_balanced(counts_K: Ints, progress: float) -> Floats | None:
    """p_k = 1/K."""
    return class_shares(counts_K, 0)


@samplers.register("square_root", help="classes by the root of their size", source=DECOUPLING)
def square_root(counts_K: Ints, progress: float) -> Floats | None:
    """p_k ∝ √n_k."""
    return class_shares(counts_K, 0.5)


@samplers.register(
    "progressively_balanced", help="from instance to class-balanced", source=DECOUPLING
)
def progressively_balanced(counts_K: Ints, progress: float) -> Floats | None:
    """p_k = (1-t)·n_k/N + t/K, with t the share of the run done."""
    return (1 - progress) * class_shares(counts_K, 1) + progress * class_shares(counts_K, 0)


def class_shares(counts_K: Ints, power: float) -> Floats:
    """Probabilities ∝ n_k^power, 0 for a class without images. (K,)"""
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
    """`total` image indices: permutations one after another, or classes drawn, then members."""
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
