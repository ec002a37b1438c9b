"""The Pareto front of several objectives, of which higher scores are better.

One trial dominates another if it is at least as good in all objectives and better in one. The front
are those that no other one dominates. Ranks are those of NSGA-II's non-dominated sorting, and ties
are broken by its crowding distance (Deb et al. 2002, IEEE Trans. Evol. Comput. 6(2)).

Shapes: N trials, M objectives, F trials of a front.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def front_ranks(scores_NM: ArrayLike) -> Ints:
    """The rank of each trial (N,): 0 on the front, 1 on the front of the others, and so on."""
    scores = np.asarray(scores_NM, dtype=np.float64)
    ranks_N = np.full(len(scores), -1, np.int64)
    rank = 0
    while (left := np.flatnonzero(ranks_N < 0)).size:
        at_least = (scores[left][:, None] >= scores[left][None]).all(2)
        better = (scores[left][:, None] > scores[left][None]).any(2)
        dominated = (at_least & better).any(0)
        ranks_N[left[~dominated]] = rank
        rank += 1
    return ranks_N


def crowding_distances(scores_FM: ArrayLike) -> Floats:
    """How far the neighbours of each trial of a front are apart (F,); infinite at its ends.

    It is the sum over the objectives of the distance between the two neighbours, as a share of the
    front's range.
    """
    scores = np.asarray(scores_FM, dtype=np.float64)
    distances_F = np.zeros(len(scores))
    for scores_F in scores.T:
        order_F = np.argsort(scores_F, kind="stable")
        sorted_F = scores_F[order_F]
        width = sorted_F[-1] - sorted_F[0]
        distances_F[order_F[[0, -1]]] = np.inf
        if width > 0:
            distances_F[order_F[1:-1]] += (sorted_F[2:] - sorted_F[:-2]) / width
    return distances_F


def ranked_by_front(scores_NM: ArrayLike) -> Ints:
    """The indices of the trials (N,), best first: by rank, then by crowding distance.

    Of equal ones, the one with the better first objective comes first, then the earlier one.
    """
    scores = np.asarray(scores_NM, dtype=np.float64)
    ranks_N, distances_N = front_ranks(scores), np.zeros(len(scores))
    for rank in range(int(ranks_N.max(initial=-1)) + 1):
        members = np.flatnonzero(ranks_N == rank)
        distances_N[members] = crowding_distances(scores[members])
    first_N = scores[:, 0] if len(scores) else distances_N
    order_N: Ints = np.lexsort((np.arange(len(scores)), -first_N, -distances_N, ranks_N))
    return order_N
