"""A study's folder: local, or under an S3 or GCS prefix, through pyarrow's file systems.

No reader sees a file that is written in part, and a folder of Parquet files has nothing else in it
at any moment. Local files are written under a hidden name and then renamed; in a bucket an object
appears when its upload is complete.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from imbtune.credentials import CredentialsError
from imbtune.errors import StudyError
from imbtune.paths import is_uri, is_utf8, parse

READS = 20  # of a table whose files another process replaces meanwhile


def join(path: str, name: str) -> str:
    """The path of `name` in a folder or URI. A URI's options (`?region=…`) stay at the end."""
    if not is_uri(path):
        return str(Path(path) / name)
    address, question, options = path.partition("?")
    return f"{address.rstrip('/')}/{name}{question}{options}"


class Store:
    """One study's folder.

    Args:
        path: a local path, or a URI such as `s3://bucket/prefix/name`, which may have pyarrow's
            options, as in `s3://bucket/name?endpoint_override=http://minio:9000&region=us-east-1`.

    Raises:
        StudyError: it is another kind of URI, it has a key in it, or pyarrow cannot use it.
    """

    def __init__(self, path: str) -> None:
        try:
            self.path = parse(path)
            self.local = None if is_uri(self.path) else Path(self.path)
            if self.local:
                self.fs, self.root = pafs.LocalFileSystem(), str(self.local.absolute())
                if not is_utf8(self.root):
                    raise ValueError(
                        "the current folder's name is not UTF-8 text: start in another folder"
                    )
            else:
                self.fs, self.root = pafs.FileSystem.from_uri(self.path)
        except CredentialsError as error:
            raise StudyError(f"the storage: {error}") from error
        except (ValueError, OSError, pa.ArrowException) as error:
            address = path.partition("?")[0]
            raise StudyError(f"cannot use the storage {address}: {error}") from error

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
        target = f"{self.root}/{name}"
        folder, _, leaf = target.rpartition("/")
        written = f"{folder}/.{leaf}.tmp" if self.local else target
        if self.local:
            os.makedirs(folder, exist_ok=True)
        with self.fs.open_output_stream(written) as stream:
            stream.write(content)
        if self.local:
            os.replace(written, target)

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write the Parquet file `name` in one step.

        On a local disk its folder has no hidden file meanwhile, since not every reader of Parquet
        passes over such files, and the folder appears together with its first file.
        """
        if not self.local:
            self._write_parquet(f"{self.root}/{name}", table)
            return
        folder, _, part = name.rpartition("/")
        if folder and not (self.local / folder).exists():
            os.replace(self._new_folder(folder, part, table), self.local / folder)
            return
        os.makedirs(self.root, exist_ok=True)
        hidden = self.local / f".{name.replace('/', '-')}.tmp"
        self._write_parquet(str(hidden.absolute()), table)
        os.replace(hidden, self.local / name)

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

        Some or all files may be gone between the listing of the folder and the reading, because
        another process replaces the folder: then the folder is read again.

        Raises:
            StudyError: a file is broken, or there is none.
        """
        reason: Exception = FileNotFoundError("it has no files")
        for _ in range(READS):
            try:
                table = pq.read_table(f"{self.root}/{folder}", filesystem=self.fs)
                if table.num_columns:  # pyarrow finds none where it finds no file
                    return table
            except FileNotFoundError as error:
                reason = error
            except (pa.ArrowInvalid, OSError) as error:
                reason = error
                break
        raise StudyError(
            f"cannot read the table {join(self.path, folder)} ({reason}): restore it from a copy"
        ) from reason

    def replace_folder(self, name: str, table: pa.Table) -> None:
        """Replace the Parquet files of a folder by one file with the rows of `table`.

        On a local disk this is one atomic step: the folder is exchanged for a new one. Where that
        is not possible (a bucket, some network file systems), the new file is written before the
        old ones are deleted, so that a reader in between sees rows twice.
        """
        if self.local:
            new = self._new_folder(name, "all.parquet", table)
            exchanged = _exchange(new, self.local / name)
            shutil.rmtree(new)
            if exchanged:
                return
        parts = self.names(name)
        merged = next(n for i in itertools.count() if (n := f"all-{i}.parquet") not in parts)
        self.write_table(f"{name}/{merged}", table)
        for part in parts:
            self.delete(f"{name}/{part}")

    def remove_leftovers(self, folder: str) -> None:
        """Remove the hidden files of a folder that a killed process has left."""
        if not self.local:
            return
        shutil.rmtree(self.local / f".{folder}.new", ignore_errors=True)
        # in the folder itself: earlier versions wrote them there
        for path in (*self.local.glob(f".{folder}-*.tmp"), *self.local.glob(f"{folder}/.*.tmp")):
            path.unlink()

    def check_writable(self) -> None:
        """StudyError if the folder could not be created. Creates nothing."""
        if not self.local:
            self._check_bucket()
            return
        existing = next(
            p for p in (self.local.absolute(), *self.local.absolute().parents) if p.exists()
        )
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            raise StudyError(f"cannot write to {existing}: use another folder with --storage")

    def _check_bucket(self) -> None:
        bucket = self.root.partition("/")[0]
        try:
            missing = self.fs.get_file_info(bucket).type == pafs.FileType.NotFound
        except OSError as error:
            raise StudyError(f"cannot reach the storage {self.path}: {error}") from error
        if missing and "allow_bucket_creation" not in self.path:
            raise StudyError(f"there is no bucket {bucket}: create it, or give another --storage")

    def _new_folder(self, name: str, part: str, table: pa.Table) -> Path:
        """A hidden folder beside the folder `name`, with one Parquet file."""
        assert self.local
        new = self.local / f".{name}.new"
        shutil.rmtree(new, ignore_errors=True)  # a killed process may have left files in it
        os.makedirs(new)
        self._write_parquet(str((new / part).absolute()), table)
        return new

    def _write_parquet(self, path: str, table: pa.Table) -> None:
        pq.write_table(table, path, filesystem=self.fs, compression="zstd")


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders atomically; False where the system or the file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if not renameat2:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE (renameat2(2))
    return bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)
