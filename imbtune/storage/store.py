"""A study's folder: local, or under an S3 or GCS prefix, through pyarrow's file systems.

No reader sees a file that is written in part, and a folder of Parquet files has nothing else in it
at any moment. Local files are written under a hidden name and then renamed; in a bucket an object
appears when its upload is complete.
"""

from __future__ import annotations

import copy
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from imbtune.credentials import CredentialsError
from imbtune.errors import DamagedFileError, StudyError
from imbtune.paths import is_uri, is_utf8, parse
from imbtune.storage.checksums import DamagedError, parquet_bytes, parquet_table
from imbtune.storage.disk import append_whole, write_through
from imbtune.storage.retry import Patience, Result, reason_of, to_stderr

AT_A_TIME = 16  # files of a table that are read at the same time
# Folders in which an earlier version or a killed process may have left hidden files
FOLDERS = ("trials", "epochs", "finals", "scores", "runs", "checkpoints", "errors")
# Time limits of a bucket, in seconds. `Patience` repeats what fails, so pyarrow itself gives up
# soon: with its own limits, a server that does not answer would hold up a search for 99 s.
S3_LIMITS = {
    "connect_timeout": 5.0,
    "request_timeout": 15.0,
    "retry_strategy": pafs.AwsStandardS3RetryStrategy(max_attempts=2),
}
GCS_LIMIT = "retry_limit_seconds=15"


def join(path: str, name: str) -> str:
    """The path of `name` in a folder or URI. A URI's options (`?region=…`) stay at the end."""
    if not is_uri(path):
        return str(Path(path) / name)
    address, question, options = path.partition("?")
    return f"{address.rstrip('/')}/{name}{question}{options}"


