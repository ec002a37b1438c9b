"""The file format of the cache: a data set in one file that can be mapped into memory.

The file has a JSON header, and then the arrays as they are in memory. The header has their types,
shapes and checksums.
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

from imbtune import strict_json
from imbtune.data.decoding import Decoder
from imbtune.data.images import Array, EncodedPixels, Images, Pixels
from imbtune.data.splits import Dataset, Preprocessing

HEAD = struct.Struct("<8sQI")  # MAGIC, the header's length, the header's checksum
MAGIC = b"imbtune1"
ALIGNED = 4096  # arrays start at a multiple of this many bytes, the page size of most machines
BLOCK = 1 << 25  # bytes of one checksum; threads compute several at a time
THREADS = 4  # more do not help: memory bandwidth is the limit

JsonObject = dict[str, Any]


def write_dataset(path: Path, dataset: Dataset, about: Mapping[str, object]) -> None:
    """Write a data set. The file is incomplete until the function returns.

    Args:
        about: JSON values that describe the file, for `is_valid` of :func:`read_dataset`.
    """
    arrays: list[Array] = []
    header: JsonObject = {
        "about": about,
        "classes": dataset.classes,
        "preprocessing": asdict(dataset.preprocessing),
        "notes": dataset.notes,
        "parts": [_describe(images, arrays) for images in (dataset.train, dataset.test)],
        "arrays": [[str(array.dtype), array.shape, _checksums(array)] for array in arrays],
    }
    content = json.dumps(header, allow_nan=False).encode()
    with path.open("wb") as file:
        file.write(HEAD.pack(MAGIC, len(content), zlib.crc32(content)) + content)
        for array in arrays:
            file.write(bytes(-file.tell() % ALIGNED))
            file.write(array.data)


def read_dataset(path: Path, is_valid: Callable[[JsonObject], bool]) -> Dataset | None:
    """The data set, whose arrays are read-only and mapped from the file.

    Args:
        is_valid: decides from the `about` of :func:`write_dataset` whether the file can be used.

    Returns:
        None where there is no file, or it is incomplete, broken or not valid.
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
            header = strict_json.loads(content)
            if not is_valid(header["about"]):
                return None
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError:
        return None
    arrays = _arrays(mapped, HEAD.size + length, header["arrays"])
    if arrays is None:
        return None
    train, test = (_images(part, arrays) for part in header["parts"])
    preprocessing = Preprocessing(**header["preprocessing"])
    preprocessing = replace(
        preprocessing, mean=tuple(preprocessing.mean), std=tuple(preprocessing.std)
    )
    return Dataset(train, test, tuple(header["classes"]), preprocessing, tuple(header["notes"]))


def _describe(images: Images, arrays: list[Array]) -> JsonObject:
    """The images as JSON, in which arrays are positions in `arrays`; appends the arrays to it."""
    part: JsonObject = {}

    def add(name: str, array: Array) -> None:
        part[name] = len(arrays)
        arrays.append(np.ascontiguousarray(array))

    add("labels", images.labels)
    if images.names is not None:
        _add_strings("name", images.names.cast(pa.large_binary()), add)
    if not isinstance(images.pixels, EncodedPixels):
        add("pixels", images.pixels)
        return part
    _add_strings("file", images.pixels.files, add)
    add("digests", images.pixels.digests_N32)
    return part | {"are_paths": images.pixels.are_paths, "decoder": asdict(images.pixels.decoder)}


def _add_strings(
    name: str, strings: pa.LargeBinaryArray, add: Callable[[str, Array], None]
) -> None:
    """Add strings as two arrays: where each one ends, and all of them one after another."""
    _, ends, content = strings.buffers()
    ends_N1 = np.frombuffer(ends, np.int64)[strings.offset : strings.offset + len(strings) + 1]
    add(f"{name}_ends", ends_N1 - ends_N1[0])
    add(f"{name}_content", np.frombuffer(content or b"", np.uint8)[ends_N1[0] : ends_N1[-1]])


def _strings(name: str, part: JsonObject, arrays: list[Array]) -> pa.LargeBinaryArray:
    """The inverse of :func:`_add_strings`."""
    ends_N1, content = arrays[part[f"{name}_ends"]], arrays[part[f"{name}_content"]]
    buffers = [None, pa.py_buffer(ends_N1), pa.py_buffer(content)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(ends_N1) - 1, buffers)


def _images(part: JsonObject, arrays: list[Array]) -> Images:
    """The inverse of :func:`_describe`."""
    pixels: Pixels
    if "pixels" in part:
        pixels = arrays[part["pixels"]]
    else:
        files = _strings("file", part, arrays)
        decoder = Decoder(**part["decoder"])
        pixels = EncodedPixels(files, part["are_paths"], decoder, arrays[part["digests"]])
    named = "name_ends" in part
    names = _strings("name", part, arrays).cast(pa.large_string()) if named else None
    return Images(pixels, arrays[part["labels"]], names)


def _arrays(
    mapped: mmap.mmap, start: int, described: list[tuple[str, list[int], list[int]]]
) -> list[Array] | None:
    """The arrays of the file, read-only and mapped; None if one is incomplete or broken.

    Args:
        mapped: the file.
        start: the end of the header, in bytes.
        described: type, shape and checksums of each array.
    """
    arrays = []
    for dtype, shape, checksums in described:
        start += -start % ALIGNED
        array = np.empty(0, dtype).reshape(shape) if 0 in shape else None
        if array is None:
            count = int(np.prod(shape))
            if start + count * np.dtype(dtype).itemsize > len(mapped):
                return None
            array = np.frombuffer(mapped, dtype, count, start).reshape(shape)
        if _checksums(array) != checksums:
            return None
        start += array.nbytes
        arrays.append(array)
    return arrays


def _checksums(array: Array) -> list[int]:
    """CRC-32 of each block. It detects damage by a disk or a crash; about 2 GB/s per thread."""
    flat = array.reshape(-1).view(np.uint8)
    blocks = [flat[at : at + BLOCK] for at in range(0, len(flat), BLOCK)]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(zlib.crc32, blocks))
