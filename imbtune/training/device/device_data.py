"""The splits on the device, and what is worked out of them once.

Shapes: N training images, M held-out images, S steps of an epoch, B a batch, C channels, K classes.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Hashable, Iterator
from itertools import repeat
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from imbtune.data.augment import normalise, shift_and_flip
from imbtune.data.splits import Images, Splits
from imbtune.errors import ConfigError
from imbtune.training.device.cuda_graphs import CudaGraphs, GraphedModelPool
from imbtune.training.device.image_store import Resident, Streamed
from imbtune.training.device.neighbours import Neighbours

Kept = TypeVar("Kept")
THUMBNAIL = 32  # pixels a side that neighbours are looked for in, of images that are streamed
# bytes of images that are cut and scaled at a time: on a CPU they stay in the cache, on a GPU they
# are worth the launch
TOGETHER = {"cpu": 2**20, "cuda": 2**24}
BLOCK = 1000  # images at a time where all are passed through once


class Views(NamedTuple):
    """Which images the batches show, and how each is shifted and flipped."""

    index_SB: Tensor
    shift_SB2: Tensor | None
    flip_SB: Tensor | None


class DeviceData:
    """Training and held-out images for a device.

    train, held: the images, as uint8 on the device, or streamed to it. labels_N, held_out_labels_M:
    their classes, on the device. counts_K: training images of each class, on the host as an array;
    host_labels_N likewise. graphed_models: where steps are recorded; None where they are not.
    """

    def __init__(self, splits: Splits, device: torch.device) -> None:
        self.device = device
        self.preprocessing = splits.preprocessing
        self.classes = splits.classes
        self.counts_K = splits.counts()
        self.host_labels_N = splits.train.labels
        self.image_shape: tuple[int, int, int] = splits.train.pixels.shape[1:]
        self.train, self.labels_N = _hold(splits.train, device)
        self.held_out, self.held_out_labels_M = _hold(splits.held_out, device)
        self.train_counts_K = torch.from_numpy(self.counts_K).float().to(device)
        self.mean_C = torch.tensor(self.preprocessing.mean, device=device)
        self.std_C = torch.tensor(self.preprocessing.std, device=device)
        self.graphed_models = GraphedModelPool(CudaGraphs) if device.type == "cuda" else None
        self._kept: dict[str, tuple[Hashable, Any]] = {}
        self._neighbours: Neighbours | None = None

    @property
    def image_size(self) -> tuple[int, int]:
        return self.image_shape[1:]

    @property
    def neighbours(self) -> Neighbours:
        """Nearest images by their pixels; found once, for all trials."""
        if self._neighbours is None:
            self._neighbours = Neighbours(self._points(), self.labels_N)
        return self._neighbours

    def keep(self, kind: str, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """What `make` gives for `key`; the last of each kind is kept for later trials."""
        if kind not in self._kept or self._kept[kind][0] != key:
            fresh = make()
            if self.device.type == "cuda":  # trials on other streams may read the last one still,
                torch.cuda.synchronize()  # and this one at once
            self._kept[kind] = (key, fresh)
        made: Kept = self._kept[kind][1]
        return made

    def to_device(self, array: NDArray[np.generic]) -> Tensor:
        """A host array on the device; float64 becomes float32."""
        kind = np.float32 if array.dtype == np.float64 else array.dtype
        narrowed = np.require(array, kind, ("C", "W"))  # W: torch warns of what it may not write to
        tensor = torch.from_numpy(narrowed)
        if self.device.type == "cuda":  # a copy from pinned memory waits for nothing
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def normalise(self, pixels_BCHW: Tensor) -> Tensor:
        """uint8 pixels as network input."""
        return normalise(pixels_BCHW, self.mean_C, self.std_C)

    def pixel_range(self) -> tuple[Tensor, Tensor]:
        """Network input for pixels 0 and 255 of each channel, (C,) both."""
        return -self.mean_C / self.std_C, (1 - self.mean_C) / self.std_C

    def views(self, views: Views) -> Iterator[Tensor]:
        """Each step's training images as network input (B, C, H, W): shifted, flipped, scaled.

        Small ones are worked out for several steps at once, which costs less a step.
        """
        batch = views.index_SB.shape[1]
        together = TOGETHER[self.device.type] // (batch * math.prod(self.image_shape))
        size = batch * max(1, together)
        shift, flip = (
            repeat(None) if drawn is None else drawn.flatten(0, 1).split(size)
            for drawn in (views.shift_SB2, views.flip_SB)
        )
        for pixels, shift_B2, flip_B in zip(
            self.train.batches(views.index_SB.flatten().split(size)), shift, flip, strict=False
        ):
            cut_BCHW = shift_and_flip(pixels, shift_B2, flip_B, self.preprocessing.pad)
            yield from self.normalise(cut_BCHW).split(batch)

    def extended(self, images_GCHW: Tensor, labels_G: Tensor) -> DeviceData:
        """This data with G generated training images after its own; its counts stay the real ones.

        Raises:
            ConfigError: the images are streamed.
        """
        longer = copy.copy(self)
        pixels_NCHW = self.resident("generated images")
        longer.train = Resident(torch.cat([pixels_NCHW, images_GCHW]))
        longer.labels_N = torch.cat([self.labels_N, labels_G])
        longer.host_labels_N = longer.labels_N.cpu().numpy()
        longer._neighbours = None
        return longer

    def resident(self, what: str) -> Tensor:
        """The training images as one tensor (N, C, H, W) uint8, for `what` needs them so.

        Raises:
            ConfigError: they are streamed, since they do not fit into memory.
        """
        if isinstance(self.train, Resident):
            return self.train.pixels_NCHW
        raise ConfigError(
            f"{what} needs the {len(self.train)} training images in memory, and they are streamed: "
            "use smaller ones (data.size), or raise $IMBTUNE_MEMORY"
        )

    def _points(self) -> Tensor:
        if isinstance(self.train, Resident):
            return self.train.pixels_NCHW.flatten(1)
        height, width = (min(side, THUMBNAIL) for side in self.image_size)
        small = []
        for pixels_BCHW in self.train.in_order(BLOCK):
            shrunk_BCHW = F.adaptive_avg_pool2d(pixels_BCHW.float(), (height, width))
            small.append(shrunk_BCHW.to(torch.uint8))
        return torch.cat(small).flatten(1)


def _hold(images: Images, device: torch.device) -> tuple[Resident | Streamed, Tensor]:
    with warnings.catch_warnings():
        # Ray's object store hands out read-only memory, shared by all trials of a node. Nothing
        # here writes to it, so it is used in place.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        labels = torch.from_numpy(images.labels).to(device)
        if isinstance(images.pixels, np.ndarray):
            return Resident(torch.from_numpy(images.pixels).to(device)), labels
    return Streamed(images.pixels, device), labels
