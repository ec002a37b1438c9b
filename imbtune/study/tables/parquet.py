"""Streams rows to Parquet while a search runs, each row exactly once.

A table is a folder of part files. The newest part grows: rows are buffered in memory, and every few
seconds the part is written again together with them, in one atomic step, until it has `ROWS` rows
and the next part begins. So a reader finds each row at most once at any moment, also while a search
is killed, and nothing is left to merge at the end.

The rows of trials are in the journal as well. Those of epochs are not: each is also appended
immediately to a hidden JSON Lines file beside the journal's local file, from which
:mod:`imbtune.study.tables.recover` restores the rows that a killed search had only buffered. For a
study in a bucket, a resume on another machine does not have this file, and these rows are lost.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from imbtune import strict_json
from imbtune.storage import Store
from imbtune.study.tables.schema import EPOCHS, trial_schema

Row = Mapping[str, Any]
Key = tuple[int, str, int, int]  # of a row of an epoch: trial, phase, budget, epoch
KEY = ("trial", "phase", "budget", "epoch")
MODES = ("off", "offline", "online")  # of W&B, which gets the same rows
TRIALS, EPOCHS_NAME = "trials", "epochs"  # the folders
# Rows of a part. Such a part is written in 0.1 s at most, and has about 5 MB for 100 classes.
ROWS = {TRIALS: 1000, EPOCHS_NAME: 5000}
PART = re.compile(r"part-(\d+)\.parquet")
BUFFER = ".epochs.jsonl"  # the rows of epochs that no part has yet


def epoch_key(row: Row) -> Key:
    """What no two rows of the epochs' table share."""
    return row["trial"], row["phase"], row["budget"], row["epoch"]


class Sink(Protocol):
    """A destination of a search's rows: Parquet, or the trackers."""

    def epoch(self, row: Row) -> None:
        """Add a row of the epochs' table."""

    def trial(self, row: Row) -> None:
        """Add the row of a trial that has ended."""

    def flush(self) -> None:
        """Write the buffered rows; StorageError where the storage fails, and they stay buffered."""

    def close(self) -> None:
        """Write the buffered rows, for as long as that may take; no more rows follow."""


class GrowingTable:
    """A folder of part files, of which the newest one grows.

    Args:
        name: of the folder.
        schema: of the rows, and of the newest part.
    """

    def __init__(self, store: Store, name: str, schema: pa.Schema) -> None:
        self._name, self._schema, self._number = name, schema, 0
        self._newest = schema.empty_table()
        parts = store.parts(name)
        if not parts:  # an empty part, so that readers find the columns immediately
            store.write_table(self._path(), self._newest)
        numbers = [int(match[1]) for match in map(PART.fullmatch, parts) if match]
        if numbers:
            self._number = max(numbers)
            newest = store.part(self._path())
            if newest.schema.equals(schema):
                self._grow(newest)
            else:  # a foreign file
                self._number += 1

    def write(self, store: Store, rows: Sequence[Row]) -> None:
        """Add rows, in one atomic step.

        Args:
            store: the study's folder, with the patience that this write has.

        Raises:
            StorageError: the storage failed; the table is as before.
        """
        new = pa.Table.from_pylist(list(rows), schema=self._schema)
        part = pa.concat_tables([new.schema.empty_table(), self._newest, new])
        store.write_table(self._path(), part)
        self._grow(part)

    def _grow(self, part: pa.Table) -> None:
        """Go on with what the newest part has now; the next one begins where it has enough."""
        self._newest = part
        if part.num_rows >= ROWS[self._name]:
            self._newest, self._number = self._schema.empty_table(), self._number + 1

    def _path(self) -> str:
        return f"{self._name}/part-{self._number:06d}.parquet"


class ParquetSink:
    """Writes `trials/*.parquet` and `epochs/*.parquet` in a study's folder.

    Args:
        knobs: the type of every setting that a trial of the study may have.
        local: the local folder for the rows of epochs that no part has yet, which is that of the
            journal's file; None for the study's own folder, or for none if it is in a bucket.
    """

    def __init__(self, store: Store, knobs: Mapping[str, type], local: Store | None = None) -> None:
        self._store = store
        self._local = local or (store if store.local else None)
        self._tables = {
            EPOCHS_NAME: GrowingTable(store, EPOCHS_NAME, EPOCHS),
            TRIALS: GrowingTable(store, TRIALS, trial_schema(knobs)),
        }
        self._rows: dict[str, list[Row]] = {name: [] for name in self._tables}

    def epoch(self, row: Row) -> None:
        self._rows[EPOCHS_NAME].append(row)
        if self._local:
            line = strict_json.dumps(row, default=_as_text) + "\n"
            try:
                self._local.append(BUFFER, line.encode())
            except OSError:  # the row is buffered in memory, and the next flush says what is wrong
                return

    def trial(self, row: Row) -> None:
        self._rows[TRIALS].append(row)

    def flush(self) -> None:
        """Try once to write the buffered rows.

        Raises:
            StorageError: the storage failed; the rows stay buffered.
        """
        self._write(self._store.with_patience(0))

    def close(self) -> None:
        """Write the buffered rows.

        Raises:
            StorageError: the storage failed for too long.
        """
        self._write(self._store)

    def _write(self, store: Store) -> None:
        for name, rows in self._rows.items():
            if rows:
                self._tables[name].write(store, rows)
                rows.clear()
                if name == EPOCHS_NAME and self._local:
                    self._local.delete(BUFFER)


def parsed_epoch(line: bytes) -> Row | None:
    """The row that `ParquetSink.epoch` wrote as this line; None for a damaged line."""
    try:
        row = json.loads(line)
        for field in EPOCHS:
            value = row.get(field.name)
            if pa.types.is_timestamp(field.type):
                row[field.name] = dt.datetime.fromisoformat(value)
            elif pa.types.is_list(field.type) and value is not None:  # a number for each class
                row[field.name] = strict_json.nan_for_null(value)
        pa.Table.from_pylist([row], schema=EPOCHS)
    except (ValueError, TypeError, AttributeError, OverflowError, pa.ArrowException):
        return None
    whole = all(row.get(name) is not None for name in KEY)
    parsed: Row = row
    return parsed if whole else None


def _as_text(value: object) -> str:
    assert isinstance(value, dt.datetime)
    return value.isoformat()
