"""Training images as a pairing sees them, with points of the test's own."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from imbtune.training.device.device_data import DeviceData
from imbtune.training.device.neighbours import Neighbours

Ints = NDArray[np.int64]


class Located:
    """Labels, and points for each space; `asked` is what was asked of them: (k, class, space)."""

    def __init__(self, labels: Ints, **spaces: NDArray[np.generic]) -> None:
        self.host_labels_N = labels
        self.asked: list[tuple[int, bool, str]] = []
        self._spaces = {
            space: Neighbours(torch.from_numpy(points_ND), torch.from_numpy(labels))
            for space, points_ND in spaces.items()
        }

    def nearest(self, k: int, same_class: bool, space: str) -> tuple[Ints, Ints]:
        self.asked.append((k, same_class, space))
        return self._spaces[space].nearest(k, same_class)


def located(data: DeviceData) -> Located:
    """The training images of `data`, near by pixels; by features the other way round."""
    pixels_ND = data.resident("a test").flatten(1).numpy()
    order = np.random.default_rng(4).permutation(len(pixels_ND))
    return Located(data.host_labels_N, pixels=pixels_ND, features=pixels_ND[order])
