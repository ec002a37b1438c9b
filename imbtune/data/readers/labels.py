"""Labels as names of classes, so that they mean the same in every file of a data set.

Files number their classes differently: the test set may lack a class, or list the classes in
another order. So each reader gives its labels as :class:`Labels`, names with positions in them,
and :func:`match_labels` joins them by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass

import numpy as np

from imbtune.data.csv_rows import WHOLE
from imbtune.data.images import Array, Ints, text_of
from imbtune.data.readers.split_names import plural, quoted
from imbtune.errors import DataError, NotTrainableError
from imbtune.metrics.class_names import spelling_key

NEGATIVE = re.compile(r"[-\u2212]\s*0*[1-9]\d*(\.0*)?")  # a whole number below 0, as text
PANDAS_MISSING = ("nan", "NaN", "<NA>")


@dataclass(frozen=True)
class Labels:
    """The labels of one file or folder.

    Args:
        names: the names of classes, each once.
        index: the position of each image's class in `names`, int64 (N,).
        place: the file or folder, for messages.
        listed: the file has a list of names, such as Hugging Face's ClassLabel, whose order counts
            and which may name classes without images.
        numbers: the names are the file's whole numbers, which can be positions in the list of
            another file.
        folders: each name is a folder in `place`.
    """

    names: tuple[str, ...]
    index: Ints
    place: str
    listed: bool = False
    numbers: bool = False
    folders: bool = False

    def used(self) -> list[str]:
        """The names that have images, in their order."""
        return [self.names[k] for k in np.unique(self.index)]

    def describe(self, name: str) -> str:
        """One class, for messages."""
        return f"{self.place}/{name}" if self.folders else f"class '{name}' of {self.place}"


def labels_from_numbers(values: Ints, place: str) -> Labels:
    """Labels that are whole numbers: classes are named by them, in their order.

    Raises:
        DataError: a negative number.
    """
    numbers, index = np.unique(values, return_inverse=True)
    if len(numbers) and numbers[0] < 0:
        _refuse_negative(values[values < 0], str(values[values < 0][0]), place)
    names = tuple(str(number) for number in numbers.tolist())
    return Labels(names, index.astype(np.int64), place, numbers=True)


def labels_from_positions(values: Ints, names: tuple[str, ...], place: str) -> Labels:
    """Labels that are positions in a list of names.

    Raises:
        DataError: a name is in the list twice, or a label is no position.
    """
    if len(set(names)) < len(names):
        raise DataError(f"{place} lists a class name twice: {quoted(names)}: name each class once")
    if len(values) and values.min() == -1:
        _refuse_negative(values[values < 0], "-1", place)
    if len(values) and (values.min() < 0 or values.max() >= len(names)):
        raise DataError(
            f"labels of {place} are from {values.min()} to {values.max()}, and it names "
            f"{len(names)} classes: they need labels from 0 to {len(names) - 1}"
        )
    return Labels(names, values.astype(np.int64), place, listed=True)


def labels_from_texts(values: Sequence[str], place: str, numeric: bool = False) -> Labels:
    """Labels that are strings: classes in alphabetical order.

    Args:
        values: the label of each image.
        place: the file, for messages.
        numeric: the file has no types, so strings that are all whole numbers are numbers.
    """
    names = sorted(set(values))
    # '01' and '1' may be two classes, so labels with zeros in front stay text
    if numeric and all(re.fullmatch(WHOLE, name) for name in names):
        spelled: dict[int, str] = {}
        for name in names:
            other = spelled.setdefault(int(name.partition(".")[0]), name)
            if other != name:
                raise DataError(
                    f"{place} has the labels '{other}' and '{name}', which are the same number: "
                    f"write one of them, or give two classes different names"
                )
        numbers = [int(value.partition(".")[0]) for value in values]
        return labels_from_numbers(np.array(numbers, dtype=np.int64), place)
    position = {name: k for k, name in enumerate(names)}
    index = np.array([position[value] for value in values], dtype=np.int64)
    return Labels(tuple(names), index, place)


def whole_numbers(values: Array, place: str) -> Ints:
    """Labels that are floats, as whole numbers.

    Raises:
        DataError: fractions, NaN, or numbers from 2⁶² on.
    """
    values = values.astype(np.float64)  # float16 ends below the limit
    wrong = values[~(np.abs(values) < 2**62) | (values != np.rint(values))]  # NaN is, too
    if len(wrong):
        raise DataError(
            f"{place} has the label {wrong[0]:g}: save classes as whole numbers or strings"
        )
    return values.astype(np.int64)


def labels_from_array(values: Array, place: str) -> Labels:
    """Labels of any type: whole numbers, also as floats or booleans, strings, or bytes.

    Raises:
        DataError: fractions, NaN, or another type.
    """
    if values.dtype.kind == "f":
        values = whole_numbers(values, place)
    if values.dtype.kind in "iu":
        return labels_from_numbers(values, place)
    if values.dtype.kind in "bOUS":
        return labels_from_texts([text_of(value) for value in values.tolist()], place)
    raise DataError(f"the labels of {place} are {values.dtype}: save whole numbers or strings")


def match_labels(
    train: Sequence[Labels], test: Sequence[Labels] = (), classes: int | None = None
) -> tuple[tuple[str, ...], Ints, Ints, tuple[str, ...]]:
    """The classes, which are those of the training images, and the labels as positions in them.

    Args:
        train: the labels of each file of the training set.
        test: the labels of each file of the test set.
        classes: the number of classes of a published data set. Then labels may be their numbers
            from 0 on, and classes without images are not left out. None: any number.

    Returns:
        The names of the classes; training and test labels, int64; and notes for the user.

    Raises:
        DataError: a label is empty or the text of a missing one, a test image has a class without
            training images, two names differ only in spelling, numbers cannot be matched with
            names, or there are not `classes` classes.
    """
    _refuse_missing([*train, *test])
    (train, test), notes = _named([list(train), list(test)], classes)
    names = list(dict.fromkeys(name for part in train for name in part.names))
    if not any(part.listed for part in train):
        numbers = all(part.numbers for part in train)
        names.sort(key=(lambda name: int(name)) if numbers else None)
        if numbers and names != [str(k) for k in range(len(names))]:
            notes += (
                f"{train[0].place} has the labels {quoted(names, 6)}, which are not all whole "
                f"numbers from 0 on: the classes have these names (check that none is missing)",
            )
    used = {name for part in train for name in part.used()}
    if not classes and (empty := [name for name in names if name not in used]):
        names = [name for name in names if name in used]
        notes += (
            f"{train[0].place} names classes without training images, which are left out: "
            f"{quoted(empty)}",
        )
    positions = _positions(names, train[0])
    train_labels = [_relabel(part, positions, train) for part in train]
    test_labels = [_relabel(part, positions, train) for part in test]
    if classes and len(names) != classes:
        has = (
            f"has {len(names)} class folders" if train[0].folders else f"names {len(names)} classes"
        )
        raise DataError(f"{train[0].place} {has}, not {classes}: is it the right data set?")
    notes += _spelling_notes(names, positions, test)
    written = tuple(map(text_of, names))
    if escaped := [text for text, name in zip(written, names, strict=True) if text != name]:
        notes += (
            f"{train[0].place} has class names that are not UTF-8, which are written with escapes: "
            f"{quoted(escaped, 6)}",
        )
    return written, _joined(train_labels), _joined(test_labels), notes


def _named(
    splits: list[list[Labels]], classes: int | None
) -> tuple[list[list[Labels]], tuple[str, ...]]:
    """The labels, with numbers replaced by names where other files list the names.

    Without a list, the numbers of a data set with a known number of classes are its names.

    Raises:
        DataError: the lists of the other files differ.
    """
    every = [part for split in splits for part in split]
    listed = [part for part in every if part.listed]
    numbered = [part for part in every if part.numbers]
    if not numbered or not (listed or classes):
        return splits, ()
    names = listed[0].names if listed else tuple(str(k) for k in range(classes or 0))
    if other := next((part for part in listed if part.names != names), None):
        raise DataError(
            f"{numbered[0].place} has numbers as labels, and the class names of other files differ "
            f"({listed[0].place}: {quoted(names)}; {other.place}: {quoted(other.names)}): save "
            f"the class names in every file"
        )

    def name(part: Labels) -> Labels:
        if not part.numbers:
            return part
        values = np.array([min(int(number), 2**62) for number in part.names], dtype=np.int64)
        return labels_from_positions(values[part.index], names, part.place)

    named = [[name(part) for part in split] for split in splits]
    if not listed:
        return named, ()
    note = (
        f"{numbered[0].place} has numbers as labels and no class names: they are positions in the "
        f"class names of {listed[0].place}"
    )
    return named, (note,)


def _positions(names: list[str], part: Labels) -> dict[str, int]:
    """The position of each name, by its key.

    Raises:
        DataError: two names have the same key.
    """
    positions: dict[str, int] = {}
    for k, name in enumerate(names):
        other = positions.setdefault(spelling_key(name), k)
        if other != k:
            raise DataError(
                f"{part.place} has the classes '{names[other]}' and '{name}', which differ only "
                f"in case, spaces or Unicode form: join them, or rename one"
            )
    return positions


def _relabel(part: Labels, positions: dict[str, int], train: Sequence[Labels]) -> Ints:
    """The labels as positions in the classes.

    Raises:
        NotTrainableError: a class has no training images.
    """
    place = np.array([positions.get(spelling_key(name), -1) for name in part.names], np.int64)
    labels = place[part.index] if len(part.index) else part.index
    if len(labels) and labels.min() < 0:
        name = part.names[int(part.index[labels.argmin()])]
        trained = sorted({name for other in train for name in other.used()})
        raise NotTrainableError(
            f"{part.describe(name)} is a class without training images: training images have the "
            f"classes {quoted(trained)}, these have {quoted(part.used())}",
            "rename the classes, move the images away, or add training images",
        )
    return labels


def _spelling_notes(
    names: list[str], positions: dict[str, int], test: Sequence[Labels]
) -> tuple[str, ...]:
    """A note for each test class that the training set spells differently."""
    other = {
        name: part.describe(name) for part in test for name in part.used() if name not in names
    }
    return tuple(
        f"{place} is taken for the class '{names[positions[spelling_key(name)]]}'"
        for name, place in other.items()
    )


def _refuse_missing(parts: Sequence[Labels]) -> None:
    """DataError if images have an empty label, a negative number, or what pandas writes for none.

    In a file without types, or in one that was saved as text, these are strings; they mean the same
    there, also beside names.
    """
    for part in parts:
        if found := _images_with(part, lambda name: not name.strip()):
            raise DataError(
                f"{part.place} has {plural(found)} with an empty label: name the class, or leave "
                f"these images out"
            )
        if found := _images_with(part, lambda name: bool(NEGATIVE.fullmatch(name.strip()))):
            name = part.names[part.index[found[0]]].strip()
            where = f"{part.place}/{name}" if part.folders else part.place
            _refuse_negative(found, name, where, "rename the class")
        if found := _images_with(part, lambda name: name.strip() in PANDAS_MISSING):
            raise DataError(
                f"{part.place} has {plural(found)} with the label "
                f"'{part.names[part.index[found[0]]]}', which pandas writes where there is no "
                f"label: leave these images out, or rename the class"
            )


def _images_with(part: Labels, is_meant: Callable[[str], bool]) -> list[int]:
    """The images whose class has such a name."""
    names = [k for k, name in enumerate(part.names) if is_meant(name)]
    found: list[int] = np.flatnonzero(np.isin(part.index, names)).tolist() if names else []
    return found


def _joined(labels: list[Ints]) -> Ints:
    return np.concatenate([np.empty(0, np.int64), *labels])


def _refuse_negative(
    images: Sized, label: str, place: str, instead: str = "number the classes from 0"
) -> None:
    raise DataError(
        f"{place} has {plural(images)} with the label {label}, which usually means that there is "
        f"no label: leave these images out, or {instead}"
    )
