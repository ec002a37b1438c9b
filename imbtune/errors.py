"""Expected failures. Each message is one line: what is wrong, the value, and how to fix it.

    ImbtuneError
    ├── ConfigError     an unknown name, a value out of range, an impossible resource
    ├── DataError       a data set that is missing, broken or too small
    ├── StudyError      a study that exists already, or does not
    │   ├── StorageError    a disk or bucket that failed for longer than it is waited for
    │   ├── DamagedFileError a file of a study that is not what was written
    │   └── CheckpointError a checkpoint that is missing or damaged, or cannot be written
    ├── DivergenceError a training whose loss or logits are not finite
    └── ClusterError    a Ray cluster that cannot be reached

The command line prints an ImbtuneError as one line and exits with 2. Any other exception is a bug
and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

EXPECTED = 2  # exit code of a command that an expected failure ends
INTERRUPTED = 130  # exit code of a command that Ctrl-C ends


class ImbtuneError(Exception):
    """The base class of all expected failures.

    Args:
        message: joined to one line, since the messages of other libraries in it may have several.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class ConfigError(ImbtuneError):
    """An invalid setting: an unknown name, a value out of range, an impossible resource."""


class DataError(ImbtuneError):
    """A data set that is missing, broken, or too small for its settings."""


class StudyError(ImbtuneError):
    """A study that exists already, or one that does not exist."""


class StorageError(StudyError):
    """A storage that failed for longer than imbtune waits: a full disk, a bucket without answer."""


class DamagedFileError(StudyError):
    """A file of a study that is not what was written: a bit is flipped, or the end is missing."""


class CheckpointError(StudyError):
    """A checkpoint that is missing, damaged or unreadable, or that could not be written."""


class DivergenceError(ImbtuneError):
    """A training that diverged: its loss or its logits are not finite.

    The message says where and what, as in "epoch 12: the loss is not finite (nan)". In a search it
    ends the trial as FAIL, and the search goes on.
    """


@contextmanager
def diverging_at(when: str) -> Iterator[None]:
    """Say in the message of a DivergenceError when it happened.

    Args:
        when: begins the message, such as "epoch 12".
    """
    try:
        yield
    except DivergenceError as error:
        raise DivergenceError(f"{when}: {error}") from None


class ClusterError(ImbtuneError):
    """A Ray cluster that cannot be reached."""


def first_line(error: Exception) -> str:
    """The first line of an exception's text, or its kind where it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def unknown(kind: str, name: object, choices: Iterable[str]) -> ConfigError:
    """The error for an unknown name: it suggests the most similar valid name, or lists them.

    Args:
        kind: what is named, such as "knob" or a slot.
        choices: the valid names. At most 20 are listed.
    """
    known = sorted(choices)
    near = difflib.get_close_matches(str(name), known, n=1)
    if near:
        return ConfigError(f"unknown {kind} '{name}': did you mean '{near[0]}'?")
    listed = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return ConfigError(f"unknown {kind} '{name}': choose one of {listed}")
