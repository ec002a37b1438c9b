"""Decode all images of a data set, and report those that cannot be read.

Images that exceed the memory limit are decoded once as a check and stay encoded. The result does
not depend on the number of threads.
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

from imbtune.data.data_source import DataSource, memory_limit
from imbtune.data.decoding import (
    GREY,
    Decoder,
    WrongSizeError,
    open_image,
    upright,
    why_dark,
    why_unreadable,
)
from imbtune.data.images import BLOCK, Bytes, EncodedPixels, Images, Ints, Pixels, text_of
from imbtune.errors import DataError, some_of

NAMED = 3  # unreadable images that a message names
MOST_THREADS = 16
THREADS_FROM = 64 * 64  # pixels; for smaller images Python's lock makes threads slower


@dataclass(frozen=True)
class EncodedImages:
    """The image files of one split, which have not been read yet, and their labels.

    Args:
        files: the encoded files, or their paths as bytes.
        are_paths: whether `files` are paths.
        labels: int64 (N,).
        where: the name of the image at an index, for messages.
    """

    files: pa.LargeBinaryArray
    are_paths: bool
    labels: Ints
    where: Callable[[int], str]

    def file(self, i: int) -> str | bytes:
        """The path or the content of file `i`."""
        content: bytes = self.files[i].as_py()
        return os.fsdecode(content) if self.are_paths else content


@dataclass(frozen=True)
class TargetShape:
    """The shape of the decoded images.

    Args:
        channels: 1 or 3; None: 1 if all images are grey, else 3.
        size: the height and width that all images must have; None: those of the first image.
        crop: scale and centre-crop to a square of this many pixels; 0 for no crop.
        remedy: what a message advises where an image has another `size`.
    """

    channels: int | None = None
    size: tuple[int, int] | None = None
    crop: int = 0
    remedy: str = "is it the right data set?"


@dataclass
class _Findings:
    """What was found while decoding, by index.

    Args:
        broken: why images cannot be read.
        sizes: the sizes of images with a wrong size.
        transparent: images with transparent pixels.
        animated: images of which only the first frame is used.
        peaks: the largest values of images with 16 bits per channel.
    """

    broken: dict[int, str] = field(default_factory=dict)
    sizes: dict[int, str] = field(default_factory=dict)
    transparent: set[int] = field(default_factory=set)
    animated: set[int] = field(default_factory=set)
    peaks: dict[int, int] = field(default_factory=dict)


def decode_images(
    splits: list[EncodedImages], shape: TargetShape, data_source: DataSource
) -> tuple[list[Images], tuple[str, ...]]:
    """Decode the images.

    Args:
        splits: the files of each split.
        shape: the shape of the decoded images.
        data_source: whether to skip unreadable images.

    Returns:
        The images of each split, and notes for the user.

    Raises:
        DataError: images that cannot be read and must not be skipped, or of a wrong size.
    """
    joined = _join(splits)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # if a file is broken, decoding fails
        findings = _Findings()
        decoder = _decoder(joined, shape, findings)
        n = len(joined.labels)
        fits = n * int(np.prod(decoder.shape)) <= memory_limit()
        pixels = np.empty((n if fits else 0, *decoder.shape), np.uint8)
        digests = np.empty((0 if fits else n, 32), np.uint8)
        _decode_all(joined, decoder, pixels if fits else None, digests, findings)
    _check_sizes(joined, decoder, shape, findings)
    notes = _check_broken(joined, findings, data_source)
    notes += _describe(
        joined, findings.transparent, "have transparent pixels and are laid on white"
    )
    notes += _describe(joined, findings.animated, "have several frames, of which the first is used")
    if dark := why_dark(findings.peaks.values()):
        what, remedy = dark
        what += f" (if that is too dark or too coarse, {remedy}, also before predicting)"
        notes += _describe(joined, set(findings.peaks), what)
    images, start = [], 0
    for split in splits:
        rows = np.arange(start, start + len(split.labels))
        rows = rows[~np.isin(rows, list(findings.broken))]
        start += len(split.labels)
        kept: Pixels = (
            _rows(pixels, rows) if fits else _still_encoded(joined, rows, decoder, digests)
        )
        images.append(Images(kept, joined.labels[rows], _names(joined, rows, data_source)))
    return images, notes


def _names(encoded: EncodedImages, rows: Ints, data_source: DataSource) -> pa.LargeStringArray:
    """The names of images, without the folder of the data."""
    root = data_source.root
    folder = "" if root is None else f"{root if root.is_dir() else root.parent}{os.sep}"
    names = (encoded.where(row).removeprefix(folder) for row in rows.tolist())
    return pa.array([text_of(name) for name in names], pa.large_string())


def _still_encoded(
    encoded: EncodedImages, rows: Ints, decoder: Decoder, digests: Bytes
) -> EncodedPixels:
    files = encoded.files.take(pa.array(rows))
    return EncodedPixels(files, encoded.are_paths, decoder, digests[rows])


def _join(splits: list[EncodedImages]) -> EncodedImages:
    """The files of all splits, one after another."""
    starts = np.cumsum([0, *(len(split.labels) for split in splits)])

    def where(i: int) -> str:
        k = int(np.searchsorted(starts, i, side="right")) - 1
        return splits[k].where(i - int(starts[k]))

    files = pa.concat_arrays([split.files for split in splits])
    labels = np.concatenate([split.labels for split in splits])
    return EncodedImages(files, splits[0].are_paths, labels, where)


def _decoder(encoded: EncodedImages, shape: TargetShape, findings: _Findings) -> Decoder:
    """The decoder for all images. Files whose header cannot be read are added to `findings`."""
    channels, size = shape.channels, shape.size
    if channels is None:
        grey = np.ones(len(encoded.labels), dtype=bool)

        def find_colour(rows: Iterable[int]) -> None:
            for i in rows:
                try:
                    with open_image(encoded.file(i)) as image:
                        grey[i] = image.mode in GREY
                except Exception as error:
                    findings.broken[i] = why_unreadable(error)

        _in_blocks(find_colour, len(encoded.labels), threads=encoded.are_paths)
        channels = 1 if grey.all() else 3
    if size is None:
        size = (shape.crop, shape.crop) if shape.crop else _first_size(encoded)
    return Decoder(channels, *size, crop=shape.crop > 0)


def _first_size(encoded: EncodedImages) -> tuple[int, int]:
    """Height and width of the first image that can be read."""
    for i in range(len(encoded.labels)):
        try:
            with open_image(encoded.file(i)) as image:
                width, height = upright(image).size
        except Exception:  # _decode_all reports it
            continue
        return height, width
    return 1, 1


def _decode_all(
    encoded: EncodedImages,
    decoder: Decoder,
    pixels: Bytes | None,
    digests: Bytes,
    findings: _Findings,
) -> None:
    """Decode every image into its row of `pixels`; where that is None, its digest into `digests`.

    Images that cannot be decoded are added to `findings`.
    """

    def decode(rows: Iterable[int]) -> None:
        for i in rows:
            try:
                decoded = decoder.decode(encoded.file(i))
            except WrongSizeError as error:
                findings.sizes[i] = str(error)
            except Exception as error:  # Pillow raises all kinds of exceptions for broken files
                findings.broken[i] = why_unreadable(error)
            else:
                if decoded.transparent:
                    findings.transparent.add(i)
                if decoded.animated:
                    findings.animated.add(i)
                if decoded.peak is not None:
                    findings.peaks[i] = decoded.peak
                if pixels is None:
                    content = hashlib.sha256(np.ascontiguousarray(decoded.pixels).data).digest()
                    digests[i] = np.frombuffer(content, np.uint8)
                else:
                    pixels[i] = decoded.pixels

    large = decoder.crop or decoder.height * decoder.width >= THREADS_FROM
    _in_blocks(decode, len(encoded.labels), threads=large)


def _in_blocks(work: Callable[[Iterable[int]], None], n: int, threads: bool) -> None:
    """Call `work` with blocks of the indices 0 … n-1, in threads or one after another."""
    blocks = [range(at, min(at + BLOCK, n)) for at in range(0, n, BLOCK)]
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1) if threads else 1) as pool:
        for _ in pool.map(work, blocks):
            pass


def _check_sizes(
    encoded: EncodedImages, decoder: Decoder, shape: TargetShape, findings: _Findings
) -> None:
    if not findings.sizes:
        return
    i = min(findings.sizes)
    wanted = f"{decoder.width}×{decoder.height}"
    if shape.size:
        raise DataError(
            f"{encoded.where(i)}: the image is {findings.sizes[i]}, not {wanted}: {shape.remedy}"
        )
    raise DataError(
        f"{encoded.where(i)} is {findings.sizes[i]} and others are {wanted}: set data.size to crop "
        f"all images to a square, for example data.size={decoder.height}"
    )


def _check_broken(
    encoded: EncodedImages, findings: _Findings, data_source: DataSource
) -> tuple[str, ...]:
    if not findings.broken:
        return ()
    broken = sorted(findings.broken)
    named = some_of((f"{encoded.where(i)} ({findings.broken[i]})" for i in broken), NAMED)
    what = f"{len(broken):,} of {len(encoded.labels):,} images cannot be read"
    if len(broken) == len(encoded.labels):
        raise DataError(f"{what}: {named}: get the files again")
    if not data_source.skip_corrupt:
        raise DataError(
            f"{what}: {named}: get the files again, or skip these images with --skip-corrupt"
        )
    return (f"{what} and are left out: {named}",)


def _describe(encoded: EncodedImages, found: set[int], what: str) -> tuple[str, ...]:
    """A note that counts and names the images found; none where there are none."""
    if not found:
        return ()
    named = some_of((encoded.where(i) for i in sorted(found)), NAMED)
    return (f"{len(found):,} of {len(encoded.labels):,} images {what}: {named}",)


def _rows(pixels: Bytes, rows: Ints) -> Bytes:
    """The rows as a view if they are consecutive, else as a copy."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1:
        return pixels[rows[0] : rows[-1] + 1]
    return pixels[rows]
