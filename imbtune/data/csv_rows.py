"""The rows of CSV text, with the line of each, and errors for quotes that are not closed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from imbtune.errors import DataError

DELIMITERS = ",;\t|"  # of two that the first line has as often, the earlier one
UNCLOSED = "has a quote that is not closed on the line: close it, or remove it"


def delimiter_of(text: str) -> str:
    """The character between the cells of CSV text: the one that its first line has most often."""
    return max(DELIMITERS, key=text.partition("\n")[0].count)


def csv_rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, with the number of their first line.

    Args:
        path: the file, for messages.
        text: its text.
        delimiter: the character between cells.

    Raises:
        DataError: a quote is not closed, or other text follows it.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            what = f"cannot be read ({error}): correct its quotes"
            if reader.line_num > line or "end of data" in str(error):
                what = UNCLOSED
            raise DataError(f"{path}, line {line} {what}") from error
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield line, cells


def check_one_line(path: Path, line: int, cells: list[str]) -> None:
    """DataError for a cell with several lines, as a quote that is not closed makes it."""
    if any("\n" in cell.strip() or "\r" in cell.strip() for cell in cells):
        raise DataError(f"{path}, line {line} {UNCLOSED}")
