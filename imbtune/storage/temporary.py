"""Temporary folders that do not pile up: the next process removes those of killed ones."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

PREFIX = "imbtune-"
REMNANT = re.compile(PREFIX + r"ray-\w{8}")
REMNANT_SECONDS = 600.0  # since it was changed; a process that makes a folder marks it at once
LOCK = "imbtune.lock"  # a file that the process with the folder holds an flock on while it runs


@contextmanager
def temporary_folder(kind: str, place: Path | None = None) -> Iterator[Path]:
    """A new folder `imbtune-KIND-…`, which only this user can open, until the block ends.

    First it removes the folders of processes of this user that were killed.

    Args:
        place: the folder in which it is made; None for the system's temporary folder.
    """
    place = place or Path(tempfile.gettempdir())
    for folder in place.glob(f"{PREFIX}*"):
        if is_abandoned(folder) or _is_remnant(folder):
            shutil.rmtree(folder, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-", dir=place))
    try:
        with hold(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def hold(folder: Path) -> FileIO:
    """Mark a folder as in use, until the file that is returned is closed or the process ends."""
    new = folder / f"{LOCK}.{os.getpid()}"
    held = new.open("wb", buffering=0)
    fcntl.flock(held, fcntl.LOCK_EX)
    new.rename(folder / LOCK)  # now: a lock file that nobody holds is taken for a killed process's
    return held


def is_abandoned(folder: Path) -> bool:
    """Whether a process of this user has marked the folder, and does not run any more."""
    try:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            return False
        with (folder / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # it has no lock file, or a process holds it
        return False
    return True


def _is_remnant(folder: Path) -> bool:
    """Whether it is a folder for Ray of this user without any file.

    A worker of Ray that starts while its search is killed makes the folder again, after the next
    process has removed it: with folders and links in it alone, and without a mark.
    """
    try:
        found = folder.lstat()
        if not (REMNANT.fullmatch(folder.name) and stat.S_ISDIR(found.st_mode)):
            return False
        if found.st_uid != os.getuid() or time.time() - found.st_mtime < REMNANT_SECONDS:
            return False
        inside = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
        return all(path.is_symlink() for path in inside)
    except OSError:
        return False
