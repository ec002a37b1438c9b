"""Two sources of training images: a tensor on the device, or a DataLoader that decodes them.

Both yield the same pixels in the same order, so the choice does not change a run's results.

Shapes: N images, B images of a batch, C channels, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from imbtune.errors import ImbtuneError

Bytes = NDArray[np.uint8]


class Encoded(Protocol):
    """Images that are decoded when they are indexed; `shape` is (N, C, H, W)."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: NDArray[np.int64]) -> Bytes: ...


class Resident:
    """All images in one uint8 tensor (N, C, H, W) on the device."""

    def __init__(self, pixels_NCHW: Tensor) -> None:
        self.pixels_NCHW = pixels_NCHW

    def __len__(self) -> int:
        return len(self.pixels_NCHW)

    def batches(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the uint8 images (B, C, H, W) of each tensor of indices (B,)."""
        for index_B in indices:
            yield self.pixels_NCHW[index_B]

    def in_order(self, size: int) -> Iterator[Tensor]:
        """Yield all images in order, `size` at a time, the last batch maybe smaller."""
        yield from self.pixels_NCHW.split(size)


class Streamed:
    """Encoded images that the workers of a DataLoader decode batch by batch.

    Args:
        encoded: the images.
        device: where batches are copied to.
    """

    def __init__(self, encoded: Encoded, device: torch.device) -> None:
        self._encoded, self._device = encoded, device

    def __len__(self) -> int:
        return len(self._encoded)

    def batches(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the uint8 images (B, C, H, W) of each tensor of indices (B,)."""
        return self._decoded([index_B.tolist() for index_B in indices])

    def in_order(self, size: int) -> Iterator[Tensor]:
        """Yield all images in order, `size` at a time, the last batch maybe smaller."""
        return self._decoded([index.tolist() for index in torch.arange(len(self)).split(size)])

    def _decoded(self, batches: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        on_gpu = self._device.type == "cuda"
        threads = torch.get_num_threads()
        loader = DataLoader(
            _Decoding(self._encoded),
            sampler=_FixedBatches(batches),
            batch_size=None,
            num_workers=threads if threads > 1 or on_gpu else 0,
            pin_memory=on_gpu,
            generator=torch.Generator(),  # torch's global generator belongs to the run
        )
        for pixels in loader:
            if isinstance(pixels, ImbtuneError):
                raise pixels
            yield pixels.to(self._device, non_blocking=True)


class _Decoding(Dataset[Tensor | ImbtuneError]):
    """A data set whose items are whole batches.

    An expected error is returned as an item: raised in a worker, torch would wrap it into another
    error that contains a traceback.
    """

    def __init__(self, encoded: Encoded) -> None:
        self._encoded = encoded

    def __getitem__(self, index: Sequence[int]) -> Tensor | ImbtuneError:
        try:
            return torch.from_numpy(self._encoded[np.asarray(index, dtype=np.int64)])
        except ImbtuneError as error:
            return error


class _FixedBatches(torch.utils.data.Sampler[Sequence[int]]):
    """Yields the given batches of indices in their order."""

    def __init__(self, batches: Iterable[Sequence[int]]) -> None:
        self._batches = list(batches)

    def __iter__(self) -> Iterator[Sequence[int]]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)
