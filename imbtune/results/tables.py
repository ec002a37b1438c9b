"""Rows streamed to Parquet while the search runs, each row exactly once.

Rows gather in memory and go out as a new part file every few seconds; a part is never written
again. A search that is killed loses the rows of its last seconds and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

import pyarrow as pa

from imbtune.results.schema import EPOCHS, trial_schema
from imbtune.results.store import Store

Row = Mapping[str, Any]
FLUSH_SECONDS = 5.0
MODES = ("off", "offline", "online")  # of W&B, which gets the rows beside Parquet


class Sink(Protocol):
    """Where a study's rows go. Both W&B and Parquet get the same ones."""

    def epoch(self, row: Row) -> None: ...
    def trial(self, row: Row) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class ParquetSink:
    """`trials/*.parquet` and `epochs/*.parquet` in a study's folder."""

    def __init__(self, store: Store, knobs: Mapping[str, type]) -> None:
        self._trials = _Table(store, "trials", trial_schema(knobs))
        self._epochs = _Table(store, "epochs", EPOCHS)
        self._flushed = time.monotonic()

    def epoch(self, row: Row) -> None:
        self._epochs.rows.append(row)

    def trial(self, row: Row) -> None:
        self._trials.rows.append(row)

    def flush(self) -> None:
        """Write what has gathered, at most every few seconds."""
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self._write()

    def close(self) -> None:
        """Write what is left, and make each table one file."""
        self._write()
        self._trials.compact()
        self._epochs.compact()

    def _write(self) -> None:
        self._epochs.write()
        self._trials.write()
        self._flushed = time.monotonic()


class _Table:
    """One folder of parts."""

    def __init__(self, store: Store, name: str, schema: pa.Schema) -> None:
        self.rows: list[Row] = []
        self._store, self._name, self._schema = store, name, schema
        self._parts = len(store.names(name))  # none of those that are there is written again
        self._write_part()  # an empty first part: readers find the columns at once

    def write(self) -> None:
        if self.rows:
            self._write_part()

    def compact(self) -> None:
        if self._store.local:  # in a bucket that is not one step
            self._store.replace_folder(self._name, self._store.table(self._name))

    def _write_part(self) -> None:
        table = pa.Table.from_pylist(list(self.rows), schema=self._schema)
        self._store.write_table(f"{self._name}/part-{self._parts:06d}.parquet", table)
        self.rows.clear()
        self._parts += 1
