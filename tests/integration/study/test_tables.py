"""The study on disk where writers are killed, in S3, and as W&B files."""

from __future__ import annotations

import multiprocessing
import os
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from table_rows import KNOBS, epoch_row, trial_row
from wandb.proto import wandb_internal_pb2 as pb

from imbtune.storage import Store, join
from imbtune.study.tables.parquet import ParquetSink, recover
from imbtune.study.tables.schema import EPOCHS
from imbtune.study.tables.wandb import WandbSink


def stream_until_killed(place: str) -> None:
    """Rows without end, three to a part; `told` says how many have been handed over."""
    sink = ParquetSink(Store(place), KNOBS)
    with Path(place, "told").open("w") as told:
        for epoch in range(10**6):
            sink.epoch(epoch_row(0, epoch))
            told.write(".")
            told.flush()
            if epoch % 3 == 2:
                sink.flush()


def test_a_killed_writer_loses_no_row_and_leaves_no_broken_file(tmp_path: Path) -> None:
    """SIGKILL in the middle of writing, several times; a reader looks in all the while."""
    for attempt in range(5):
        place = tmp_path / f"study{attempt}"
        writer = multiprocessing.get_context("spawn").Process(
            target=stream_until_killed, args=(str(place),)
        )
        writer.start()
        assert writer.pid
        while len(list(place.glob("epochs/part-*.parquet"))) < 20 + attempt * 7:
            time.sleep(0.01)
        seen = len(pd.read_parquet(place / "epochs"))
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        epochs = list(pd.read_parquet(place / "epochs")["epoch"])
        assert epochs == list(range(len(epochs)))
        assert len(epochs) >= seen
        store = Store(str(place))
        recover(store, "epochs", EPOCHS)
        rows = store.table("epochs").to_pylist()
        assert [row["epoch"] for row in rows] == list(range(len(rows)))
        assert len(rows) >= (place / "told").stat().st_size
        assert rows[-1] | {"epoch": 0, "time": rows[0]["time"]} == rows[0]
        assert rows[0]["time"] <= rows[-1]["time"]
        assert not list(place.rglob(".*part-*"))


def compact_again_and_again(place: str) -> None:
    store = Store(place)
    while True:
        store.replace_folder("epochs", store.table("epochs"))


def test_a_reader_and_a_kill_never_find_a_table_missing_or_twice(tmp_path: Path) -> None:
    """One process compacts without end and is killed; every look finds all rows once."""
    store = Store(str(tmp_path))
    store.write_table("epochs/part.parquet", pa.table({"epoch": [1, 2, 3]}))
    writer = multiprocessing.get_context("spawn").Process(
        target=compact_again_and_again, args=(str(tmp_path),)
    )
    writer.start()
    assert writer.pid
    looks = 0
    while looks < 300 or not (tmp_path / "epochs" / "all.parquet").exists():
        assert (tmp_path / "epochs").is_dir()
        assert len(list((tmp_path / "epochs").glob("[!.]*"))) == 1
        looks += 1
        time.sleep(0.01)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert pd.read_parquet(tmp_path / "epochs")["epoch"].tolist() == [1, 2, 3]


def test_a_study_in_a_bucket(bucket: str) -> None:
    store = Store(join(bucket, "one"))
    assert store.is_empty()
    store.create()
    sink = ParquetSink(store, KNOBS)
    for epoch in range(3):
        sink.epoch(epoch_row(0, epoch))
        sink.flush()
    sink.trial(trial_row(0))
    sink.close()
    store.write("study.yaml", b"name: one")
    assert store.read("study.yaml") == b"name: one"
    assert store.table("epochs")["epoch"].to_pylist() == [0, 1, 2]
    assert store.table("trials")["mix"].to_pylist() == ["mamix"]
    assert not store.is_empty()
    assert Store(join(bucket, "two")).is_empty()


def wandb_records(path: Path) -> Iterator[Any]:
    """The records of a .wandb file: W&B's protobufs in LevelDB's log format."""
    content, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        block_left = 32768 - at % 32768
        if block_left < 7:
            at += block_left
            continue
        _, size, kind = struct.unpack_from("<IHB", content, at)
        record += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last piece
            yield pb.Record.FromString(record)  # type: ignore[attr-defined]
            record = b""


def whole_run_of(path: Path) -> list[Any]:
    """All records of a run that has ended; W&B's own process may still be writing them."""
    deadline = time.monotonic() + 60
    while not any(record.HasField("exit") for record in wandb_records(path)):
        assert time.monotonic() < deadline, f"{path} never ended"
        time.sleep(0.05)
    return list(wandb_records(path))


def test_wandb_offline_writes_real_run_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two trials at a time in one process; the files hold what was logged."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    configs = {0: {"mix": "mamix"}, 1: {"mix": "none"}}
    sink = WandbSink("project", "study", "offline", tmp_path, configs)
    for epoch in range(3):
        sink.epoch(epoch_row(0, epoch))
        sink.epoch(epoch_row(1, epoch))
    sink.trial(trial_row(0))
    sink.trial({**trial_row(1), "state": "FAIL"})
    sink.close()
    found = {}
    for path in tmp_path.glob("wandb/offline-run-*/run-*.wandb"):
        records = whole_run_of(path)
        (run,) = [r.run for r in records if r.HasField("run")]
        (end,) = [r.exit.exit_code for r in records if r.HasField("exit")]
        losses = [
            float(item.value_json)
            for r in records
            if r.HasField("history")
            for item in r.history.item
            if "loss" in (item.key, *item.nested_key)
        ]
        found[run.display_name] = (run.project, run.run_group, losses, end)
    assert found == {
        "study-0": ("project", "study", [1.5] * 3, 0),
        "study-1": ("project", "study", [1.5] * 3, 1),
    }
