"""Streams rows to Parquet while a search runs, each row exactly once.

Rows are buffered in memory and written as a new part file every few seconds; a part file is never
changed. In a local study each row is also appended immediately to a hidden JSON Lines file in the
study's folder, from which :func:`recover` restores the rows that a killed search had only buffered.
In a bucket these rows are lost.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from imbtune import strict_json
from imbtune.storage import Store
from imbtune.study.tables.schema import EPOCHS, trial_schema

Row = Mapping[str, Any]
Key = tuple[int, str, int, int]  # of a row of an epoch: trial, phase, budget, epoch
MODES = ("off", "offline", "online")  # of W&B, which gets the same rows


def epoch_key(row: Row) -> Key:
    """What no two rows of the epochs' table share."""
    return row["trial"], row["phase"], row["budget"], row["epoch"]


class Sink(Protocol):
    """A destination of a study's rows: Parquet or W&B."""

    def epoch(self, row: Row) -> None:
        """Add a row of the epochs' table."""

    def trial(self, row: Row) -> None:
        """Add the row of a trial that has ended."""

    def flush(self) -> None:
        """Write the buffered rows."""

    def close(self) -> None:
        """Write the buffered rows; no more rows follow."""


class ParquetSink:
    """Writes `trials/*.parquet` and `epochs/*.parquet` in a study's folder.

    Args:
        knobs: the type of every setting that a trial of the study may have.
    """

    def __init__(self, store: Store, knobs: Mapping[str, type]) -> None:
        self._trials = _Table(store, "trials", trial_schema(knobs))
        self._epochs = _Table(store, "epochs", EPOCHS)

    def epoch(self, row: Row) -> None:
        self._epochs.append(row)

    def trial(self, row: Row) -> None:
        self._trials.append(row)

    def flush(self) -> None:
        """Write the buffered rows as new part files."""
        self._epochs.write()
        self._trials.write()

    def close(self) -> None:
        """Write the buffered rows, and merge the part files of each table into one."""
        self.flush()
        self._trials.compact()
        self._epochs.compact()


class _Table:
    """A folder of part files, and the buffered rows of the next part."""

    def __init__(self, store: Store, name: str, schema: pa.Schema) -> None:
        self._rows: list[Row] = []
        self._store, self._name, self._schema = store, name, schema
        self._parts = len(store.names(name))  # number of the next part; earlier ones stay as is
        if not self._parts:  # an empty first part, so that readers find the columns immediately
            store.write_table(f"{name}/part-000000.parquet", schema.empty_table())
            self._parts = 1

    def append(self, row: Row) -> None:
        self._rows.append(row)
        if path := self._lines_path():
            with path.open("a", encoding="utf-8") as lines:
                lines.write(strict_json.dumps(row, default=_as_text) + "\n")

    def write(self) -> None:
        if self._rows:
            self._write_part()

    def compact(self) -> None:
        if self._store.local:  # a bucket cannot replace a folder in one step
            self._store.replace_folder(self._name, self._store.table(self._name))

    def _write_part(self) -> None:
        table = pa.Table.from_pylist(list(self._rows), schema=self._schema)
        self._store.write_table(f"{self._name}/part-{self._parts:06d}.parquet", table)
        if path := self._lines_path():
            path.unlink(missing_ok=True)
        self._rows.clear()
        self._parts += 1

    def _lines_path(self) -> Path | None:
        """The JSON Lines file with the rows of the next part; None in a bucket."""
        folder = self._store.local
        return folder / f".{self._name}-part-{self._parts:06d}.jsonl" if folder else None


def recover(store: Store, name: str, schema: pa.Schema) -> None:
    """Write the rows that a killed search had only buffered as part files.

    Args:
        name: of the table, `trials` or `epochs`.
    """
    if not store.local:
        return
    written = [*store.local.glob(f".{name}-part-*.jsonl")]
    written += (store.local / name).glob(".part-*.jsonl")  # where earlier versions wrote them
    for path in sorted(written):
        part = f"part-{path.stem.rpartition('-')[2]}.parquet"
        if part not in store.names(name):  # else the search was killed after writing the part
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            rows = [_parsed(line, schema) for line in lines if line.endswith("\n")]
            store.write_table(f"{name}/{part}", pa.Table.from_pylist(rows, schema=schema))
        path.unlink()
    store.remove_leftovers(name)


def _as_text(value: object) -> str:
    assert isinstance(value, dt.datetime)
    return value.isoformat()


def _parsed(line: str, schema: pa.Schema) -> Row:
    """A row that `append` wrote."""
    row = json.loads(line)
    for field in schema:
        value = row.get(field.name)
        if pa.types.is_timestamp(field.type):
            row[field.name] = dt.datetime.fromisoformat(value)
        elif pa.types.is_list(field.type) and value is not None:  # of a number for each class
            row[field.name] = strict_json.nan_for_null(value)
    parsed: Row = row
    return parsed
