"""The same images in memory and encoded, to be decoded while a run goes on."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from short_runs import CPU
from small_data import make_splits

from imbtune.data.decoding import Decoder
from imbtune.data.images import EncodedPixels, Images
from imbtune.data.splits import Splits
from imbtune.training.device.device_data import DeviceData
from imbtune.training.device.image_store import Resident, Streamed

COUNTS = [30, 10, 5, 1]


class Zipped:
    """The least that the training layer asks of encoded images: compressed bytes, one an image."""

    def __init__(self, pixels_NCHW: NDArray[np.uint8]) -> None:
        self.shape = pixels_NCHW.shape
        self._coded = [zlib.compress(image.tobytes()) for image in pixels_NCHW]

    def __len__(self) -> int:
        return len(self._coded)

    def __getitem__(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        assert index.dtype == np.int64 and index.ndim == 1
        rows = [zlib.decompress(self._coded[i]) for i in index]
        return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, *self.shape[1:]).copy()


def png(pixels_CHW: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels_CHW.transpose(1, 2, 0).squeeze()).save(file, "PNG")
    return file.getvalue()


def as_files(pixels_NCHW: NDArray[np.uint8]) -> EncodedPixels:
    """As the data layer hands over images that do not fit into memory."""
    files = pa.array([png(image) for image in pixels_NCHW], pa.large_binary())
    decoder = Decoder(*pixels_NCHW.shape[1:])
    return EncodedPixels(files, False, decoder, np.zeros((len(files), 32), np.uint8))


def encoded(splits: Splits, kind: Any) -> Splits:
    train, held = (
        Images(kind(part.pixels), part.labels) for part in (splits.train, splits.held_out)
    )
    return Splits(train, held, splits.classes, splits.preprocessing)


def both(kind: Any = Zipped, size: int = 8, channels: int = 1) -> tuple[DeviceData, DeviceData]:
    """The same images in memory and streamed."""
    splits = make_splits(COUNTS, size=size, channels=channels)
    one, other = DeviceData(splits, CPU), DeviceData(encoded(splits, kind), CPU)
    assert isinstance(one.train, Resident) and isinstance(other.train, Streamed)
    return one, other
