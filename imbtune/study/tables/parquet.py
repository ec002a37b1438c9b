"""Rows streamed to Parquet while the search runs, each row exactly once.

Rows gather in memory and go out as a new part file every few seconds; a part is never written
again. On disk they also go at once into a hidden file of lines beside the parts, so a search that
is killed loses none: :func:`recover`. In a bucket it loses those of its last seconds.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from imbtune.storage import Store
from imbtune.study.tables.schema import EPOCHS, trial_schema

Row = Mapping[str, Any]
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

    def epoch(self, row: Row) -> None:
        self._epochs.append(row)

    def trial(self, row: Row) -> None:
        self._trials.append(row)

    def flush(self) -> None:
        """Write what has gathered."""
        self._epochs.write()
        self._trials.write()

    def close(self) -> None:
        """Write what is left, and make each table one file."""
        self.flush()
        self._trials.compact()
        self._epochs.compact()


class _Table:
    """One folder of parts, and what gathers for the next one."""

    def __init__(self, store: Store, name: str, schema: pa.Schema) -> None:
        self._rows: list[Row] = []
        self._store, self._name, self._schema = store, name, schema
        self._parts = len(store.names(name))  # none of those that are there is written again
        if not self._parts:  # an empty first part: readers find the columns at once
            store.new_folder(name, "part-000000.parquet", pa.Table.from_pylist([], schema=schema))
            self._parts = 1

    def append(self, row: Row) -> None:
        self._rows.append(row)
        if path := self._lines():
            with path.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(row, default=dt.datetime.isoformat) + "\n")

    def write(self) -> None:
        if self._rows:
            self._write_part()

    def compact(self) -> None:
        if self._store.local:  # in a bucket that is not one step
            self._store.replace_folder(self._name, self._store.table(self._name))

    def _write_part(self) -> None:
        table = pa.Table.from_pylist(list(self._rows), schema=self._schema)
        self._store.write_table(f"{self._name}/part-{self._parts:06d}.parquet", table)
        if path := self._lines():
            path.unlink(missing_ok=True)
        self._rows.clear()
        self._parts += 1

    def _lines(self) -> Path | None:
        """The file of the rows that the next part will have."""
        folder = self._store.local and self._store.local / self._name
        return folder / f".part-{self._parts:06d}.jsonl" if folder else None


def recover(store: Store, name: str, schema: pa.Schema) -> None:
    """Make a part of the rows that a kill left outside of one; nothing where there are none."""
    if not store.local:
        return
    for path in sorted((store.local / name).glob(".part-*.jsonl")):
        part = f"{path.stem[1:]}.parquet"
        if part not in store.names(name):  # else the kill came right after it was written
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            rows = [_parsed(line, schema) for line in lines if line.endswith("\n")]
            store.write_table(f"{name}/{part}", pa.Table.from_pylist(rows, schema=schema))
        path.unlink()


def _parsed(line: str, schema: pa.Schema) -> Row:
    row = json.loads(line)
    times = [field.name for field in schema if pa.types.is_timestamp(field.type)]
    return {**row, **{name: dt.datetime.fromisoformat(row[name]) for name in times}}
