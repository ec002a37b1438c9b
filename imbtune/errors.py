"""Expected failures. Each message is one line: what is wrong, the value, and how to fix it.

    ImbtuneError
    ├── ConfigError     an unknown name, a value out of range, an impossible resource
    ├── DataError       a data set that is missing, broken or too small
    │   └── NotTrainableError labelled images that are no data set to train on
    │       └── NoTrainingSetError a test set alone
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
import re
import reprlib
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from imbtune.credentials import masked

EXPECTED = 2  # exit code of a command that an expected failure ends
INTERRUPTED = 130  # exit code of a command that Ctrl-C ends
LONGEST_WORD = 160  # characters of a word or of a name in a path; longer ones are shortened
LONGEST_MESSAGE = 1500
LONGEST_LIST = 1000  # characters of the names in a message


class ImbtuneError(Exception):
    """The base class of all expected failures.

    Args:
        message: joined to one line, since the messages of other libraries in it may have several.
            Long words are shortened, and characters that a terminal would act on are escaped.
            Passwords and keys in URIs are masked.
    """

    def __init__(self, message: str) -> None:
        message = masked(message)
        words = (_shorten(word) for word in re.split(r"([\s/]+)", message[: 4 * LONGEST_MESSAGE]))
        line = " ".join(printable("".join(words)).split())
        if len(line) > LONGEST_MESSAGE or len(message) > 4 * LONGEST_MESSAGE:
            end = " ".join(_shorten(word) for word in message[-LONGEST_MESSAGE // 3 :].split())
            line = f"{line[: LONGEST_MESSAGE // 2]} … {printable(end)}"
        super().__init__(line)


class ConfigError(ImbtuneError):
    """An invalid setting: an unknown name, a value out of range, an impossible resource."""


class DataError(ImbtuneError):
    """A data set that is missing, broken, or too small for its settings."""


class NotTrainableError(DataError):
    """Labelled images that can be read, and are no data set to train on.

    There is no training set, or it has one class only, too few images of a class, or none of a
    class of the test set. A trained model may be evaluated on such images.

    Args:
        what: what is wrong.
        remedy: how to fix it, for a training.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}: {remedy}" if remedy else what)
        self.what = what


class NoTrainingSetError(NotTrainableError):
    """Data that have a test set, and no training set."""


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


def shown(value: object) -> str:
    """A value as Python writes it, shortened if it is long.

    A number with thousands of digits is described: Python refuses to write it.
    """
    return _SHORT.repr(value)


class _Short(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        if x.bit_length() < 400:
            return repr(x)
        return f"(a number of {x.bit_length() * 0.30103:,.0f} digits)"


_SHORT = _Short()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 4, 120, 120
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxfrozenset = _SHORT.maxdict = 20


def _shorten(word: str) -> str:
    """A word without its middle, if it is long; it says how long it was."""
    if len(word) <= LONGEST_WORD:
        return word
    return f"{word[:60]}…{word[-30:]} ({len(word):,} characters)"


def printable(text: str) -> str:
    """The text with characters that are not printable as Python escapes them."""
    return "".join(c if c.isprintable() or c.isspace() else repr(c)[1:-1] for c in text)


def unknown(kind: str, name: object, choices: Iterable[str]) -> ConfigError:
    """The error for an unknown name: it suggests the most similar valid name, or lists them.

    Args:
        kind: what is named, such as "knob" or a slot.
        choices: the valid names. All are listed, unless they are very many.
    """
    known, text = sorted(choices), name if isinstance(name, str) else shown(name)
    near = difflib.get_close_matches(text[:LONGEST_WORD], known, n=1)
    if not near:  # ERM for erm
        lower = {choice.casefold(): choice for choice in known}
        found = difflib.get_close_matches(text[:LONGEST_WORD].casefold(), lower, n=1)
        near = [lower[choice] for choice in found]
    if near:
        differ = difference(text, near[0])
        return ConfigError(f"unknown {kind} '{text}': did you mean '{near[0]}'{differ}?")
    if any("," in choice for choice in known):  # so that one sees where a name ends
        known = [f"'{choice}'" for choice in known]
    is_long = sum(map(len, known)) + 2 * len(known) > LONGEST_LIST
    listed = some_of(known, 20 if is_long else len(known))
    return ConfigError(f"unknown {kind} '{_shorten(text)}': choose one of {listed}")


def difference(name: str, other: str) -> str:
    """In which characters two names differ, for a message; empty where that can be seen.

    Names that look the same may differ in a kind of space, or in letters of two alphabets.
    """
    pairs = enumerate(zip(name, other, strict=False))
    start = next((i for i, (a, b) in pairs if a != b), min(len(name), len(other)))
    ends = [text[start : start + 1] for text in (other, name)]
    if "".join(ends).isascii():
        return ""
    told = [f"U+{ord(c):04X} {unicodedata.name(c, '')}".strip() if c else "its end" for c in ends]
    return f" (which has {told[0]}, where the other one has {told[1]})"


def some_of(names: Iterable[str], most: int, count: int | None = None) -> str:
    """Names for a message: the first `most` of them, and how many more there are.

    Args:
        count: how many there are, where `names` are the first ones only.
    """
    listed = list(names)
    left = (len(listed) if count is None else count) - most
    return ", ".join(listed[:most]) + (f" and {left:,} more" if left > 0 else "")
