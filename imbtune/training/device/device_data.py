"""The splits on the device, with everything that trials compute from them once.

Shapes: N training images, M held-out images, G generated images, S steps of an epoch, B samples of
a batch, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Hashable, Iterator
from itertools import repeat
from typing import NamedTuple, TypeVar, cast

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
from imbtune.training.distributed.workers import ALONE, Workers

Cached = TypeVar("Cached")
THUMBNAIL = 32  # pixels per side of the copies in which neighbours of streamed images are found
# Bytes of uint8 images that are augmented at a time. CPU: they fit into the cache. GPU: enough work
# to outweigh the kernel launches.
AUGMENTED_BYTES = {"cpu": 2**20, "cuda": 2**24}
BLOCK = 1000  # images per batch in passes over a whole split


class Views(NamedTuple):
    """The images of an epoch's batches, and how each is shifted and flipped.

    Attributes:
        index_SB: indices into the training images.
        shift_SB2: offsets of the crop in the zero-padded image, vertical and horizontal, in pixels;
            None without shifts.
        flip_SB: whether an image is mirrored left to right; None without flips.
    """

    index_SB: Tensor
    shift_SB2: Tensor | None
    flip_SB: Tensor | None

    def part(self, samples: slice) -> Views:
        """The views of some samples of every batch."""
        shift_SB2 = None if self.shift_SB2 is None else self.shift_SB2[:, samples]
        flip_SB = None if self.flip_SB is None else self.flip_SB[:, samples]
        return Views(self.index_SB[:, samples], shift_SB2, flip_SB)


class DeviceData:
    """The training and held-out images of a run, on its device.

    Args:
        splits: the images; those that do not fit into memory are streamed to the device.
        device: where the run trains.
        workers: the processes that train its runs together; each of them holds all images.

    Attributes:
        preprocessing: normalisation and augmentation of the data set.
        classes: class names.
        image_shape: channels, height and width.
        train: the training images, uint8.
        held_out: the held-out images, uint8.
        labels_N: classes of the training images, on the device.
        held_out_labels_M: classes of the held-out images, on the device.
        calibration: the images for the temperature, uint8; None without them.
        calibration_labels_N: their classes, on the device; only with them.
        host_labels_N: classes of the training images, on the host.
        counts_K: training images of each class, on the host.
        train_counts_K: the same as float32, on the device.
        mean_C: mean of each channel, for pixels scaled to [0, 1].
        std_C: standard deviation of each channel, likewise.
        graphed_models: pool of networks with captured CUDA graphs; None on a CPU.
    """

    def __init__(self, splits: Splits, device: torch.device, workers: Workers = ALONE) -> None:
        self.device, self.workers = device, workers
        self.preprocessing = splits.preprocessing
        self.classes = splits.classes
        self.counts_K = splits.counts()
        self.host_labels_N = splits.train.labels
        self.image_shape: tuple[int, int, int] = splits.train.pixels.shape[1:]
        self.train, self.labels_N = _to_device(splits.train, device)
        self.held_out, self.held_out_labels_M = _to_device(splits.held_out, device)
        self.calibration: Resident | Streamed | None = None
        if splits.calibration is not None:
            self.calibration, self.calibration_labels_N = _to_device(splits.calibration, device)
        self.train_counts_K = torch.from_numpy(self.counts_K).float().to(device)
        self.mean_C = torch.tensor(self.preprocessing.mean, device=device)
        self.std_C = torch.tensor(self.preprocessing.std, device=device)
        self.graphed_models = GraphedModelPool(CudaGraphs) if device.type == "cuda" else None
        self._cache: dict[str, tuple[Hashable, object]] = {}
        self._neighbours: Neighbours | None = None

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image_shape[1:]

    @property
    def neighbours(self) -> Neighbours:
        """Nearest neighbours by pixels, searched once for all trials."""
        if self._neighbours is None:
            self._neighbours = Neighbours(self._points(), self.labels_N)
        return self._neighbours

    def cached(self, kind: str, key: Hashable, make: Callable[[], Cached]) -> Cached:
        """The value of `make()` for `key`, from the cache where possible.

        The cache holds the latest value of each kind, for later trials.
        """
        if kind not in self._cache or self._cache[kind][0] != key:
            fresh = make()
            # Trials on other streams may still read the old value, and may read the new one now.
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            self._cache[kind] = (key, fresh)
        return cast(Cached, self._cache[kind][1])

    def to_device(self, array: NDArray[np.generic]) -> Tensor:
        """Copy a host array to the device; float64 becomes float32. Asynchronous on a GPU."""
        kind = np.float32 if array.dtype == np.float64 else array.dtype
        narrowed = np.require(array, kind, ("C", "W"))  # W: torch warns of read-only arrays
        tensor = torch.from_numpy(narrowed)
        if self.device.type == "cuda":  # only copies from pinned memory are asynchronous
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def normalise(self, pixels_BCHW: Tensor) -> Tensor:
        """Network input (B, C, H, W) float32 of uint8 pixels: (pixel/255 - mean) / std."""
        return normalise(pixels_BCHW, self.mean_C, self.std_C)

    def pixel_range(self) -> tuple[Tensor, Tensor]:
        """The network inputs of pixel values 0 and 255 in each channel, (C,) both."""
        return -self.mean_C / self.std_C, (1 - self.mean_C) / self.std_C

    def views(self, views: Views) -> Iterator[Tensor]:
        """Yield each step's training images as network input (B, C, H, W), augmented.

        Small images are augmented for several steps at once, which takes less time per step.
        """
        batch = views.index_SB.shape[1]
        steps = AUGMENTED_BYTES[self.device.type] // (batch * math.prod(self.image_shape))
        size = batch * max(1, steps)
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
        """A copy of this data with generated training images appended.

        Class counts (`counts_K`, `train_counts_K`) stay those of the real images.

        Args:
            images_GCHW: generated images, uint8, on the device.
            labels_G: their classes, on the device.

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
        """The training images as one uint8 tensor (N, C, H, W) on the device.

        Args:
            what: names what needs the tensor, for the message.

        Raises:
            ConfigError: the images are streamed, since they do not fit into memory.
        """
        if isinstance(self.train, Resident):
            return self.train.pixels_NCHW
        raise ConfigError(
            f"{what} needs the {len(self.train)} training images in memory, and they are streamed: "
            "use smaller images (data.size), or raise $IMBTUNE_MEMORY"
        )

    def _points(self) -> Tensor:
        """The vectors (N, D) whose distances define neighbours; thumbnails of streamed images."""
        if isinstance(self.train, Resident):
            return self.train.pixels_NCHW.flatten(1)
        height, width = (min(side, THUMBNAIL) for side in self.image_size)
        small = []
        for pixels_BCHW in self.train.in_order(BLOCK):
            shrunk_BCHW = F.adaptive_avg_pool2d(pixels_BCHW.float(), (height, width))
            small.append(shrunk_BCHW.to(torch.uint8))
        return torch.cat(small).flatten(1)


def shared_tensor(array: NDArray[np.generic]) -> Tensor:
    """The array as a tensor without a copy, also if it is read-only: nothing may write to it.

    Arrays are read-only where they are memory that processes share: Ray's object store, or the
    mapped file of decoded images. torch warns of such arrays, once per process.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _to_device(images: Images, device: torch.device) -> tuple[Resident | Streamed, Tensor]:
    """The images, resident or streamed, and their labels on the device."""
    labels = shared_tensor(images.labels).to(device)
    if isinstance(images.pixels, np.ndarray):
        return Resident(shared_tensor(images.pixels).to(device)), labels
    return Streamed(images.pixels, device), labels
