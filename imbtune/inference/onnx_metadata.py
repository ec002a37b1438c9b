"""The metadata of an ONNX file, read without the onnx library and without its weights.

The file is a protobuf message. Of its fields, 14 is `metadata_props`, a message with the key in
field 1 and the value in field 2; all others are skipped (onnx.proto3, ModelProto).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

SUFFIX = ".onnx"
METADATA, KEY, VALUE = 14, 1, 2  # numbers of fields
NUMBER, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5  # protobuf's wire types
LARGEST = 2**26  # bytes of an entry


def read_metadata(path: Path) -> dict[str, str] | None:
    """Text by key; None where it is not a complete ONNX file."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            entries = [dict(_fields(entry)) for entry in _entries(file, size)]
        return {entry[KEY].decode(): entry.get(VALUE, b"").decode() for entry in entries}
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _entries(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The content of each entry of the metadata."""
    while file.tell() < size:
        field, kind = divmod(_varint(file), 8)
        if kind == NUMBER:
            _varint(file)
            continue
        length = {EIGHT_BYTES: 8, FOUR_BYTES: 4}.get(kind) or _varint(file)
        if kind not in (EIGHT_BYTES, BYTES, FOUR_BYTES) or file.tell() + length > size:
            raise ValueError("it is no protobuf message")
        if field == METADATA and kind == BYTES and length <= LARGEST:
            yield file.read(length)
        else:
            file.seek(length, 1)


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message whose fields are all texts of less than 2 GiB."""
    at = 0
    while at < len(message):
        field, at = message[at] // 8, at + 1
        length, shift = 0, 0
        while True:
            byte, at = message[at], at + 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        yield field, message[at : at + length]
        at += length


def _varint(file: BinaryIO) -> int:
    """A whole number, seven bits a byte, the lowest first."""
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("it ends within a number")
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise ValueError("a number is too long")
