"""`search.log` in a study's folder: the plain lines of all commands that worked on the study."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from imbtune.errors import ImbtuneError
from imbtune.progress.plain_view import PlainView
from imbtune.progress.reporter import Reporter
from imbtune.progress.run_events import Event, Message, StageStarted
from imbtune.progress.search_progress import SearchProgress
from imbtune.storage import Store

FILE = "search.log"
UPLOAD_SECONDS = 5.0  # between two uploads to a bucket
LONGEST_PAUSE = 60.0  # between two tries where the bucket fails


@contextmanager
def logged(reporter: Reporter, store: Store) -> Iterator[None]:
    """Write what is reported to the study's `search.log`, and the error that ends the work."""
    file = LogFile(store)
    with reporter.also(file):
        try:
            yield
        except ImbtuneError as error:
            file.show(Message(reporter.now(), f"error: {error}"), reporter.progress)
            raise


class LogFile:
    """A view that appends each line to `search.log`.

    It begins with the first stage, when there is a study: with what was said until then. A bucket
    has no appending: the whole file is uploaded again every few seconds. A disk or bucket that
    fails loses lines, and never ends the work.

    Args:
        store: the study's folder or bucket.
    """

    def __init__(self, store: Store) -> None:
        self._store = store.with_patience(0)
        self._lines = PlainView(self._write)
        self._early: list[bytes] | None = []
        self._before: bytes | None = None  # what the bucket had
        self._content = bytearray()
        self._uploaded, self._pause = time.monotonic(), UPLOAD_SECONDS
        self._is_new = False

    def show(self, event: Event, progress: SearchProgress) -> None:
        """Append the event's lines."""
        if isinstance(event, StageStarted) and self._early is not None:
            early, self._early = self._early, None
            for line in early:
                self._append(line)
        self._lines.show(event, progress)

    def tick(self, now: float) -> None:
        """Upload the file to a bucket if that is due."""
        if self._is_new and time.monotonic() - self._uploaded >= self._pause:
            self._upload()

    def close(self) -> None:
        """Upload what is left."""
        if self._is_new:
            self._upload()

    def _write(self, line: str) -> None:
        content = f"{line}\n".encode("utf-8", "replace")
        if self._early is not None:
            self._early.append(content)
        else:
            self._append(content)

    def _append(self, content: bytes) -> None:
        if not self._store.local:
            self._content += content
            self._is_new = True
            return
        try:
            self._store.append(FILE, content)
        except OSError:  # the disk is full, or the folder was removed: the study itself says so
            return

    def _upload(self) -> None:
        try:
            if self._before is None:  # what is there could not be read: it may not be replaced
                self._before = self._read()
                self._content[:0] = self._before or b""
            if self._before is not None:
                self._store.write(FILE, bytes(self._content))
                self._is_new, self._pause = False, UPLOAD_SECONDS
        except (ImbtuneError, OSError):
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._uploaded = time.monotonic()

    def _read(self) -> bytes | None:
        """The lines that the bucket has; None where that cannot be found out."""
        try:
            return self._store.read(FILE)
        except FileNotFoundError:
            return b""
        except (ImbtuneError, OSError):
            return None
