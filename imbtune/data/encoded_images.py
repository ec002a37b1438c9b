"""Encoded images to `Images`: all decoded once, the broken ones found, kept encoded if too large.

What comes out does not depend on the number of threads.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from PIL import UnidentifiedImageError

from imbtune.data.decoding import GREY, Decoder, WrongSizeError, open_image, upright
from imbtune.data.images import BLOCK, Bytes, EncodedPixels, Images, Ints, Pixels
from imbtune.data.source import DataSource, memory_limit
from imbtune.errors import DataError

NAMED = 3  # broken images that a message names
MOST_THREADS = 16
THREADS_FROM = 64 * 64  # pixels; for smaller images Python's own lock makes threads slower


@dataclass(frozen=True)
class EncodedImages:
    """Encoded images of one split, before any is looked at.

    files: their content, or their paths as bytes (`are_paths`). labels: (N,). where: an image's
    name for messages, by its place.
    """

    files: pa.LargeBinaryArray
    are_paths: bool
    labels: Ints
    where: Callable[[int], str]

    def file(self, i: int) -> str | bytes:
        content: bytes = self.files[i].as_py()
        return os.fsdecode(content) if self.are_paths else content


@dataclass(frozen=True)
class TargetShape:
    """What the images must be or become.

    channels: 1, 3, or None: 1 where all are grey, else 3. size: height and width that they must
    have; None: all the same. crop: scale and centre-crop to a square of so many pixels; 0: do not.
    """

    channels: int | None = None
    size: tuple[int, int] | None = None
    crop: int = 0


@dataclass
class _Faults:
    """Images that cannot be read, with the reason, and those of another size, by their places."""

    broken: dict[int, str] = field(default_factory=dict)
    sizes: dict[int, str] = field(default_factory=dict)


def decode_images(
    sources: list[EncodedImages], shape: TargetShape, data_source: DataSource
) -> tuple[list[Images], tuple[str, ...]]:
    """The images of each source, and what is to be said about them.

    Raises:
        DataError: images that cannot be read (where they are not to be skipped), or sizes that
            differ.
    """
    whole = _join(sources)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # what Pillow doubts decodes, or raises
        faults = _Faults()
        decoder = _decoder(whole, shape, faults)
        n = len(whole.labels)
        fits = n * int(np.prod(decoder.shape)) <= memory_limit()
        pixels = np.empty((n if fits else 0, *decoder.shape), np.uint8)
        digests = np.empty((0 if fits else n, 32), np.uint8)
        _decode_all(whole, decoder, pixels if fits else None, digests, faults)
    _check_sizes(whole, decoder, shape, faults)
    notes = _check_broken(whole, faults, data_source)
    images, start = [], 0
    for source in sources:
        rows = np.arange(start, start + len(source.labels))
        rows = rows[~np.isin(rows, list(faults.broken))]
        start += len(source.labels)
        kept: Pixels = (
            _rows(pixels, rows) if fits else _still_encoded(whole, rows, decoder, digests)
        )
        images.append(Images(kept, whole.labels[rows]))
    return images, notes


def _still_encoded(
    source: EncodedImages, rows: Ints, decoder: Decoder, digests: Bytes
) -> EncodedPixels:
    files = source.files.take(pa.array(rows))
    return EncodedPixels(files, source.are_paths, decoder, digests[rows])


def _join(sources: list[EncodedImages]) -> EncodedImages:
    starts = np.cumsum([0, *(len(source.labels) for source in sources)])

    def where(i: int) -> str:
        k = int(np.searchsorted(starts, i, side="right")) - 1
        return sources[k].where(i - int(starts[k]))

    files = pa.concat_arrays([source.files for source in sources])
    labels = np.concatenate([source.labels for source in sources])
    return EncodedImages(files, sources[0].are_paths, labels, where)


def _decoder(source: EncodedImages, shape: TargetShape, faults: _Faults) -> Decoder:
    """The decoder that fits all images; broken headers are noted."""
    channels, size = shape.channels, shape.size
    if channels is None:
        grey = np.ones(len(source.labels), dtype=bool)

        def look(rows: Iterable[int]) -> None:
            for i in rows:
                try:
                    with open_image(source.file(i)) as image:
                        grey[i] = image.mode in GREY
                except Exception as error:
                    faults.broken[i] = _reason(error)

        _in_blocks(look, len(source.labels), threads=source.are_paths)
        channels = 1 if grey.all() else 3
    if size is None:
        size = (shape.crop, shape.crop) if shape.crop else _first_size(source)
    return Decoder(channels, *size, crop=shape.crop > 0)


def _first_size(source: EncodedImages) -> tuple[int, int]:
    """Height and width of the first image that can be read."""
    for i in range(len(source.labels)):
        try:
            with open_image(source.file(i)) as image:
                width, height = upright(image).size
        except Exception:  # noted when it is decoded
            continue
        return height, width
    return 1, 1


def _decode_all(
    source: EncodedImages, decoder: Decoder, pixels: Bytes | None, digests: Bytes, faults: _Faults
) -> None:
    """Every image into its row of `pixels`, or its digest into `digests`; faults are noted."""

    def decode(rows: Iterable[int]) -> None:
        for i in rows:
            try:
                decoded = decoder(source.file(i))
            except WrongSizeError as error:
                faults.sizes[i] = str(error)
            except Exception as error:  # of a broken file Pillow raises anything
                faults.broken[i] = _reason(error)
            else:
                if pixels is None:
                    content = hashlib.sha256(np.ascontiguousarray(decoded).data).digest()
                    digests[i] = np.frombuffer(content, np.uint8)
                else:
                    pixels[i] = decoded

    large = decoder.crop or decoder.height * decoder.width >= THREADS_FROM
    _in_blocks(decode, len(source.labels), threads=large)


def _in_blocks(work: Callable[[Iterable[int]], None], n: int, threads: bool) -> None:
    """`work` on blocks of 0 … n-1, in threads or one after another."""
    blocks = [range(at, min(at + BLOCK, n)) for at in range(0, n, BLOCK)]
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1) if threads else 1) as pool:
        for _ in pool.map(work, blocks):
            pass


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its message has an address in memory
        return "not an image of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _check_sizes(
    source: EncodedImages, decoder: Decoder, shape: TargetShape, faults: _Faults
) -> None:
    if not faults.sizes:
        return
    i = min(faults.sizes)
    wanted = f"{decoder.width}×{decoder.height}"
    if shape.size:
        raise DataError(
            f"{source.where(i)}: the image is {faults.sizes[i]}, not {wanted}: "
            f"is it the right data set?"
        )
    raise DataError(
        f"{source.where(i)} is {faults.sizes[i]} and others are {wanted}: set data.size to the "
        f"pixels of a square that all are cropped to, such as data.size={decoder.height}"
    )


def _check_broken(
    source: EncodedImages, faults: _Faults, data_source: DataSource
) -> tuple[str, ...]:
    if not faults.broken:
        return ()
    places = sorted(faults.broken)
    named = [f"{source.where(i)} ({faults.broken[i]})" for i in places[:NAMED]]
    named += ["…"] if len(places) > NAMED else []
    what = f"{len(places):,} of {len(source.labels):,} images cannot be read"
    if len(places) == len(source.labels):
        raise DataError(f"{what}: {'; '.join(named)}: get the files again")
    if not data_source.skip_corrupt:
        raise DataError(
            f"{what}: {'; '.join(named)}: get the files again, or go on without them: "
            f"--skip-corrupt"
        )
    return (f"{what} and are left out: {'; '.join(named)}",)


def _rows(pixels: Bytes, rows: Ints) -> Bytes:
    """A view where the rows follow each other, else a copy."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1:
        return pixels[rows[0] : rows[-1] + 1]
    return pixels[rows]