class Store:
    """One study's folder.

    Every operation is repeated for two minutes where the storage fails for a reason that may pass.

    Args:
        path: a local path, or a URI such as `s3://bucket/prefix/name`, which may have pyarrow's
            options, as in `s3://bucket/name?endpoint_override=http://minio:9000&region=us-east-1`.
        log: is called with a line for the user where the storage fails.
        seconds: for which an operation is repeated; None for two minutes.

    Raises:
        StudyError: it is another kind of URI, it has a key in it, or pyarrow cannot use it.
    """

    def __init__(
        self, path: str, log: Callable[[str], None] = to_stderr, seconds: float | None = None
    ) -> None:
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
                self.fs, self.root = _bucket(self.path)
        except CredentialsError as error:
            raise StudyError(f"the storage: {error}") from error
        except (ValueError, OSError, pa.ArrowException) as error:
            address = path.partition("?")[0]
            raise StudyError(f"cannot use the storage {address}: {error}") from error
        self._patiently = Patience(self.path, log, seconds)

    def with_patience(self, seconds: float) -> Store:
        """The same folder, whose operations are repeated for another time; 0 to try them once."""
        other = copy.copy(self)
        other._patiently = self._patiently.with_seconds(seconds)
        return other

    def attempt(self, verb: str, operation: Callable[[], Result]) -> Result:
        """Do something else with the storage, as patiently; see :meth:`Patience.__call__`."""
        return self._patiently(verb, operation)

    def is_empty(self) -> bool:
        """Whether the folder is missing or has no files. Tried once.

        Raises:
            StudyError: it cannot be reached.
        """
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
        self._write("write to", lambda: self.fs.create_dir(self.root, recursive=True))

    def write(self, name: str, content: bytes) -> None:
        """Write the file `name` in one step. An existing file of that name is replaced.

        Raises:
            StorageError: the storage failed for too long.
            StudyError: it refused the file.
        """
        folder, _, leaf = name.rpartition("/")
        hidden = f"{folder}/.{leaf}.tmp" if folder else f".{leaf}.tmp"
        self._write(f"write {name} to", lambda: self._put(name, content, hidden))

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write the Parquet file `name` in one step. An existing file of that name is replaced.

        On a local disk its folder has no hidden file meanwhile, since not every reader of Parquet
        passes over such files, and the folder appears together with its first file.

        Raises:
            StorageError: the storage failed for too long.
            StudyError: it refused the file.
        """
        content = parquet_bytes(table)
        hidden = f".{name.replace('/', '-')}.tmp"
        self._write(f"write {name} to", lambda: self._put_part(name, content, hidden))

    def append(self, name: str, line: bytes) -> None:
        """Append a line to a local file: all of it, or nothing. Tried once.

        Raises:
            OSError: such as for a full disk.
        """
        assert self.local
        with (self.local / name).open("ab", buffering=0) as file:
            append_whole(file, line)

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            FileNotFoundError: there is none.
            StorageError: the storage failed for too long.
            StudyError: it is no regular file, but a folder, a device or a pipe that may never end.
        """
        if self.local:
            check_regular(self.local / name)
        return self._patiently(f"read {name} from", lambda: self._get(name))

    def exists(self, name: str) -> bool:
        """Whether the file or folder `name` exists."""
        info = self._patiently(
            f"look for {name} in", lambda: self.fs.get_file_info(f"{self.root}/{name}")
        )
        return bool(info.type != pafs.FileType.NotFound)

    def names(self, folder: str) -> list[str]:
        """The sorted names of the files in a folder, without hidden ones; none if it is missing."""
        selector = pafs.FileSelector(f"{self.root}/{folder}", allow_not_found=True)
        found = self._patiently(f"list {folder} in", lambda: self.fs.get_file_info(selector))
        return sorted(info.base_name for info in found if not info.base_name.startswith("."))

    def delete(self, name: str) -> None:
        """Delete a file, if it exists."""
        try:
            self._patiently(f"delete {name} in", lambda: self.fs.delete_file(f"{self.root}/{name}"))
        except FileNotFoundError:
            return

    def remove(self) -> None:
        """Remove the folder with all that is in it. Tried once; OSError where it fails."""
        self.fs.delete_dir_contents(self.root, missing_dir_ok=True)
        if self.local:
            self.local.rmdir()

    def parts(self, folder: str) -> list[str]:
        """The sorted names of the Parquet files in a folder."""
        return [name for name in self.names(folder) if name.endswith(".parquet")]

    def part(self, name: str, columns: Collection[str] | None = None) -> pa.Table:
        """The rows of one Parquet file, such as `epochs/part-000000.parquet`.

        Args:
            columns: those that are decoded, as far as the file has them; None for all.

        Raises:
            DamagedFileError: it is damaged.
        """
        try:
            return parquet_table(self.read(name), columns)
        except DamagedError as error:
            raise DamagedFileError(
                f"{join(self.path, name)} is damaged ({error}): restore it from a copy, or resume "
                "the study, which goes on without it"
            ) from error

    def table(self, folder: str) -> pa.Table:
        """All rows of the Parquet files in a folder, in the order of the files' names.

        Raises:
            DamagedFileError: a file is damaged.
            StudyError: there is none.
        """
        names = [f"{folder}/{name}" for name in self.parts(folder)]
        if not names:
            raise StudyError(
                f"the table {join(self.path, folder)} has no files: restore them from a copy"
            )
        with ThreadPoolExecutor(AT_A_TIME) as threads:
            parts = list(threads.map(self.part, names))
        try:
            return pa.concat_tables(parts, promote_options="permissive")
        except pa.ArrowException as error:
            raise DamagedFileError(
                f"the files of the table {join(self.path, folder)} do not fit together "
                f"({reason_of(error)}): remove those that imbtune has not written"
            ) from error

    def remove_leftovers(self) -> None:
        """Remove the hidden files that killed processes have left, also those of old versions."""
        if not self.local:
            return
        found = [*self.local.glob(".*.tmp"), *self.local.glob(".*.new")]
        for folder in FOLDERS:
            found += (self.local / folder).glob(".*.tmp")
        for path in found:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def check_writable(self) -> None:
        """StudyError if the folder could not be created. Nothing stays behind.

        A folder is really made beside it: root may write to every folder by its permissions, also
        to those in which the system allows nothing, such as `/proc`.
        """
        if not self.local:
            self._check_bucket()
            return
        existing = next(
            p for p in (self.local.absolute(), *self.local.absolute().parents) if p.exists()
        )
        try:
            Path(tempfile.mkdtemp(prefix=".imbtune-", dir=existing)).rmdir()
        except OSError as error:
            raise StudyError(
                f"cannot write to {existing} ({reason_of(error)}): use another folder with "
                "--storage"
            ) from error

    def _check_bucket(self) -> None:
        bucket = self.root.partition("/")[0]
        try:
            missing = self.fs.get_file_info(bucket).type == pafs.FileType.NotFound
        except OSError as error:
            raise StudyError(f"cannot reach the storage {self.path}: {error}") from error
        if missing and "allow_bucket_creation" not in self.path:
            raise StudyError(f"there is no bucket {bucket}: create it, or give another --storage")

    def _write(self, verb: str, operation: Callable[[], object]) -> None:
        try:
            self._patiently(verb, operation)
        except FileNotFoundError as error:  # in a place such as /proc, which takes no files
            raise StudyError(
                f"cannot {verb} the storage {self.path}: {reason_of(error)}"
            ) from error

    def _get(self, name: str) -> bytes:
        with self.fs.open_input_stream(f"{self.root}/{name}") as stream:
            content: bytes = stream.read()
        return content

    def _put(self, name: str, content: bytes, hidden: str) -> None:
        if not self.local:
            with self.fs.open_output_stream(f"{self.root}/{name}") as stream:
                stream.write(content)
            return
        target = self.local / name
        os.makedirs(target.parent, exist_ok=True)
        write_through(self.local / hidden, content)
        os.replace(self.local / hidden, target)

    def _put_part(self, name: str, content: bytes, hidden: str) -> None:
        folder, _, part = name.rpartition("/")
        if not self.local or not folder or (self.local / folder).exists():
            self._put(name, content, hidden)
            return
        new = self.local / f".{folder}.tmp"
        shutil.rmtree(new, ignore_errors=True)  # a killed process may have left files in it
        os.makedirs(new)
        write_through(new / part, content)
        os.replace(new, self.local / folder)


def check_regular(path: Path) -> None:
    """StudyError for a folder, a device or a pipe; nothing is raised for a missing file."""
    try:
        mode = path.stat().st_mode
    except OSError:  # reading says why
        return
    if not stat.S_ISREG(mode):
        raise StudyError(f"{path} is not a regular file: restore it from a backup, or remove it")


def _check_aws_files() -> None:
    """ValueError where a variable names no file for AWS's library, which would read any device."""
    for variable in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        name = os.environ.get(variable)
        if name and Path(name).exists() and not Path(name).is_file():
            raise ValueError(f"${variable} {name} is not a regular file: give a file, or unset it")


def _bucket(uri: str) -> tuple[pafs.FileSystem, str]:
    """The file system of a bucket, and the path in it."""
    found: pafs.FileSystem
    if uri.startswith("gs:"):
        if "retry_limit_seconds" not in uri:
            uri += ("&" if "?" in uri else "?") + GCS_LIMIT
        found, root = pafs.FileSystem.from_uri(uri)
        return found, str(root)
    _check_aws_files()
    found, root = pafs.FileSystem.from_uri(uri)
    make, (options,) = found.__reduce__()  # a URI cannot give the limits
    found = make({**options, **S3_LIMITS})
    return found, str(root)
