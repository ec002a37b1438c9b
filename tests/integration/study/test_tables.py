"""The study on disk where writers are killed, and in S3."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pandas as pd
from endless_rows import stream_until_killed
from table_rows import KNOBS, epoch_row, trial_row

from imbtune.storage import Store, join
from imbtune.study.tables.parquet import ParquetSink
from imbtune.study.tables.recover import restore_epochs


def test_a_killed_writer_loses_no_row_and_leaves_no_broken_file(tmp_path: Path) -> None:
    """SIGKILL in the middle of writing, several times; a reader looks in all the while."""
    for attempt in range(5):
        place = tmp_path / f"study{attempt}"
        writer = multiprocessing.get_context("spawn").Process(
            target=stream_until_killed, args=(str(place),)
        )
        writer.start()
        assert writer.pid
        seen = 0
        while not (place / "epochs").exists():
            assert writer.is_alive()
            time.sleep(0.02)
        while seen < 60 + attempt * 21:
            epochs = list(pd.read_parquet(place / "epochs")["epoch"])
            assert epochs == list(range(len(epochs))) and len(epochs) >= seen
            seen = len(epochs)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        epochs = list(pd.read_parquet(place / "epochs")["epoch"])
        assert epochs == list(range(len(epochs)))
        assert len(epochs) >= seen
        store = Store(str(place))
        store.remove_leftovers()
        restore_epochs(store, [], set(), print)
        rows = store.table("epochs").to_pylist()
        assert [row["epoch"] for row in rows] == list(range(len(rows)))
        assert len(rows) >= (place / "told").stat().st_size
        assert rows[-1] | {"epoch": 0, "time": rows[0]["time"]} == rows[0]
        assert rows[0]["time"] <= rows[-1]["time"]
        assert {path.name for path in place.iterdir()} == {"epochs", "trials", "told"}


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
