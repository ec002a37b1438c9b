"""A flipped bit or a missing end is found, wherever in a file it is."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imbtune.errors import CheckpointError, DamagedFileError
from imbtune.storage import Store
from imbtune.storage.checksums import (
    KEY,
    MARK,
    DamagedError,
    parquet_bytes,
    parquet_table,
    seal,
    unseal,
)
from imbtune.study.checkpoints import (
    checkpoint_epochs,
    foreign_files,
    load_checkpoint,
    save_checkpoint,
)

TABLE = pa.table(
    {
        "trial": pa.array([1, 2, None], pa.int32()),
        "recall": pa.array([[0.5, float("inf")], None, []], pa.list_(pa.float64())),
        "error": ["sha256:" + "0" * 64, f"{KEY} in a text", None],
        "ended": pa.array([1, 2, 3], pa.timestamp("ms", tz="UTC")),
    }
)
CONTENT = parquet_bytes(TABLE)


def test_a_flipped_bit_of_any_byte_is_found_or_changes_nothing() -> None:
    """Pages, their headers, the footer, the checksum itself."""
    found = 0
    for place in range(len(CONTENT)):
        broken = bytearray(CONTENT)
        broken[place] ^= 1 << place % 8
        try:
            assert parquet_table(bytes(broken)).equals(TABLE)
        except DamagedError:
            found += 1
    assert found >= len(CONTENT) - len(MARK)  # without its key, a digest is not looked for


@given(st.integers(0, len(CONTENT) - 1))
@settings(max_examples=30)
def test_a_file_that_is_cut_off_is_found(length: int) -> None:
    with pytest.raises(DamagedError):
        parquet_table(CONTENT[:length])


def test_other_programs_read_and_check_the_file(tmp_path: Path) -> None:
    (tmp_path / "part.parquet").write_bytes(CONTENT)
    assert pd.read_parquet(tmp_path)["trial"].tolist()[:2] == [1.0, 2.0]
    column = pq.read_metadata(tmp_path / "part.parquet").row_group(0).column(0)
    broken = bytearray(CONTENT)
    broken[column.data_page_offset + column.total_compressed_size - 2] ^= 1
    with pytest.raises(OSError, match=r"(?i)crc|checksum|corrupt"):
        pq.read_table(pa.BufferReader(bytes(broken)), page_checksum_verification=True)


def test_a_file_of_an_earlier_version_is_read() -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(TABLE, sink, compression="zstd")
    assert parquet_table(sink.getvalue().to_pybytes()).equals(TABLE)


def test_the_message_names_the_file(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_table("trials/part-000000.parquet", TABLE)
    path = tmp_path / "trials/part-000000.parquet"
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError) as caught:
        store.table("trials")
    assert str(caught.value) == (
        f"{path} is damaged (its SHA-256 is not that of its content): restore it from a copy, or "
        "resume the study, which goes on without it"
    )


def test_a_seal_that_is_cut_is_refused_also_of_nothing() -> None:
    assert unseal(seal(b"")) == b""
    with pytest.raises(DamagedError):
        unseal(seal(b"")[:-1])


@given(st.binary(max_size=80), st.data())
@settings(max_examples=40)
def test_sealed_content_is_whole_or_refused(content: bytes, data: st.DataObject) -> None:
    sealed = seal(content)
    assert unseal(sealed) == content
    place = data.draw(st.integers(0, len(sealed) - 1))
    broken = bytearray(sealed)
    broken[place] ^= data.draw(st.integers(1, 255))
    for bad in (bytes(broken), sealed[:place]):
        with pytest.raises(DamagedError):
            unseal(bad)


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def test_a_checkpoint_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    """Missing, truncated, flipped, unreadable: one error for each; foreign files do not matter."""
    study, path = str(tmp_path), tmp_path / "checkpoints/3-9.pt"
    saved = io.BytesIO()
    torch.save({"weights": torch.arange(300.0)}, saved)
    content = saved.getvalue()

    def refused(match: str) -> None:
        with pytest.raises(CheckpointError, match=match) as caught:
            load_checkpoint(study, 3, 9)
        assert "\n" not in str(caught.value)

    refused("there is no checkpoint")
    save_checkpoint(study, 3, 6, content)
    save_checkpoint(study, 3, 9, content)
    assert Store(study).names("checkpoints") == ["3-9.pt"]
    assert load_checkpoint(study, 3, 9) == content
    whole = path.read_bytes()
    for place in (0, 20, 71, 72, 500, len(whole) - 1):
        flip(path, place)
        refused("is damaged")
        path.write_bytes(whole)
    for length in (0, 7, 72, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused("is damaged")
    path.unlink()
    path.mkdir()
    refused("cannot read")
    path.rmdir()
    path.write_bytes(content)  # as earlier versions wrote it
    assert load_checkpoint(study, 3, 9) == content
    with zipfile.ZipFile(io.BytesIO(content)) as records:
        largest = max(records.infolist(), key=lambda info: info.file_size)
    flip(path, largest.header_offset + 600)
    refused("is damaged")
    path.write_bytes(content[:-40])
    refused("is damaged")
    for name in ("notes.txt", "a-b.pt", "3.pt", "x", "-1-2.pt"):
        (path.parent / name).write_text("mine")
    assert foreign_files(Store(study)) == ["-1-2.pt", "3.pt", "a-b.pt", "notes.txt", "x"]
    assert checkpoint_epochs(Store(study), 3) == 9


def test_a_checkpoint_that_cannot_be_written_is_its_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file in the way")
    with pytest.raises(CheckpointError, match="the checkpoint of trial 3 is not written: "):
        save_checkpoint(str(tmp_path), 3, 9, b"x")
