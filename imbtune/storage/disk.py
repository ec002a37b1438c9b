"""Writes to local files that are done as a whole, or not at all."""

from __future__ import annotations

import errno
import os
from io import FileIO
from pathlib import Path


def write_through(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk. Where that fails, the file is removed.

    Without the wait, a file that is renamed next may be empty after the machine crashes.

    Raises:
        OSError: such as for a full disk.
    """
    try:
        with path.open("wb", buffering=0) as file:
            _write_all(file, content)
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)  # it takes space that may be missing
        raise


def append_whole(file: FileIO, content: bytes) -> None:
    """Append to an unbuffered file. Where that fails, nothing of the content stays in it.

    Raises:
        OSError: such as for a full disk.
    """
    end = os.fstat(file.fileno()).st_size
    try:
        _write_all(file, content)
    except OSError:
        file.truncate(end)
        raise


def _write_all(file: FileIO, content: bytes) -> None:
    left = memoryview(content)
    while left:
        written = file.write(left)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left = left[written:]
