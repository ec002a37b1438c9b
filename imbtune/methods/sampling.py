"""Samplers: how often each class is drawn in an epoch.

A sampler gives the probability of each class, or None: every image once (instance sampling).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbtune.registry import Registry

DECOUPLING = "Kang et al. 2020, arXiv 1910.09217"
Floats = NDArray[np.float64]

samplers = Registry("sampler", "how often each class is drawn")


@samplers.register("instance", help="every image once an epoch")
def instance(counts_K: Floats) -> Floats | None:
    """No class probabilities: a permutation of the images."""
    return None


@samplers.register("class_balanced", help="every class equally often", source=DECOUPLING)
def class_balanced(counts_K: Floats) -> Floats | None:
    """p_k = 1/K."""
    return np.full(len(counts_K), 1 / len(counts_K))


@samplers.register("square_root", help="classes by the root of their size", source=DECOUPLING)
def square_root(counts_K: Floats) -> Floats | None:
    """p_k ∝ √n_k."""
    root_K = np.sqrt(counts_K)
    probabilities: Floats = root_K / root_K.sum()
    return probabilities


def draw_indices(
    sampler_probs_K: Floats | None,
    labels_N: NDArray[np.int64],
    total: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
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
    drawn: NDArray[np.int64] = by_class_N[starts_K[classes] + member]
    return drawn
