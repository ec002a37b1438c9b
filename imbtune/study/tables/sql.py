"""SQL over the tables of one or several studies, with DuckDB. A query only reads.

DuckDB gets the rows from :func:`imbtune.study.tables.own_files.own_table`, so that a query sees the
rows that all of imbtune sees. It opens no file itself, installs no extension, and has no setting
that a query could change.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from imbtune.errors import ConfigError
from imbtune.storage import Store
from imbtune.study.tables.own_files import COLUMNS, own_table

if TYPE_CHECKING:
    import duckdb

STUDY = "study"  # the column with the study's name
VIEWS = tuple(COLUMNS)  # trials, epochs, finals, predictions, scores, classes
PRUNED = "epochs"  # the table that may have millions of rows: only the columns in use are read
SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,  # neither files nor other databases
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,  # a query does not see this process's variables
    "temp_directory": "",  # nothing is written where the memory does not suffice
}


def query(paths: Sequence[str], sql: str) -> pa.Table:
    """The result of a query over the tables of studies.

    The views, one for each table, `trials`, `epochs` and so on, have the rows of all of the
    studies, with the columns of all of them; what a study does not have is null. Their first
    column, `study`, is the study's name; where two studies have one name, it is the path as given.

    Args:
        paths: folders or URIs of studies.
        sql: one SELECT in DuckDB's SQL.

    Returns:
        The rows. No two columns have the same name.

    Raises:
        ConfigError: the query cannot be run; DuckDB's message in one line.
        StudyError: a table is damaged.
    """
    import duckdb

    names = _names(paths)
    stores = {names[path]: Store(path) for path in paths}
    connection = duckdb.connect(":memory:", config=SETTINGS)
    try:
        _check_reads(connection, sql)
        views = [view for view in VIEWS if _may_name(sql, view)]
        for view in views:
            _make_view(connection, view, _first_tables(stores, view))
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET lock_configuration = true")
        if PRUNED in views:
            columns = _columns_read(connection, sql)
            for i, store in enumerate(stores.values()):
                table = own_table(store, PRUNED, COLUMNS[PRUNED][1], columns)
                connection.register(f"{PRUNED}-{i}", _whole(table, COLUMNS[PRUNED][1]))
        result = connection.sql(sql)
        found: pa.Table = result.to_arrow_table()
    except (duckdb.Error, pa.ArrowException) as error:
        raise _explained(error) from error
    finally:
        connection.close()
    return _plain(found)


def _names(paths: Sequence[str]) -> dict[str, str]:
    """The name of each study: of its folder, or its whole path where two folders have one name."""
    folders = {path: PurePosixPath(path.partition("?")[0]).name for path in paths}
    counts = Counter(folders.values())
    return {path: name if counts[name] == 1 else path for path, name in folders.items()}


def _check_reads(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """ConfigError unless the text is one statement that only reads."""
    import duckdb

    kinds = [statement.type for statement in connection.extract_statements(sql)]
    if len(kinds) != 1:
        raise ConfigError(f"the query has {len(kinds)} statements: give one SELECT")
    (kind,) = kinds
    reading = duckdb.StatementType
    # MULTI is a PIVOT, which DuckDB runs in two steps
    if kind not in (reading.SELECT, reading.EXPLAIN, reading.MULTI):
        raise ConfigError(f"the query is a {kind.name}: a query only reads: give a SELECT")


def _may_name(sql: str, view: str) -> bool:
    """Whether a query may read a view: its name, or a function that makes names, is in it."""
    return re.search(rf"{view}|\bquery", sql, re.IGNORECASE) is not None


def _first_tables(stores: Mapping[str, Store], view: str) -> dict[str, pa.Table]:
    """Each study's rows; of the table that is pruned one empty row, to see what is read of it."""
    schema = COLUMNS[view][1]
    if view == PRUNED:
        row = pa.table([pa.nulls(1, field.type) for field in schema], schema=schema)
        return dict.fromkeys(stores, row)
    return {name: own_table(store, view, schema) for name, store in stores.items()}


def _make_view(
    connection: duckdb.DuckDBPyConnection, view: str, tables: Mapping[str, pa.Table]
) -> None:
    """A view of the rows of all studies, with the columns of all of them and of this version."""
    connection.register(f"{view}-columns", COLUMNS[view][1].empty_table())
    parts = [f'SELECT NULL::VARCHAR AS {STUDY}, * FROM "{view}-columns" WHERE false']
    for i, (name, table) in enumerate(tables.items()):
        own = [column for column in table.column_names if column.lower() != STUDY]
        connection.register(f"{view}-{i}", table.select(own))
        text = name.replace("'", "''")
        parts.append(f"SELECT '{text}' AS {STUDY}, * FROM \"{view}-{i}\"")
    connection.execute(f"CREATE VIEW {view} AS {' UNION ALL BY NAME '.join(parts)}")


def _columns_read(connection: duckdb.DuckDBPyConnection, sql: str) -> set[str] | None:
    """The columns that DuckDB's plan of a query reads, of any table; None for perhaps all."""
    import duckdb

    (statement,) = connection.extract_statements(sql)
    if statement.type != duckdb.StatementType.SELECT:
        return None
    ((_, plan),) = connection.execute(f"EXPLAIN (FORMAT json) {sql}").fetchall()
    found: set[str] = set()
    for node in _nodes(json.loads(plan)):
        if "ARROW_SCAN" in str(node.get("name")).upper().replace(" ", "_"):
            read = node["extra_info"].get("Projections", [])
            found |= {read} if isinstance(read, str) else set(read)
    return found


def _nodes(plan: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for node in plan:
        yield node
        yield from _nodes(node["children"])


def _whole(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with all columns of a schema; those that were not read are null, and share memory.

    Columns that the schema does not have are left out.
    """
    chunks = []
    longest = max((batch.num_rows for batch in table.to_batches()), default=0)
    nulls = {field.name: pa.nulls(longest, field.type) for field in schema}
    for batch in table.to_batches():
        columns = [
            batch[field.name].cast(field.type)
            if field.name in table.column_names
            else nulls[field.name].slice(0, batch.num_rows)
            for field in schema
        ]
        chunks.append(pa.record_batch(columns, schema=schema))
    return pa.Table.from_batches(chunks, schema=schema)


def _explained(error: Exception) -> ConfigError:
    """DuckDB's error without the copy of the query that follows it."""
    text = str(error).partition("\n\nLINE ")[0].partition("\nLINE ")[0]
    if "Table with name" in text:  # DuckDB would suggest one of its own
        text = f"{text.partition('!')[0]}: the views are {', '.join(VIEWS)}"
    return ConfigError(f"the query: {' '.join(text.split())}")


def _plain(table: pa.Table) -> pa.Table:
    """The result with types that pandas and files have, and with a name of its own per column."""
    columns, names = [], list[str]()
    for column, field in zip(table.columns, table.schema, strict=True):
        if pa.types.is_decimal(field.type):  # of sums of whole numbers
            exact = field.type.scale == 0
            try:
                column = column.cast(pa.int64() if exact else pa.float64())
            except pa.ArrowInvalid:  # too large for an integer
                column = column.cast(pa.float64())
        elif pa.types.is_interval(field.type):
            column = pa.array([None if v is None else str(v) for v in column.to_pylist()])
        numbered = (f"{field.name}_{number}" if number else field.name for number in count())
        names.append(next(name for name in numbered if name not in names))
        columns.append(column)
    return pa.table(columns, names=names)
