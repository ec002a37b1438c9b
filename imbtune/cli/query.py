"""`imbtune query`: SQL over studies, printed as a table or written to a file."""

from __future__ import annotations

import datetime as dt
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.table import Table

from imbtune import strict_json
from imbtune.cli.settings import make_console, print_text
from imbtune.errors import ConfigError, printable, shown, some_of, unknown
from imbtune.paths import is_uri, local_path, path_or_uri
from imbtune.progress import line_width

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("table", "csv", "json", "markdown", "parquet")
SUFFIXES = {".csv": "csv", ".json": "json", ".md": "markdown", ".parquet": "parquet"}
MOST_ROWS = 100  # of a table that is printed
LONGEST = 40  # characters of a cell that is printed
# How SQL that reads, or a try to write, begins
STATEMENT = (
    r"(select|with|from|values|table|describe|desc|show|summarize|pivot|unpivot|explain|"
    r"create|copy|insert|update|delete|drop|attach|set|pragma)\s"
)
ALL = "--out FILE.csv writes all"


def query_command(places: Sequence[str], sql: str, style: str | None, out: str | None) -> None:
    """Print the result of a query, or write it to a file.

    Args:
        places: studies, or folders and buckets of studies.
        style: one of `FORMATS`; None for the one of the file's name, or else a table.
        out: a new file; None for standard output.
    """
    if not sql.strip():
        raise ConfigError(f"the query '{sql}': it is empty: give a SELECT")
    _check_order(places, sql)
    kind, path = _target(style, out)
    given = [path_or_uri("the study", place) for place in places]

    from imbtune.study.tables.find_studies import studies_in
    from imbtune.study.tables.sql import query

    studies = list(dict.fromkeys(study for place in given for study in studies_in(place)))
    result = query(studies, sql)
    if kind == "table":
        _print_table(result)
    elif path is None:
        sys.stdout.write(_content(result, kind).decode())
    else:
        content = _content(result, kind)
        try:
            with path.open("xb") as file:
                file.write(content)
        except OSError as error:
            raise ConfigError(f"--out {path}: {error.strerror}: give another file") from error
        rows = f"{result.num_rows:,} row{'s' * (result.num_rows != 1)}"
        print_text(f"{rows} written to {path}", make_console())


def _check_order(places: Sequence[str], sql: str) -> None:
    """ConfigError where the query is not the last argument, or there is no study or no query."""
    order = 'give the studies first, then the query: imbtune query STUDY… "SELECT …"'
    if not places and not _is_query(sql):
        raise ConfigError(f"no query is given after the study {shown(sql)}: {order}")
    if not places:
        raise ConfigError(f"no study is given before the query {shown(sql)}: {order}")
    if queries := [place for place in places if _is_query(place)]:
        raise ConfigError(f"the query {shown(queries[0])} is not the last argument: {order}")
    if not _is_query(sql) and (is_uri(sql) or Path(local_path("the query", sql)).exists()):
        raise ConfigError(f"the last argument, {shown(sql)}, is a study and no query: {order}")


def _is_query(text: str) -> bool:
    """Whether a text begins as SQL does, and is no file or folder."""
    words = re.sub(r"--[^\n]*|/\*.*?\*/", " ", text, flags=re.DOTALL).lstrip("( \n\t").lower()
    return bool(re.match(STATEMENT, words)) and not os.path.lexists(text)


def _target(style: str | None, out: str | None) -> tuple[str, Path | None]:
    """The format, and the file; ConfigError where they cannot be."""
    if style is not None and style not in FORMATS:
        raise unknown("value for --format", style, FORMATS)
    if out is None:
        if style == "parquet":
            raise ConfigError("--format parquet is not text: give --out FILE, too")
        return style or "table", None
    path = Path(local_path("--out", out))
    kind = style or SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ConfigError(
            f"--out {path}: give a name that ends in {', '.join(SUFFIXES)}, or --format"
        )
    if kind == "table":
        raise ConfigError("--format table is printed: give another one with --out, such as csv")
    if path.exists():
        raise ConfigError(f"--out {path} exists: give another file")
    if not path.parent.is_dir():
        raise ConfigError(f"--out {path}: there is no folder {path.parent}: create it")
    return kind, path


