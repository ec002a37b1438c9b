"""Output that cannot be written does not end a command: the study on disk is what counts.

A command whose result is what it prints checks at its end that all was written.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from imbtune.errors import StorageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Output(io.FileIO):
    """A file descriptor that drops what cannot be written.

    The reader of the pipe has gone (`imbtune search … | head -1`), the terminal is closed, or the
    disk with the log is full. A search goes on, and its exit code says how it ended.
    """

    failure: OSError | None = None  # the last one; a reader that has gone wants no more

    def write(self, content: ReadableBuffer) -> int:
        try:
            while (written := super().write(content)) is None:  # a pipe that does not block is full
                select.select([], [self], [])
        except OSError as error:
            self.failure = None if error.errno == errno.EPIPE else error
            return memoryview(content).nbytes
        return written


def lenient(stream: TextIO | None, descriptor: int) -> TextIO:
    """A stream to the same descriptor as `stream` that never fails.

    Characters that its encoding lacks are replaced, as on a terminal that is not UTF-8.

    Args:
        stream: standard output or error; None where the command was started with it closed.
        descriptor: its file descriptor.
    """
    if stream is None:
        return Path(os.devnull).open("w", encoding="utf-8", errors="replace")
    if not isinstance(stream, io.TextIOWrapper):  # not the system's: a test or a notebook has it
        return stream
    escapes = stream.errors == "backslashreplace"  # standard error: it never fails either
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(descriptor, "w", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors if escapes else "replace",
        line_buffering=bool(stream.line_buffering or stream.write_through),
    )


def check_written() -> None:
    """Check that nothing of standard output is lost, where the reader has not gone.

    Raises:
        StorageError: the disk with the output is full, or fails in another way.
    """
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _Output) and raw.failure:
        raise StorageError(
            f"standard output is not complete ({raw.failure.strerror}): write it to another disk"
        )


def never_fail() -> None:
    """Make standard output and error such streams, for the whole process.

    A descriptor that is closed is opened first. Otherwise the next file that the process opens
    would get its number, and with it what other libraries write to standard output.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
            os.set_inheritable(descriptor, True)
    sys.stdout, sys.stderr = lenient(sys.stdout, 1), lenient(sys.stderr, 2)
