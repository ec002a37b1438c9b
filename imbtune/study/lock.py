"""Locks a study, so that two processes do not overwrite each other's files."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator

from imbtune.errors import StudyError
from imbtune.storage import Store


@contextlib.contextmanager
def study_lock(store: Store) -> Iterator[None]:
    """Lock the study's folder for this process, until the block or the process ends.

    The lock is an flock on `.lock`. A study in a bucket, or on a file system without locks, is not
    locked.

    Raises:
        StudyError: another process has locked it.
    """
    if not store.local:
        yield
        return
    path = store.local / ".lock"
    with contextlib.closing(store.attempt("write to", lambda: path.open("w"))) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StudyError(
                f"the study {store.path} is in use by another process: wait, or stop it"
            ) from error
        except OSError:  # a file system without locks, such as some of networks
            pass
        yield