def _content(result: pa.Table, kind: str) -> bytes:
    """The result as a file has it."""
    import pyarrow.csv
    import pyarrow.parquet

    sink = io.BytesIO()
    if kind == "parquet":
        pyarrow.parquet.write_table(result, sink)
    elif kind == "csv":
        pyarrow.csv.write_csv(_flat(result), sink)
    elif kind == "json":
        rows = (strict_json.dumps(row, default=_text) for row in _rows(result))
        for number, row in enumerate(rows):
            sink.write(("[\n" if number == 0 else ",\n").encode() + row.encode())
        sink.write(b"\n]\n" if result.num_rows else b"[]\n")
    else:
        from imbtune.study.results.layout import escape_markdown

        lines = [[*map(escape_markdown, result.column_names)], ["---"] * result.num_columns]
        lines += [[escape_markdown(_text(v)) for v in row.values()] for row in _rows(result)]
        sink.writelines(f"| {' | '.join(line)} |\n".encode() for line in lines)
    return sink.getvalue()


def _rows(result: pa.Table) -> Iterator[dict[str, object]]:
    for batch in result.to_batches(max_chunksize=10_000):
        yield from batch.to_pylist()


def _flat(result: pa.Table) -> pa.Table:
    """The result with lists and structures as JSON, which a CSV file can hold."""
    import pyarrow as pa

    columns = []
    for column in result.columns:
        if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
            texts = [None if v is None else _text(v) for v in column.to_pylist()]
            column = pa.array(texts, pa.string())
        columns.append(column)
    return pa.table(columns, names=result.column_names)


def _text(value: object) -> str:
    """A value as a cell of CSV or Markdown; null is empty."""
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | dict):
        return strict_json.dumps(value, default=_text)
    return str(value)


def _print_table(result: pa.Table) -> None:
    """Print a table: on a terminal the columns that fit, from the left."""
    console = make_console()
    shown = result.slice(0, MOST_ROWS).to_pylist()
    columns = {name: [_cell(row[name]) for row in shown] for name in map(str, result.column_names)}
    widths = {
        name: max(map(cell_len, [printable(name), *cells])) + 3 for name, cells in columns.items()
    }
    fitting, room = list[str](), console.width - 1
    for name, width in widths.items():
        if line_width() and fitting and width > room:
            break
        fitting.append(name)
        room -= width
    if not line_width():  # a file has lines of any length
        console = make_console(max(console.width, sum(widths.values()) + 1))
    table = Table()
    for name in fitting:
        is_number = bool(shown) and all(isinstance(row[name], int | float | None) for row in shown)
        table.add_column(printable(name), justify="right" if is_number else "left")
    for cells in zip(*(columns[name] for name in fitting), strict=True):
        table.add_row(*cells)
    console.print(table)
    left = [name for name in columns if name not in fitting]
    if left:
        named = some_of(left, 5)
        print_text(f"{len(left)} more column{'s' * (len(left) > 1)} ({named}): {ALL}", console)
    if result.num_rows > MOST_ROWS:
        print_text(f"{result.num_rows - MOST_ROWS:,} more rows: {ALL}", console)


def _cell(value: object) -> str:
    """A value in the printed table: four significant digits, and no more than `LONGEST`."""
    if isinstance(value, float):
        text = f"{value:.4g}"
    elif isinstance(value, dt.datetime):
        text = value.isoformat(" ", "seconds")
    elif isinstance(value, list):
        text = f"[{', '.join(map(_cell, value[:LONGEST]))}]"
    else:
        text = " ".join(printable(_text(value)).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
