"""Locks a study, so that two processes do not overwrite each other's files; when it was at work."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow.fs as pafs

from imbtune.errors import StudyError
from imbtune.storage import Store

PROBE_SECONDS = 0.05  # much longer than `activity_of` holds the lock


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
    """Take the lock; tried again once, since `activity_of` has it for an instant."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(PROBE_SECONDS)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@dataclass(frozen=True)
class Activity:
    """Whether a process works on a study, as far as that can be known from here.

    Attributes:
        locked: whether a process of this machine, or of one that shares its file system and locks,
            works on it; None where studies are not locked (see :func:`study_lock`).
        changed: where that is unknown, when one of its files was last written (UTC).
    """

    locked: bool | None = False
    changed: dt.datetime | None = None


def activity_of(store: Store) -> Activity:
    """Whether a process works on the study. Writes nothing."""
    if not store.local:
        return Activity(None, _last_change(store))
    try:
        file = os.open(store.local / ".lock", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Activity()
    except OSError:
        return Activity(None, _last_change(store))
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Activity(True)
    except OSError:
        return Activity(None, _last_change(store))
    finally:
        os.close(file)  # which unlocks it
    return Activity()


def _last_change(store: Store) -> dt.datetime | None:
    """When a file of the study was last written."""
    selector = pafs.FileSelector(store.root, allow_not_found=True, recursive=True)
    try:
        found = store.fs.get_file_info(selector)
    except OSError:
        return None
    return max((info.mtime for info in found if info.is_file and info.mtime), default=None)


def wall_seconds(content: Mapping[str, object]) -> float | None:
    """From a search's first start to its end, in seconds, with the time before it was resumed.

    Args:
        content: of study.yaml, which has the times to the second; None where one is missing.
    """
    started, ended = time_of(content.get("started")), time_of(content.get("ended"))
    if started is None or ended is None or ended < started:
        return None
    return (ended - started).total_seconds()


def time_of(text: object) -> dt.datetime | None:
    """A time of study.yaml; None where it is none."""
    try:
        found = dt.datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)
