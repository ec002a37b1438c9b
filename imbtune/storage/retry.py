"""Repeats what a storage fails to do for a while: a bucket answers 503, a disk is full."""

from __future__ import annotations

import errno
import re
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from imbtune.errors import StorageError, StudyError
from imbtune.paths import is_uri

Result = TypeVar("Result")

PATIENCE = 120.0  # seconds for which a failing operation is repeated
FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0  # seconds between two tries; each wait is twice the last one

# System errors that may pass. pyarrow's errors of buckets have no number, but one of these words.
PASSING = {
    errno.EAGAIN, errno.EBUSY, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET,
    errno.EDQUOT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EINTR, errno.EIO, errno.EMFILE,
    errno.ENETDOWN, errno.ENETUNREACH, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC,
    errno.ENOTCONN, errno.EPIPE, errno.EREMOTEIO, errno.ESTALE, errno.ETIMEDOUT,
}  # fmt: skip
PASSING_WORDS = re.compile(
    r"HTTP status (408|429|5\d\d)|NETWORK_CONNECTION|UNAVAILABLE|SLOW_DOWN|THROTTLING|TIMEOUT"
    r"|INTERNAL|RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED|curlCode|CURL error",
)


def to_stderr(line: str) -> None:
    """Prints the line for the user, who is told of a storage that fails."""
    print(line, file=sys.stderr, flush=True)


def may_pass(error: OSError) -> bool:
    """Whether the same operation may succeed later; not where a permission or bucket is missing."""
    if isinstance(error, FileNotFoundError | PermissionError):
        return False
    if error.errno is not None:
        return error.errno in PASSING
    return bool(PASSING_WORDS.search(str(error)))


def reason_of(error: Exception) -> str:
    """Why it failed, in one line."""
    return " ".join(str(getattr(error, "strerror", None) or error).split()).rstrip(". :")


class Patience:
    """Repeats the operations on one storage, and tells the user once that it fails.

    Args:
        place: the storage, for the messages.
        log: is called with a line for the user.
        seconds: for which an operation is repeated; None for `PATIENCE`. After a storage was given
            up, each operation is tried once, until one succeeds.
    """

    def __init__(
        self, place: str, log: Callable[[str], None] = to_stderr, seconds: float | None = None
    ) -> None:
        self._place, self._log, self._seconds = place, log, seconds
        self._failure = f"the storage {place} {'does not answer' if is_uri(place) else 'fails'}"
        self._told = self._given_up = False

    def with_seconds(self, seconds: float) -> Patience:
        """The same for another time; 0 to try each operation once."""
        return Patience(self._place, self._log, seconds)

    def __call__(self, verb: str, operation: Callable[[], Result]) -> Result:
        """The result of the operation.

        Args:
            verb: what it does, such as "write best.yaml to".

        Raises:
            FileNotFoundError: there is no such file.
            StorageError: the storage failed for all of the time.
            StudyError: it refused the operation.
        """
        seconds = PATIENCE if self._seconds is None else self._seconds
        seconds = 0.0 if self._given_up else seconds
        wait, ends = FIRST_WAIT, None
        while True:
            try:
                result = operation()
            except FileNotFoundError:
                raise
            except OSError as error:
                ends = time.monotonic() + seconds if ends is None else ends
                left = ends - time.monotonic()
                self._check(verb, error, left, seconds)
            else:
                self._told = self._given_up = False
                return result
            time.sleep(min(wait, left))
            wait = min(2 * wait, LONGEST_WAIT)

    def _check(self, verb: str, error: OSError, left: float, seconds: float) -> None:
        """Raise the user's error, unless there is time left to try again."""
        reason = reason_of(error)
        if not may_pass(error):
            raise StudyError(f"cannot {verb} the storage {self._place}: {reason}") from error
        if left <= 0:
            self._given_up = True
            waited = f" for {_words(seconds)}" if seconds else ""
            raise StorageError(f"{self._failure}{waited} ({reason})") from error
        if not self._told:
            self._told = True
            self._log(f"{self._failure} ({reason}): trying again for {_words(seconds)}")


def _words(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 120 else f"{seconds:g} seconds"
