"""Takes the name of a new study, and frees it where the study fails before its first trial."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from imbtune.errors import StudyError
from imbtune.study.files import FILE, check_no_study
from imbtune.study.hints import naming_resume
from imbtune.study.lock import study_lock
from imbtune.study.results.comparison_record import Comparison
from imbtune.tuning.session import Session


@contextmanager
def new_folder(session: Session) -> Iterator[None]:
    """The folder of a new study, in which the block creates and locks the study.

    Where the block fails before its first trial or run, the folder is removed, so that its name is
    free again; later, the message of a StorageError has the command to resume.
    """
    store, path = session.store, session.request.path
    store.create()
    try:
        yield
    except BaseException:
        if session.reporter.progress.stage is not None:
            with naming_resume(path):
                raise
        with suppress(StudyError, OSError):  # such as another process that has locked it
            if not store.exists(FILE):
                with study_lock(store):
                    store.remove()
        raise


@contextmanager
def new_study(session: Session, comparison: Comparison | None = None) -> Iterator[None]:
    """Within :func:`new_folder`, what the block does as the only process that has the lock.

    Args:
        comparison: what a comparison compares.

    Raises:
        StudyError: another process has made a study of this name meanwhile; it stays.
    """
    check_no_study(session.store, session.request, comparison)
    try:
        yield
    except BaseException:
        if session.reporter.progress.stage is None:
            with suppress(StudyError, OSError):
                session.store.delete(FILE)
        raise
