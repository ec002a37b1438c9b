"""The rows of CSV text, with the line of each, and errors for quotes that are not closed."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

from imbtune.errors import DataError

DELIMITERS = ",;\t|"  # of two that the first line has as often, the earlier one
WHOLE = r"[+-]?(0|[1-9][0-9]{0,17})(\.0*)?"  # a whole number as text, also as `1.0`
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


def spelling_notes(labels: Mapping[Path, Set[str]]) -> tuple[str, ...]:
    """A note where labels that are spelled in two ways are one class.

    Spaces around a label do not count, and `1.0` is 1 in a file of whole numbers.

    Args:
        labels: those of each file, as they are there.
    """
    spelled: dict[str, dict[str, Path]] = {}
    for path, cells in labels.items():
        is_numeric = all(re.fullmatch(WHOLE, cell.strip()) for cell in cells)
        for cell in sorted(cells):
            text = cell.strip()
            name = str(int(text.partition(".")[0])) if is_numeric else text
            spelled.setdefault(name, {}).setdefault(cell, path)
    several = [ways for name, ways in spelled.items() if name and len(ways) > 1]
    if not several:
        return ()
    named = " and ".join(f"'{cell}' in {path}" for cell, path in list(several[0].items())[:2])
    left = len(several) - 1
    verb = "are spelled in several ways, too" if left > 1 else "is spelled in several ways, too"
    more = f"; {left:,} more class{'es' * (left > 1)} {verb}" if left else ""
    return (f"{named} are taken for one class{more}",)
