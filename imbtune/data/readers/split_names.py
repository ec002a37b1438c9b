"""What the name of a folder, a file or a column's value says about a split.

Names are compared in lower case, and words such as "set" or "images" do not matter: `Train`,
`training_set` and `train-images` are all the training set.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

from imbtune.errors import DataError, NoTrainingSetError, some_of

TRAIN, TEST, VALIDATION = "training", "test", "validation"
SPELLINGS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), TEST),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development"), VALIDATION),
}
# Words beside the split's own; also joined to it, as in `trainset`
OTHER_WORDS = "dataset|data|set|split|images|image|imgs|img|labels|label|annotations|metadata|seg"

# Names of columns that hold the split of each image, in lower case
SPLIT_COLUMNS = ("split", "subset", "set", "partition", "phase", "dataset")

# Values of a column such as `is_train`, in lower case
YES = ("1", "1.0", "true", "t", "yes", "y")
NO = ("0", "0.0", "false", "f", "no", "n")

ItemT = TypeVar("ItemT")

_alone = ContextVar("_alone", default=False)  # within test_set_alone


def split_of(name: str) -> str | None:
    """The split that a name names: TRAIN, TEST, VALIDATION, or None for any other name."""
    kinds = {SPELLINGS.get(word) for word in _words(name)}
    return kinds.pop() if len(kinds) == 1 else None


def splits_within(name: str) -> set[str]:
    """The splits that words in a name name, as in `x_train`, `TrainA` or `test_real`."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold()
    found = {SPELLINGS.get(word) for word in (*re.findall(r"[^\W\d_]+", spaced), *_words(name))}
    return {kind for kind in found if kind}


def flagged_split(column: str) -> str | None:
    """The split that a column of yes and no marks, as `is_train`, `isTest` or `in_val`, or None."""
    match = re.fullmatch(r"(is|in)[\s_-]?(.+)", column.strip(), re.IGNORECASE)
    return split_of(match[2]) if match else None


def is_fold(column: str) -> bool:
    """Whether a column's name says that it holds folds of a cross-validation."""
    words = re.findall(r"[a-z]+", column.casefold())
    return any(re.fullmatch(r"(k|cv)?folds?(id|index|no|num|number)?", word) for word in words)


def split_by_flags(flags: Mapping[str, str]) -> str:
    """The split of a row by its columns of yes and no: a row of no other split is for training.

    Where the only column is `is_train`, the rows that it excludes are for testing.

    Args:
        flags: the row's value by the column's name.

    Raises:
        ValueError: a value is neither yes nor no, or two columns say yes.
    """
    marked = set[str]()
    for column, value in flags.items():
        if value.casefold() in YES:
            marked.add(flagged_split(column) or "")
        elif value.casefold() not in NO:
            raise ValueError(f"'{column}' is '{value}': give 1 or 0")
    if len(marked) > 1:
        raise ValueError(f"{quoted(flags)} mark it for {' and '.join(sorted(marked))}: mark one")
    kinds = {flagged_split(column) for column in flags}
    return marked.pop() if marked else TEST if kinds == {TRAIN} else TRAIN


def is_container(name: str) -> bool:
    """Whether a folder's name says nothing about its images, as `images` or `data`.

    A number, such as `0`, is a class.
    """
    return bool(_words(name, but="")) and not _words(name)


def _words(name: str, but: str = OTHER_WORDS) -> list[str]:
    """The words of a name in lower case, without those of a pattern."""
    words = re.findall(r"[^\W\d_]+", name.casefold())
    return [part for word in words if (part := re.sub(f"({but})$", "", word))]


@contextmanager
def test_set_alone() -> Iterator[None]:
    """Within the block, data without a training set are read: their test set is in its place.

    A trained model is evaluated on such data. All readers take their splits from
    :func:`choose_splits`, so they need not know of it.
    """
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def choose_splits(
    found: Mapping[str, ItemT], place: Path, describe: Callable[[str], object] | None = None
) -> tuple[ItemT, ItemT | None, tuple[str, ...]]:
    """The training set, the test set and notes for the user.

    Validation data is the test set where there is no other. Beside a test set it is not used:
    imbtune takes validation images from the training images.

    Args:
        found: the data of each split by its name on disk. Every name names a split.
        place: where the splits were found, for messages.
        describe: the split of a name, for messages; None: its path in `place`.

    Raises:
        NoTrainingSetError: there is no training set, outside of :func:`test_set_alone`.
        DataError: there are two of one kind.
    """
    describe = describe or (lambda name: place / name)
    by_kind: dict[str, list[str]] = {TRAIN: [], TEST: [], VALIDATION: []}
    for name in found:
        by_kind[split_of(name) or ""].append(name)
    for kind, names in by_kind.items():
        if len(names) > 1 and (kind != VALIDATION or not by_kind[TEST]):
            raise DataError(
                f"{place} has several {kind} sets, {quoted(names)}: join them, or move one away"
            )
    if not by_kind[TRAIN] and _alone.get():
        (name, *_), others = by_kind[TEST] or by_kind[VALIDATION], by_kind[VALIDATION]
        unused = [other for other in others if other != name]
        return found[name], None, tuple(f"{describe(one)} is not used" for one in unused)
    if not by_kind[TRAIN]:
        raise NoTrainingSetError(
            f"{place} has {quoted(found)}, but no training set", "name the training data 'train'"
        )
    train = found[by_kind[TRAIN][0]]
    if by_kind[TEST]:
        notes = tuple(
            f"{describe(name)} is not used: there is a test set, and validation images come from "
            f"the training images"
            for name in by_kind[VALIDATION]
        )
        return train, found[by_kind[TEST][0]], notes
    if by_kind[VALIDATION]:
        (name,) = by_kind[VALIDATION]
        note = (
            f"{describe(name)} is the test set, since there is no other; validation images come "
            f"from the training images"
        )
        return train, found[name], (note,)
    return train, None, ()


def plural(items: Sized, noun: str = "image") -> str:
    """How many items there are, as in `1 image` and `1,200 images`."""
    return f"{len(items):,} {noun}{'s' * (len(items) != 1)}"


def quoted(names: Iterable[object], most: int = 20) -> str:
    """Names for a message: 'a', 'b' and, after `most` of them, how many there are."""
    return some_of((f"'{name}'" for name in names), most)
