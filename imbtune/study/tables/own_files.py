"""The files of a study's tables, without foreign ones: other programs may have left some there."""

from __future__ import annotations

import re
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from imbtune.errors import DamagedFileError, StudyError
from imbtune.storage import Store, join
from imbtune.storage.store import AT_A_TIME
from imbtune.study.tables.schema import (
    CLASSES,
    EPOCHS,
    FINALS,
    PREDICTIONS,
    SCORES,
    trial_schema,
)

# By folder: the columns that each of its files has, without nulls, and the types of its columns
COLUMNS = {
    "trials": (("trial", "state"), trial_schema({})),
    "epochs": (("trial", "phase", "budget", "epoch"), EPOCHS),
    "finals": (("trial", "seed", "score"), FINALS),
    "predictions": (("trial", "seed", "label", "predicted"), PREDICTIONS),
    "scores": (tuple(SCORES.names), SCORES),
    "classes": (tuple(CLASSES.names), CLASSES),
}
# The names of all versions. A damaged file with another name is foreign
NAMES = re.compile(r"(part-\d+|all(-\d+)?|\d+-\d+)\.parquet")


class ForeignFileError(StudyError):
    """A file of a table's folder that imbtune has not written."""


def own_part(
    store: Store, folder: str, name: str, columns: Collection[str] | None = None
) -> pa.Table:
    """The rows of a file of a table, as they are in it; all but the needed columns may be missing.

    Args:
        columns: those that are decoded beside the needed ones; None for all.

    Raises:
        ForeignFileError: imbtune has not written it.
        DamagedFileError: it is damaged.
    """
    foreign = ForeignFileError(
        f"{join(store.path, f'{folder}/{name}')} is no file of imbtune's: it is not used"
    )
    try:
        wanted = columns if columns is None else {*columns, *COLUMNS[folder][0]}
        part = store.part(f"{folder}/{name}", wanted)
    except DamagedFileError as error:
        if folder in COLUMNS and not NAMES.fullmatch(name):
            raise foreign from error
        raise
    if folder not in COLUMNS:
        return part
    needed, _ = COLUMNS[folder]
    once = all(part.column_names.count(column) == 1 for column in needed)
    if not once or any(part[column].null_count for column in needed):
        raise foreign
    try:
        _typed(folder, part)
    except pa.ArrowException as error:
        raise foreign from error
    return part


def own_table(
    store: Store,
    folder: str,
    empty: pa.Schema | None = None,
    columns: Collection[str] | None = None,
) -> pa.Table:
    """All rows of a table, in the order of the files' names.

    Args:
        empty: the columns where there is no file; None where a file must be there.
        columns: those that are decoded beside the needed ones; None for all.

    Raises:
        DamagedFileError: a file is damaged.
        StudyError: there is none.
    """

    def rows(name: str) -> pa.Table | None:
        try:
            return _typed(folder, own_part(store, folder, name, columns))
        except ForeignFileError:
            return None

    with ThreadPoolExecutor(AT_A_TIME) as threads:
        found = [part for part in threads.map(rows, store.parts(folder)) if part is not None]
    if not found and empty is not None:
        return empty.empty_table()
    if not found:
        raise StudyError(
            f"the table {join(store.path, folder)} has no files: restore them from a copy"
        )
    return pa.concat_tables(found, promote_options="permissive")


def with_columns(part: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with the columns of a schema: missing ones are null, others are left out."""
    missing = pa.nulls(part.num_rows)
    columns = [
        (part[field.name] if field.name in part.column_names else missing).cast(field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _typed(folder: str, part: pa.Table) -> pa.Table:
    """The rows with the types that the table's columns have; ArrowException where that fails."""
    schema = COLUMNS[folder][1]
    fields = [schema.field(f.name) if f.name in schema.names else f for f in part.schema]
    return part.cast(pa.schema(fields))
