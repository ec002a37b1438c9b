"""One process a study: two would write over each other."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator

from imbtune.errors import StudyError
from imbtune.storage import Store


@contextlib.contextmanager
def study_lock(store: Store) -> Iterator[None]:
    """Hold the study's folder for this process; the system lets go of it however it ends.

    A bucket cannot be held.

    Raises:
        StudyError: another process holds it.
    """
    if not store.local:
        yield
        return
    with (store.local / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StudyError(
                f"the study {store.path} is in use by another process: wait, or stop it"
            ) from error
        yield
