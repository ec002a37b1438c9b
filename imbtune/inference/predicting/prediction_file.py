"""The table of predictions, as Parquet or CSV, written while it is made.

The file has its name only when it is complete. Until then it is a hidden file beside it, which is
removed where predicting fails.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.csv as csv_reader
import pyarrow.parquet as pq

from imbtune.errors import ConfigError

SUFFIXES = (".parquet", ".csv")
# Hidden files of this module, and no others, as a store's
LEFTOVER = re.compile(r"\..+\.(parquet|csv|json|onnx)\.\d+\.tmp", re.IGNORECASE)
ROW_GROUP = 8192  # rows that are held before they are written


@dataclass(frozen=True)
class PredictionRow:
    """One image.

    Attributes:
        path: of the image; or file and row in Parquet.
        label: the predicted class; None where there is an error.
        probability: of that class.
        margin: lead of that class over the other ones, in probability; negative where a threshold
            decides for the less probable class.
        top: the most probable classes with their probabilities, in descending order.
        error: why the image cannot be predicted; None if it is.
    """

    path: str
    label: str | None = None
    probability: float | None = None
    margin: float | None = None
    top: tuple[tuple[str, float], ...] = ()
    error: str | None = None

    def cells(self, top: int) -> list[str | float | None]:
        """The values of the columns."""
        shown = self.top if top > 1 else ()
        pairs: list[str | float | None] = [cell for pair in shown for cell in pair]
        pairs += [None] * (2 * top * (top > 1) - len(pairs))
        return [self.path, self.label, self.probability, self.margin, *pairs, self.error]


def schema(top: int) -> pa.Schema:
    """The columns.

    Args:
        top: how many of the most probable classes have columns of their own; none for 1.
    """
    fields = [("path", pa.string()), ("label", pa.string())]
    fields += [("probability", pa.float32()), ("margin", pa.float32())]
    for rank in range(1, top + 1) if top > 1 else ():
        fields += [(f"label_{rank}", pa.string()), (f"probability_{rank}", pa.float32())]
    return pa.schema([*fields, ("error", pa.string())])


def table_of(rows: Sequence[PredictionRow], top: int) -> pa.Table:
    """Rows as a table."""
    columns = zip(*(row.cells(top) for row in rows), strict=True)
    wanted = schema(top)
    if not rows:
        return wanted.empty_table()
    arrays = [pa.array(cells, field.type) for cells, field in zip(columns, wanted, strict=True)]
    return pa.Table.from_arrays(arrays, schema=wanted)


def read_csv(path: Path, top: int) -> pa.Table:
    """The rows of a CSV file, as :func:`table_of` gives them: a class '007' or 'NA' is a text."""
    columns = csv_reader.ConvertOptions(
        column_types=schema(top), null_values=[""], strings_can_be_null=True
    )
    lines = csv_reader.ParseOptions(newlines_in_values=True)
    return csv_reader.read_csv(path, parse_options=lines, convert_options=columns)


class PredictionWriter(ABC):
    """Writes rows to a file."""

    @abstractmethod
    def write(self, rows: Sequence[PredictionRow]) -> None:
        """Write rows; some may be held."""

    @abstractmethod
    def finish(self) -> None:
        """Write what is held, and end the file."""


class _Parquet(PredictionWriter):
    def __init__(self, path: Path, top: int) -> None:
        self._writer = pq.ParquetWriter(path, schema(top))
        self._top, self._held = top, list[PredictionRow]()

    def write(self, rows: Sequence[PredictionRow]) -> None:
        self._held += rows
        if len(self._held) >= ROW_GROUP:
            self._writer.write_table(table_of(self._held, self._top))
            self._held.clear()

    def finish(self) -> None:
        if self._held:
            self._writer.write_table(table_of(self._held, self._top))
        self._writer.close()


class _Csv(PredictionWriter):
    def __init__(self, file: TextIO, top: int) -> None:
        self._file, self._top, self._writer = file, top, csv.writer(file, lineterminator="\n")
        self._writer.writerow(schema(top).names)

    def write(self, rows: Sequence[PredictionRow]) -> None:
        for row in rows:
            self._writer.writerow(
                f"{cell:.7g}" if isinstance(cell, float) else cell for cell in row.cells(self._top)
            )

    def finish(self) -> None:
        self._file.close()


def check_new_file(path: Path, suffixes: Sequence[str] = SUFFIXES) -> None:
    """Check, before anything starts, that a file can be made.

    Raises:
        ConfigError: it exists, its folder does not or cannot be written to, or it has another
            ending.
    """
    if path.suffix.lower() not in suffixes:
        raise ConfigError(f"--out {path}: give a name that ends in {' or '.join(suffixes)}")
    if path.exists() or path.is_symlink():
        raise ConfigError(f"--out {path} exists: give another file, or delete it")
    if not path.parent.is_dir():
        raise ConfigError(f"--out {path}: there is no folder {path.parent}: create it")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"--out {path}: {path.parent} cannot be written to: give another file")


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A hidden file beside `path`, which becomes `path` at the end of the block.

    Nothing is left where the block fails, and a file that has come to exist is not replaced. The
    hidden files of processes that were killed are removed first.

    Raises:
        ConfigError: it cannot be written.
    """
    hidden = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    held = None
    try:
        _remove_leftovers(path.parent)
        hidden.unlink(missing_ok=True)  # of an earlier process with this number
        held = _locked(hidden)
        yield hidden
        with hidden.open("rb") as written:
            os.fsync(written.fileno())
        _name(hidden, path)
    except OSError as error:
        raise ConfigError(f"--out {path}: {error.strerror or error}: give another file") from error
    finally:
        with contextlib.suppress(OSError):
            hidden.unlink(missing_ok=True)
        if held is not None:
            held.close()


def _locked(hidden: Path) -> FileIO:
    """Make a file that is locked until it is closed or the process ends.

    Before it is locked, another process may take it for that of a killed one and remove it.
    """
    while True:
        held = hidden.open("wb", buffering=0)
        fcntl.flock(held, fcntl.LOCK_EX)
        if _is_at(held, hidden):
            return held
        held.close()


def _remove_leftovers(folder: Path) -> None:
    """Remove the hidden files of killed processes of this user."""
    for path in folder.glob(".*.tmp"):
        if not LEFTOVER.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError):  # such as BlockingIOError: a process holds it
            found = path.lstat()
            if stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid():
                with path.open("rb", buffering=0) as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if _is_at(file, path):  # and not another one by now
                        path.unlink()


def _is_at(file: FileIO, path: Path) -> bool:
    """Whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def _name(hidden: Path, path: Path) -> None:
    """Give the file its name; FileExistsError if there is one of that name."""
    try:
        path.hardlink_to(hidden)  # unlike a renaming, it replaces nothing
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(17, "it exists by now") from None
        hidden.rename(path)


@contextmanager
def prediction_writer(path: Path, top: int) -> Iterator[PredictionWriter]:
    """Writes the rows of a new file, which appears at the end of the block.

    Args:
        path: ends in .parquet or .csv.
        top: as in :func:`schema`.

    Raises:
        ConfigError: it cannot be written.
    """
    with new_file(path) as hidden, contextlib.ExitStack() as stack:
        writer: PredictionWriter
        if path.suffix.lower() == ".csv":
            file = stack.enter_context(hidden.open("w", encoding="utf-8", newline=""))
            writer = _Csv(file, top)
        else:
            writer = _Parquet(hidden, top)
        yield writer
        writer.finish()
