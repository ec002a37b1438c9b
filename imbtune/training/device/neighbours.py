"""Exact nearest neighbours, searched in blocks.

Shapes: N points, D coordinates, R rows and C columns of a block of distances, W neighbours kept.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]
ROWS, COLUMNS = 1024, 8192  # size of the block of the distance matrix that is in memory


class Neighbours:
    """Nearest points by Euclidean distance, searched on the first request and cached.

    Args:
        points_ND: of any numeric type; blocks are converted to float32.
        labels_N: the class of each point.
    """

    def __init__(self, points_ND: Tensor, labels_N: Tensor) -> None:
        self._points_ND, self._labels_N = points_ND, labels_N
        self._found: dict[bool, tuple[Ints, Ints]] = {}

    def nearest(self, k: int, same_class: bool) -> tuple[Ints, Ints]:
        """The k nearest points of each, nearest first (N, k), and how many of them exist (N,).

        A point is not its own neighbour. Entries beyond the existing ones are 0. Memory is that of
        a block: neither the N×N distances nor a float copy of all points is held.

        Args:
            k: at least 1.
            same_class: search only among points of the same class.
        """
        nearest, found = self._found.get(same_class, (np.empty((0, 0), dtype=np.int64), None))
        if found is None or nearest.shape[1] < k:
            nearest, found = self._found[same_class] = self._search(k, same_class)
        return nearest[:, :k], np.minimum(found, k)

    def _search(self, k: int, same_class: bool) -> tuple[Ints, Ints]:
        n = len(self._labels_N)
        nearest = np.zeros((n, k), dtype=np.int64)
        found = np.zeros(n, dtype=np.int64)
        groups = self._labels_N if same_class else torch.zeros_like(self._labels_N)
        for group in groups.unique():
            members = torch.nonzero(groups == group).squeeze(1)
            width = min(k, len(members) - 1)
            if width == 0:
                continue
            for block in members.split(ROWS):
                rows = block.cpu().numpy()
                nearest_RW = nearest_members(self._points_ND, block, members, width)
                nearest[rows, :width] = nearest_RW.cpu().numpy()
                found[rows] = width
        return nearest, found


def nearest_members(
    points_ND: Tensor, rows_R: Tensor, members_M: Tensor, k: int, columns: int = COLUMNS
) -> Tensor:
    """The k members nearest to each of the rows, nearest first (R, k), without the row itself.

    Args:
        points_ND: the points, of any number type.
        rows_R: int64 indices into `points_ND`.
        members_M: likewise.
        k: at most M - 1.
        columns: members compared at a time; the distance matrix in memory is (R, columns). Another
            number can change the last bit of a distance, and so the order of near ties.
    """
    points_RD = points_ND[rows_R].float()
    best_RK = torch.full((len(rows_R), 0), torch.inf, device=rows_R.device)
    index_RK = torch.zeros((len(rows_R), 0), dtype=torch.int64, device=rows_R.device)
    for block in members_M.split(columns):
        distance_RC = torch.cdist(points_RD, points_ND[block].float())
        distance_RC[rows_R[:, None] == block[None, :]] = torch.inf
        seen = torch.cat([best_RK, distance_RC], 1)
        index = torch.cat([index_RK, block.expand(len(rows_R), -1)], 1)
        best_RK, order = seen.topk(min(k, seen.shape[1]), dim=1, largest=False)
        index_RK = index.gather(1, order)
    return index_RK
