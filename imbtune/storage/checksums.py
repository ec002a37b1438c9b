"""Parquet files and other content with a checksum, so that no damage goes unnoticed.

Parquet's own checksums cover the pages, but neither their headers nor the footer, where a flipped
bit can make other numbers of the same pages. So a file of ours also has the SHA-256 of all of its
bytes, as a text in its footer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import pyarrow as pa
import pyarrow.parquet as pq

KEY = "imbtune.sha256"  # in the file's metadata; its value is the digest
DIGEST = 64  # hexadecimal digits
# as the footer has it (Thrift's compact protocol): the key, the type of the value, its length
MARK = KEY.encode() + bytes([0x18, DIGEST])
SEALED = b"sha256:"  # how other content with a checksum begins; the digest and a line end follow


class DamagedError(ValueError):
    """Content that is not what was written."""


def parquet_bytes(table: pa.Table) -> bytes:
    """A Parquet file with checksums.

    The SHA-256 is that of the file with zeros in the place of the digest.
    """
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, table.schema, compression="zstd", write_page_checksum=True
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({KEY: "0" * DIGEST})
    content = bytearray(sink.getvalue())
    place = content.rindex(MARK) + len(MARK)
    content[place : place + DIGEST] = hashlib.sha256(content).hexdigest().encode()
    return bytes(content)


def parquet_table(content: bytes, columns: Collection[str] | None = None) -> pa.Table:
    """The rows of a Parquet file; a file of an earlier version has no SHA-256 to check.

    Args:
        columns: those that are decoded, as far as the file has them; None for all.

    Raises:
        DamagedError: it is damaged, or no Parquet file.
    """
    found = content.rfind(MARK)
    if found >= 0:
        place = found + len(MARK)
        zeroed = content[:place] + b"0" * DIGEST + content[place + DIGEST :]
        if hashlib.sha256(zeroed).hexdigest().encode() != content[place : place + DIGEST]:
            raise DamagedError("its SHA-256 is not that of its content")
    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        table = file.read(columns if columns is None else list(columns))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedError(" ".join(str(error).split())) from error
    if columns is not None:  # Parquet takes `mix.alpha` for a part of `mix`, and gives it, too
        table = table.select([i for i, name in enumerate(table.column_names) if name in columns])
    return table.replace_schema_metadata()


def seal(content: bytes) -> bytes:
    """The content after a line with its SHA-256."""
    return SEALED + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def unseal(content: bytes) -> bytes:
    """The inverse of `seal`.

    Raises:
        DamagedError: it is damaged, or `seal` did not make it.
    """
    line, newline, sealed = content.partition(b"\n")
    if not newline or line != SEALED + hashlib.sha256(sealed).hexdigest().encode():
        raise DamagedError("its SHA-256 is not that of its content")
    return sealed
