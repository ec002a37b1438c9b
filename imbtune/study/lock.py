"""Locks a study, so that two processes do not overwrite each other's files."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import time
from collections.abc import Iterator

import pyarrow.fs as pafs

from imbtune.errors import StudyError
from imbtune.storage import Store

RECENT = 120.0  # seconds; see `is_running`
PROBE_SECONDS = 0.05  # much longer than `is_running` holds the lock


@contextlib.contextmanager
def study_lock(store: Store, what: str = "the study") -> Iterator[None]:
    """Lock the study's folder for this process, until the block or the process ends.

    The lock is an flock on `.lock`. A study in a bucket, or on a file system without locks, is not
    locked.

    Args:
        what: names it in the message.

    Raises:
        StudyError: another process has locked it.
    """
    if not store.local:
        yield
        return
    path = store.local / ".lock"
    with contextlib.closing(store.attempt("write to", lambda: path.open("w"))) as lock:
        try:
            _lock(lock.fileno())
        except BlockingIOError as error:
            raise StudyError(
                f"{what} {store.path} is in use by another process: wait, or stop it"
            ) from error
        except OSError:  # a file system without locks, such as some of networks
            pass
        yield


def _lock(file: int) -> None:
    """Take the lock; tried again once, since `is_running` has it for an instant."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(PROBE_SECONDS)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_running(store: Store) -> bool:
    """Whether a process works on the study, as far as that can be known. Writes nothing.

    A study on this machine's disk is, while its lock is held. One in a bucket, or on a file system
    without locks, is taken to be where one of its files has changed within `RECENT` seconds.
    """
    if not store.local:
        return _has_changed(store)
    try:
        file = os.open(store.local / ".lock", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return _has_changed(store)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return _has_changed(store)
    finally:
        os.close(file)  # which unlocks it
    return False


def _has_changed(store: Store) -> bool:
    """Whether a file of the study has changed within `RECENT` seconds."""
    selector = pafs.FileSelector(store.root, allow_not_found=True, recursive=True)
    try:
        found = store.fs.get_file_info(selector)
    except OSError:
        return False
    now = dt.datetime.now(dt.UTC).timestamp()
    return any(f.is_file and f.mtime and now - f.mtime.timestamp() <= RECENT for f in found)
