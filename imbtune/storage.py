"""A study's folder: local, or under an S3 or GCS prefix, through pyarrow's file systems.

No reader sees a file that is written in part. Local files are written under a hidden name and then
renamed; in a bucket an object appears when its upload is complete.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from imbtune.errors import StudyError


def join(path: str, name: str) -> str:
    """The path of `name` in a folder or URI. A URI's options (`?region=…`) stay at the end."""
    if "://" not in path:
        return str(Path(path) / name)
    address, question, options = path.partition("?")
    return f"{address.rstrip('/')}/{name}{question}{options}"


class Store:
    """One study's folder.

    Args:
        path: a local path, or a URI such as `s3://bucket/prefix/name`, which may have pyarrow's
            options, as in `s3://bucket/name?endpoint_override=http://minio:9000&region=us-east-1`.

    Raises:
        StudyError: pyarrow cannot use the URI.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.local = Path(path) if "://" not in path else None
        if self.local:
            self.fs, self.root = pafs.LocalFileSystem(), str(self.local.absolute())
            return
        try:
            self.fs, self.root = pafs.FileSystem.from_uri(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise StudyError(
                f"cannot use the storage {path} ({error}): use a folder, s3:// or gs://"
            ) from error

    def is_empty(self) -> bool:
        """Whether the folder is missing or has no files; StudyError if it cannot be reached."""
        try:
            info = self.fs.get_file_info(self.root)
            if info.type == pafs.FileType.NotFound:
                return True
            if info.type == pafs.FileType.File:
                return False
            return not self.fs.get_file_info(pafs.FileSelector(self.root))
        except OSError as error:
            raise StudyError(f"cannot reach the storage {self.path}: {error}") from error

    def create(self) -> None:
        """Create the folder; StudyError if that fails."""
        try:
            self.fs.create_dir(self.root, recursive=True)
        except OSError as error:
            raise StudyError(f"cannot write to the storage {self.path}: {error}") from error

    def write(self, name: str, content: bytes) -> None:
        """Write the file `name` in one step. An existing file of that name is replaced."""
        with self._replacing(name) as path, self.fs.open_output_stream(path) as stream:
            stream.write(content)

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write the Parquet file `name` in one step."""
        with self._replacing(name) as path:
            pq.write_table(table, path, filesystem=self.fs, compression="zstd")

    def new_folder(self, name: str, part: str, table: pa.Table) -> None:
        """Create a folder with its first Parquet file, `part`, in one step on a local disk."""
        if not self.local:
            self.write_table(f"{name}/{part}", table)
            return
        self.write_table(f".{name}.new/{part}", table)
        os.replace(self.local / f".{name}.new", self.local / name)

    def read(self, name: str) -> bytes:
        """The content of a file."""
        with self.fs.open_input_stream(f"{self.root}/{name}") as stream:
            content: bytes = stream.read()
        return content

    def exists(self, name: str) -> bool:
        """Whether the file or folder `name` exists."""
        info = self.fs.get_file_info(f"{self.root}/{name}")
        return bool(info.type != pafs.FileType.NotFound)

    def names(self, folder: str) -> list[str]:
        """The sorted names of the files in a folder, without hidden ones; none if it is missing."""
        selector = pafs.FileSelector(f"{self.root}/{folder}", allow_not_found=True)
        names = [info.base_name for info in self.fs.get_file_info(selector)]
        return sorted(name for name in names if not name.startswith("."))

    def delete(self, name: str) -> None:
        """Delete a file, if it exists."""
        with contextlib.suppress(FileNotFoundError):
            self.fs.delete_file(f"{self.root}/{name}")

    def table(self, folder: str) -> pa.Table:
        """All rows of the Parquet files in a folder, in the order of the files' names.

        Raises:
            StudyError: a file is broken.
        """
        try:
            return pq.read_table(f"{self.root}/{folder}", filesystem=self.fs)
        except (pa.ArrowInvalid, OSError) as error:
            raise StudyError(
                f"cannot read the table {join(self.path, folder)} ({error}): restore it from a copy"
            ) from error

    def replace_folder(self, name: str, table: pa.Table) -> None:
        """Replace the Parquet files of a folder by one file with the rows of `table`.

        On a local disk this is one atomic step: the folder is exchanged for a new one. Where that
        is not possible (a bucket, a system without renameat2), the new file is written before the
        old ones are deleted, so that a reader in between sees rows twice.
        """
        if not self.local:
            parts = self.names(name)
            merged = next(n for i in itertools.count() if (n := f"all-{i}.parquet") not in parts)
            self.write_table(f"{name}/{merged}", table)
            for part in parts:
                self.delete(f"{name}/{part}")
            return
        new = self.local / f".{name}.new"
        self.write_table(f".{name}.new/all.parquet", table)
        _exchange(new, self.local / name)
        shutil.rmtree(new)

    def check_writable(self) -> None:
        """StudyError if the folder could not be created. Creates nothing."""
        if not self.local:
            return
        existing = next(
            p for p in (self.local.absolute(), *self.local.absolute().parents) if p.exists()
        )
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            raise StudyError(f"cannot write to {existing}: use another folder with --storage")

    @contextlib.contextmanager
    def _replacing(self, name: str) -> Iterator[str]:
        """Yields the path to write `name` to; at the end the file gets its name."""
        target = f"{self.root}/{name}"
        if not self.local:
            yield target
            return
        folder, _, leaf = target.rpartition("/")
        os.makedirs(folder, exist_ok=True)
        hidden = f"{folder}/.{leaf}.tmp"
        yield hidden
        os.replace(hidden, target)


def _exchange(one: Path, other: Path) -> None:
    """Exchange two folders atomically; does nothing on a system without renameat2."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2:
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE (renameat2(2))
        renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange)
