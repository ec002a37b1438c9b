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
                nearest[rows, :width] = self._nearest_rows(block, members, width).cpu().numpy()
                found[rows] = width
        return nearest, found

    def _nearest_rows(self, rows: Tensor, members: Tensor, width: int) -> Tensor:
        """The `width` members nearest to each of the rows, the row itself excluded, (R, W)."""
        points_RD = self._points_ND[rows].float()
        best_RW = torch.full((len(rows), 0), torch.inf, device=rows.device)
        index_RW = torch.zeros((len(rows), 0), dtype=torch.int64, device=rows.device)
        for columns in members.split(COLUMNS):
            distance_RC = torch.cdist(points_RD, self._points_ND[columns].float())
            distance_RC[rows[:, None] == columns[None, :]] = torch.inf
            candidates = torch.cat([best_RW, distance_RC], 1)
            indices = torch.cat([index_RW, columns.expand(len(rows), -1)], 1)
            best_RW, order = candidates.topk(min(width, candidates.shape[1]), dim=1, largest=False)
            index_RW = indices.gather(1, order)
        return index_RW
