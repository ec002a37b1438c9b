"""What a damaged file of a study raises, as one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from imbtune.errors import StudyError
from imbtune.storage.store import join


@contextmanager
def damage_explained(path: str, file: str) -> Iterator[None]:
    """What a damaged YAML file of a study raises, as a StudyError.

    Args:
        path: the study's folder or URI.
        file: the file's name.
    """
    try:
        yield
    except (OSError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise StudyError(
            f"cannot read {join(path, file)} ({error!r}): restore it from a backup"
        ) from error
