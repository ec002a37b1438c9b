"""The splits as tensors on the device, and what is worked out of them once.

Shapes: N training images, M held-out images, C channels, K classes.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbtune.data.augment import normalise, shift_and_flip
from imbtune.data.splits import Images, Splits

Ints = NDArray[np.int64]
DISTANCE_BLOCK = 1024  # rows of a distance matrix in memory at a time


class DeviceData:
    """Training and held-out images as uint8 on the device.

    images_NCHW, labels_N: to train on. held_MCHW, held_labels_M: to be scored on. counts_K: images
    of each class in training, on the host as an array.
    """

    def __init__(self, splits: Splits, device: torch.device) -> None:
        self.device = device
        self.look = splits.look
        self.classes = splits.classes
        self.counts_K = splits.counts()
        self.host_labels_N = splits.train.labels
        self.images_NCHW, self.labels_N = _tensors(splits.train, device)
        self.held_MCHW, self.held_labels_M = _tensors(splits.held, device)
        self.train_counts_K = torch.from_numpy(self.counts_K).float().to(device)
        self.mean_C = torch.tensor(self.look.mean, device=device)
        self.std_C = torch.tensor(self.look.std, device=device)
        self.neighbours = PixelNeighbours(self.images_NCHW, self.labels_N)

    @property
    def image_size(self) -> tuple[int, int]:
        return self.images_NCHW.shape[2], self.images_NCHW.shape[3]

    def to_device(self, array: NDArray[np.generic]) -> Tensor:
        """A host array on the device; float64 becomes float32."""
        narrowed = (
            array.astype(np.float32) if array.dtype == np.float64 else np.ascontiguousarray(array)
        )
        return torch.from_numpy(narrowed).to(self.device, non_blocking=True)

    def view(self, index_B: Tensor, shift_B2: Tensor | None, flip_B: Tensor | None) -> Tensor:
        """Training images as network input (B, C, H, W): shifted, flipped, normalised."""
        cut_BCHW = shift_and_flip(self.images_NCHW[index_B], shift_B2, flip_B, self.look.pad)
        return normalise(cut_BCHW, self.mean_C, self.std_C)


class PixelNeighbours:
    """Nearest training images by Euclidean distance of pixels; found once, for all trials."""

    def __init__(self, images_NCHW: Tensor, labels_N: Tensor) -> None:
        self._images_NCHW, self._labels_N = images_NCHW, labels_N
        self._found: dict[tuple[int, bool], tuple[Ints, Ints]] = {}

    def nearest(self, k: int, same_class: bool) -> tuple[Ints, Ints]:
        """The k nearest of each, nearest first (N, k), and how many of them exist (N,).

        Worked out in blocks of rows, so that no N×N matrix is ever held.
        """
        if (k, same_class) not in self._found:
            self._found[k, same_class] = self._search(k, same_class)
        return self._found[k, same_class]

    def _search(self, k: int, same_class: bool) -> tuple[Ints, Ints]:
        n = len(self._labels_N)
        nearest = np.zeros((n, k), dtype=np.int64)
        found = np.zeros(n, dtype=np.int64)
        groups = self._labels_N if same_class else torch.zeros_like(self._labels_N)
        for group in groups.unique():
            members = torch.nonzero(groups == group).squeeze(1)
            points = self._images_NCHW[members].flatten(1).float()
            width = min(k, len(members) - 1)
            if width == 0:
                continue
            order = torch.cat([_nearest_rows(points, at, width) for at in _blocks(len(points))])
            rows = members.cpu().numpy()
            nearest[rows, :width] = members[order].cpu().numpy()
            found[rows] = width
        return nearest, found


def _blocks(n: int) -> list[slice]:
    return [slice(at, min(at + DISTANCE_BLOCK, n)) for at in range(0, n, DISTANCE_BLOCK)]


def _nearest_rows(points_ND: Tensor, block: slice, width: int) -> Tensor:
    distance = torch.cdist(points_ND[block], points_ND)
    own = torch.arange(block.start, block.stop, device=points_ND.device)
    distance[torch.arange(len(own), device=points_ND.device), own] = torch.inf
    return distance.topk(width, dim=1, largest=False).indices


def _tensors(images: Images, device: torch.device) -> tuple[Tensor, Tensor]:
    with warnings.catch_warnings():
        # Ray's object store hands out read-only memory, shared by all trials of a node. Nothing
        # here writes to it, so it is used in place.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        pixels, labels = torch.from_numpy(images.pixels), torch.from_numpy(images.labels)
    return pixels.to(device), labels.to(device)
