"""A data set as one file that is mapped into memory, and never copied.

A header of JSON, and behind it the arrays as they lie in memory, each with its checksums.
"""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imbtune.data.decoding import Decoder
from imbtune.data.images import EncodedPixels, Images, Pixels
from imbtune.data.splits import Dataset, Preprocessing

HEAD = struct.Struct("<8sQI")  # MAGIC, and the header's length and checksum
MAGIC = b"imbtune1"
ALIGNED = 4096  # bytes that arrays start at a multiple of: the page of most machines
BLOCK = 1 << 25  # bytes of one checksum; several are worked out at a time
THREADS = 4  # more do not help: they wait for the memory

Array = NDArray[Any]


def write_dataset(path: Path, dataset: Dataset, about: Mapping[str, Any]) -> None:
    """Write the file, which is not whole before the end.

    Args:
        about: whatever `read_dataset` is to be asked, as JSON can hold it.
    """
    arrays: list[Array] = []
    header: dict[str, Any] = {
        "about": about,
        "classes": dataset.classes,
        "preprocessing": asdict(dataset.preprocessing),
        "notes": dataset.notes,
        "parts": [_describe(images, arrays) for images in (dataset.train, dataset.test)],
        "arrays": [[str(array.dtype), array.shape, _checksums(array)] for array in arrays],
    }
    content = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(HEAD.pack(MAGIC, len(content), zlib.crc32(content)) + content)
        for array in arrays:
            file.write(bytes(-file.tell() % ALIGNED))
            file.write(array.data)


def read_dataset(path: Path, holds: Callable[[Mapping[str, Any]], bool]) -> Dataset | None:
    """The data set, its arrays in place and read-only; None where the file is not there or not
    whole, or does not hold.

    Args:
        holds: whether what it was written with is what is looked for.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD.size)
            if len(head) < HEAD.size or not head.startswith(MAGIC):
                return None
            _, length, checksum = HEAD.unpack(head)
            content = file.read(length)
            if zlib.crc32(content) != checksum:
                return None
            header = json.loads(content)
            if not holds(header["about"]):
                return None
            whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError:
        return None
    arrays = _arrays(whole, HEAD.size + length, header["arrays"])
    if arrays is None:
        return None
    train, test = (_images(part, arrays) for part in header["parts"])
    preprocessing = Preprocessing(**header["preprocessing"])
    preprocessing = replace(
        preprocessing, mean=tuple(preprocessing.mean), std=tuple(preprocessing.std)
    )
    return Dataset(train, test, tuple(header["classes"]), preprocessing, tuple(header["notes"]))


def _describe(images: Images, arrays: list[Array]) -> dict[str, Any]:
    """How the images are made of arrays, which are added to the list."""
    part: dict[str, Any] = {}

    def add(name: str, array: Array) -> None:
        part[name] = len(arrays)
        arrays.append(np.ascontiguousarray(array))

    add("labels", images.labels)
    if not isinstance(images.pixels, EncodedPixels):
        add("pixels", images.pixels)
        return part
    files = images.pixels.files
    _, ends, content = files.buffers()
    ends_N1 = np.frombuffer(ends, np.int64)[files.offset : files.offset + len(files) + 1]
    add("ends", ends_N1 - ends_N1[0])
    add("content", np.frombuffer(content or b"", np.uint8)[ends_N1[0] : ends_N1[-1]])
    add("digests", images.pixels.digests_N32)
    return part | {"are_paths": images.pixels.are_paths, "decoder": asdict(images.pixels.decoder)}


def _images(part: Mapping[str, Any], arrays: list[Array]) -> Images:
    """The images that `_describe` described."""
    pixels: Pixels
    if "pixels" in part:
        pixels = arrays[part["pixels"]]
    else:
        buffers = [None, *(pa.py_buffer(arrays[part[name]]) for name in ("ends", "content"))]
        count = len(arrays[part["ends"]]) - 1
        files = pa.LargeBinaryArray.from_buffers(pa.large_binary(), count, buffers)
        decoder = Decoder(**part["decoder"])
        pixels = EncodedPixels(files, part["are_paths"], decoder, arrays[part["digests"]])
    return Images(pixels, arrays[part["labels"]])


def _arrays(whole: mmap.mmap, start: int, described: list[Any]) -> list[Array] | None:
    """Read-only arrays in place; None where the file is too short or a checksum fails."""
    arrays = []
    for dtype, shape, checksums in described:
        start += -start % ALIGNED
        array = np.empty(0, dtype).reshape(shape) if 0 in shape else None
        if array is None:
            count = int(np.prod(shape))
            if start + count * np.dtype(dtype).itemsize > len(whole):
                return None
            array = np.frombuffer(whole, dtype, count, start).reshape(shape)
        if _checksums(array) != checksums:
            return None
        start += array.nbytes
        arrays.append(array)
    return arrays


def _checksums(array: Array) -> list[int]:
    """CRC-32 of each block: it finds what a disk or a crash did, at some 2 GB/s and a thread."""
    flat = array.reshape(-1).view(np.uint8)
    blocks = [flat[at : at + BLOCK] for at in range(0, len(flat), BLOCK)]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(zlib.crc32, blocks))
