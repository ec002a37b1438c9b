"""Images with labels, decoded in memory or, where they would not fit, still encoded.

Shapes: N images, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imbtune.data.decoding import Decoder
from imbtune.errors import DataError

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Array = NDArray[Any]

STATISTICS_SAMPLE = 10_000  # images from which mean and standard deviation are computed
BLOCK = 500  # images decoded at a time in loops over all images


def text_of(value: object) -> str:
    r"""A label or a file name as text that can be written as UTF-8.

    What is not UTF-8 becomes an escape, such as `\xe9` or `\udce9`, so names stay different.
    """
    encoded = value if isinstance(value, bytes) else str(value).encode(errors="backslashreplace")
    return encoded.decode(errors="backslashreplace")


class EncodedPixels:
    """Pixels (N, C, H, W) uint8 that are decoded on access.

    It has the part of an array's interface that training needs: `shape`, `nbytes`, `len`, iteration
    and indexing with an array of indices. It is pickled as encoded files, or as their paths.

    Args:
        files: the encoded files, or their paths as bytes.
        are_paths: whether `files` are paths.
        decoder: decodes one file to (C, H, W); always to the same pixels.
        digests_N32: SHA-256 of each image's pixels, from when the data set was loaded.
    """

    def __init__(
        self, files: pa.LargeBinaryArray, are_paths: bool, decoder: Decoder, digests_N32: Bytes
    ) -> None:
        self.files, self.are_paths, self.decoder = files, are_paths, decoder
        self.digests_N32 = digests_N32

    def __len__(self) -> int:
        return len(self.files)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        return (len(self), *self.decoder.shape)

    @property
    def nbytes(self) -> int:
        """The size of the decoded pixels in bytes."""
        return int(np.prod(self.shape))

    def __getitem__(self, index: Ints) -> Bytes:
        """The images at `index` (n,), decoded (n, C, H, W); for a single index (C, H, W).

        Raises:
            DataError: a file cannot be read any more.
        """
        rows = np.asarray(index)
        if rows.ndim == 0:
            return self._decode(int(rows))
        decoded = np.empty((len(rows), *self.decoder.shape), dtype=np.uint8)
        for i, row in enumerate(rows.tolist()):
            decoded[i] = self._decode(row)
        return decoded

    def __iter__(self) -> Iterator[Bytes]:
        return (self._decode(row) for row in range(len(self)))

    def take(self, index: Ints) -> EncodedPixels:
        """The images at `index`, still encoded."""
        files = self.files.take(pa.array(index))
        return EncodedPixels(files, self.are_paths, self.decoder, self.digests_N32[index])

    def _decode(self, row: int) -> Bytes:
        content = self.files[row].as_py()
        file = os.fsdecode(content) if self.are_paths else content
        try:
            return self.decoder(file)
        except Exception as error:  # it could be read when the data set was loaded
            name = file if self.are_paths else f"image {row}"
            raise DataError(
                f"{name} cannot be read any more ({error}): do not change the data during a run"
            ) from error


Pixels = Bytes | EncodedPixels


@dataclass(frozen=True)
class Images:
    """Images of a data set.

    Args:
        pixels: (N, C, H, W) uint8.
        labels: (N,) int64 in 0 … K-1.
        names: (N,) strings: the file of each image below the data folder, or else its place in the
            data set. None until :func:`imbtune.data.load.load` names them.
    """

    pixels: Pixels
    labels: Ints
    names: pa.LargeStringArray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Ints) -> Images:
        """The images at `index`; encoded pixels stay encoded."""
        names = None if self.names is None else self.names.take(pa.array(index))
        if isinstance(self.pixels, EncodedPixels):
            return Images(self.pixels.take(index), self.labels[index], names)
        return Images(np.ascontiguousarray(self.pixels[index]), self.labels[index], names)

    def named(self, split: str) -> Images:
        """The same images, each named by its place in a split unless it has a name."""
        if self.names is not None:
            return self
        names = pa.array([f"{split} {i}" for i in range(len(self))], pa.large_string())
        return replace(self, names=names)

    def names_in(self, split: str) -> list[str]:
        """The names of the images, which belong to a split."""
        named = self.named(split).names
        assert named is not None
        found: list[str] = named.to_pylist()
        return found

    def array(self) -> Bytes:
        """All pixels as one array (N, C, H, W)."""
        if isinstance(self.pixels, EncodedPixels):
            return self.pixels[np.arange(len(self))]
        return self.pixels

    def counts(self, classes: int) -> Ints:
        """Images of each class, (K,)."""
        return np.bincount(self.labels, minlength=classes).astype(np.int64)

    def digest(self) -> bytes:
        """SHA-256 of shape, pixels and labels; the same for encoded and decoded pixels."""
        digest = hashlib.sha256(str(self.pixels.shape).encode())
        if isinstance(self.pixels, EncodedPixels):
            digest.update(np.ascontiguousarray(self.pixels.digests_N32).data)
        else:
            for image in self.pixels:
                digest.update(hashlib.sha256(np.ascontiguousarray(image).data).digest())
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.digest()

    def mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel, of pixels in [0, 1].

        They are computed from all images, or from a fixed sample of 10,000. The deviation is at
        least 1/255, since it is divided by.
        """
        rows = np.arange(len(self))
        if len(rows) > STATISTICS_SAMPLE:
            rows = np.sort(np.random.default_rng(0).permutation(rows)[:STATISTICS_SAMPLE])
        channels = self.pixels.shape[1]
        counts_CV = np.zeros((channels, 256))
        for at in range(0, len(rows), BLOCK):
            block = self.pixels[rows[at : at + BLOCK]]
            for c in range(channels):
                counts_CV[c] += np.bincount(block[:, c].ravel(), minlength=256)
        values_V, share_CV = np.arange(256) / 255, counts_CV / counts_CV[0].sum()
        mean_C = share_CV @ values_V
        variance_C = (share_CV * (values_V - mean_C[:, None]) ** 2).sum(axis=1)  # >= 0
        std_C = np.sqrt(variance_C).clip(min=1 / 255)
        return tuple(mean_C.tolist()), tuple(std_C.tolist())
