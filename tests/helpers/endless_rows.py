"""A writer of rows that a test kills, in a module of its own: a spawned process imports no more."""

from __future__ import annotations

from pathlib import Path

from table_rows import KNOBS, epoch_row

from imbtune.storage import Store
from imbtune.study.tables.parquet import ParquetSink


def stream_until_killed(place: str) -> None:
    """Rows without end, flushed three at a time; `told` says how many have been handed over."""
    sink = ParquetSink(Store(place), KNOBS)
    with Path(place, "told").open("w") as told:
        for epoch in range(10**6):
            sink.epoch(epoch_row(0, epoch))
            told.write(".")
            told.flush()
            if epoch % 3 == 2:
                sink.flush()
