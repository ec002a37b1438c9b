"""Image files in one folder per class, which may be in folders of the splits."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Set
from pathlib import Path

import numpy as np

from imbtune.data.file_walk import files_below, files_in, folders_in, is_special
from imbtune.data.readers.image_index import identity, is_image
from imbtune.data.readers.labels import Labels
from imbtune.data.readers.source_data import SourceData, SourceSplit, check_links, files_on_disk
from imbtune.data.readers.split_names import (
    TEST,
    VALIDATION,
    choose_splits,
    is_container,
    plural,
    quoted,
    split_of,
    splits_within,
)
from imbtune.errors import DataError, some_of

NAMED = 3  # files that a note names
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
# Of files that may list labels, and are not read
LISTS = (
    *(".xlsx", ".xls", ".ods", ".json", ".jsonl", ".ndjson", ".txt", ".xml", ".yaml", ".yml"),
    *(".parquet", ".feather", ".arrow", ".npy", ".npz", ".mat", ".pkl", ".db", ".sqlite", ".sql"),
    *(f".{kind}.{packed}" for kind in ("csv", "tsv") for packed in ("gz", "bz2", "xz", "zip")),
)
# Words in the names of folders that are numbered parts of one set of images
PART_WORDS = frozenset(
    ("part", "batch", "fold", "chunk", "shard", "folder", "images", "image", "imgs", "img", "data")
)
MORE_PART_WORDS = PART_WORDS | frozenset(
    ("parts", "split", "subset", "set", "partition", "section", "slice", "piece", "block", "dir")
)


def find_class_folders(root: Path) -> SourceData:
    """The images of train/CLASS/ and test/CLASS/, or of CLASS/ alone.

    Raises:
        DataError: there are no folders of classes, or folders whose meaning is not clear.
    """
    folders = folders_in(root)
    splits = [folder for folder in folders if split_of(folder.name)]
    if len(splits) < len(folders) and len({split_of(folder.name) for folder in splits}) == 1:
        # a single class may have such a name; its folder has no other folders
        splits = [folder for folder in splits if folders_in(folder)]
    if not splits:
        _check_classes(root, folders)
        split, passed_over = read_class_folders(root)
        _check_not_empty(split, passed_over)
        check_unpacked(root, set())
        notes = _notes(passed_over, _images_in(root))
        return SourceData(split, None, _notes_about_parts(folders) + notes)
    _check_others(root, [folder for folder in folders if folder not in splits])
    train, test, notes = choose_splits({folder.name: folder for folder in splits}, root)
    check_unpacked(root, {split_of(folder.name) for folder in splits})
    if test and not folders_in(test):
        if not files_in(test):
            raise DataError(f"{test} is empty: add a folder for each class, or remove it")
        raise DataError(
            f"{test} has {plural(_images_in(test))}, but no folders: sort the images into a folder "
            f"for each class, or move it away to test on other images{_other_lists(root, test)}"
        )
    _check_no_folder_between(train, test)
    notes += _notes_about_parts(folders_in(train))
    parts = [read_class_folders(folder, root) for folder in (train, test) if folder]
    _check_not_empty(*parts[0])
    passed_over = [path for _, paths in parts for path in paths]
    loose = [path for folder in (root, train, test) if folder for path in _images_in(folder)]
    found = [split for split, _ in parts]
    if test:
        _check_apart(*found)
    return SourceData(found[0], found[1] if test else None, notes + _notes(passed_over, loose))


def read_class_folders(root: Path, data_root: Path | None = None) -> tuple[SourceSplit, list[Path]]:
    """The image files below root/CLASS/ for each class, sorted by path.

    Args:
        root: the folder of a split.
        data_root: that of the data set, for messages; None where it is the same.

    Returns:
        The images, and the files that were passed over: those with other endings, and special
        files, such as named pipes.

    Raises:
        DataError: there is no folder of a class.
    """
    check_links(root)
    folders = folders_in(root)
    if not folders:
        raise _unsorted(root, data_root or root, "has no folders, and")
    paths: list[Path] = []
    index: list[int] = []
    seen: dict[Hashable, tuple[Path, int]] = {}
    passed_over: list[Path] = []
    others: dict[Path, Path] = {}
    for folder in folders:
        if (other := others.setdefault(folder.resolve(), folder)) != folder:
            raise DataError(f"{other} and {folder} are the same folder: remove one of the links")
    for k, folder in enumerate(folders):
        files = sorted(files_below(folder, others), key=str)
        images = [path for path in files if is_image(path) and not is_special(path)]
        kept = set(images)
        passed_over += [path for path in files if path not in kept]
        images.sort(key=Path.is_symlink)  # an image rather than a link to it
        once = []
        for path in images:
            first, label = seen.setdefault(identity(path), (path, k))
            if label != k:
                raise DataError(
                    f"{first} and {path} are the same file, in two classes: remove one of the links"
                )
            if first == path:
                once.append(path)
        paths += sorted(once, key=str)
        index += [k] * len(once)
    names = tuple(folder.name for folder in folders)
    labels = Labels(names, np.array(index, dtype=np.int64), str(root), folders=True)
    return files_on_disk(paths, labels), passed_over


def _unsorted(folder: Path, root: Path, has: str) -> DataError:
    """The error for images whose labels are not known.

    Args:
        folder: has the images.
        root: the folder of the data set, in which their labels may be.
        has: begins what is said of it.
    """
    return DataError(
        f"{folder} {has} {plural(_images_in(folder))}: sort the images into a folder for each "
        f"class, or list their labels in a CSV file beside it{_other_lists(root, folder)}"
    )


def _other_lists(*folders: Path) -> str:
    """Names files that may list the labels, and are not read."""
    files = [path for folder in dict.fromkeys(folders) for path in files_in(folder)]
    lists = [path for path in files if path.name.lower().endswith(LISTS)]
    what = f" (not read: {_named(lists)}; if the labels are there, save them as CSV)"
    return what * bool(lists)


def check_unpacked(root: Path, found: Set[str | None]) -> None:
    """DataError for a file where a folder with the test set is expected, such as `test.zip`.

    Args:
        root: the folder of the data set.
        found: the splits that it has. With a test set, other files do not matter.
    """
    for path in [] if TEST in found else files_in(root):
        is_packed = not path.suffix or path.suffix.lower() in ARCHIVES
        split = split_of(path.name.partition(".")[0])
        if is_packed and split in (TEST, VALIDATION) and split not in found:
            raise DataError(
                f"{path} is a file, and not a folder with the test set: unpack it, or move it away"
            )


def _images_in(folder: Path) -> list[Path]:
    """The image files directly in the folder."""
    return [path for path in files_in(folder) if is_image(path)]


def _check_classes(root: Path, folders: list[Path]) -> None:
    """DataError if the folders do not look like classes.

    They may be a folder around the data, or have folders of splits in them.
    """
    for folder in folders:
        inner = folders_in(folder)
        kinds = {split_of(path.name) for path in inner} - {None}
        if len(folders) == 1 and (kinds or len(inner) > 1):
            raise DataError(
                f"{root} has only one folder, '{folder.name}', with the folders "
                f"{quoted(path.name for path in inner)}: set --data to {folder}"
            )
        tables = [path for path in files_in(folder) if path.suffix.lower() in (".csv", ".tsv")]
        if len(folders) == 1 and tables:
            raise DataError(
                f"{root} has only one folder, '{folder.name}', with the CSV file "
                f"'{tables[0].name}': set --data to {folder}"
            )
        if len(folders) == 1 and not inner and is_container(folder.name):
            raise _unsorted(folder, root, "is the only folder, and has")
        if len(kinds) > 1:
            raise DataError(
                f"{folder} has the folders {quoted(path.name for path in inner)}: put the folders "
                f"of the classes into those of the splits, as in train/{folder.name}"
            )
    inner_kinds = [{split_of(path.name) for path in folders_in(f)} - {None} for f in folders]
    if sum(bool(kinds) for kinds in inner_kinds) > 1:
        raise DataError(
            f"{root} has the folders {quoted(folder.name for folder in folders)} with folders of "
            f"splits in them: set --data to one of them, or put the folders of the classes into "
            f"those of the splits"
        )
    if len(folders) > 1 and _look_like_splits(folders):
        raise DataError(
            f"{root} has the folders {quoted(folder.name for folder in folders)}, which look like "
            f"splits: rename them to train and test, or, if they are classes, move them into a "
            f"folder named train"
        )


def are_parts(folders: list[Path], words: frozenset[str] = PART_WORDS) -> bool:
    """Whether folders are numbered parts of one set of images, as `images_part_1`, `batch2`.

    Args:
        words: of which their names must have one.
    """
    names = {re.sub(r"\d+|(?<=[_ -])[a-z]$", "", folder.name.casefold()) for folder in folders}
    found = re.findall(r"[^\W_]+", names.pop())
    return not names and not words.isdisjoint(found)


def _notes_about_parts(folders: list[Path]) -> tuple[str, ...]:
    """A note if the folders of classes are called as parts of one set of images are."""
    if len(folders) < 2 or not are_parts(folders, MORE_PART_WORDS):
        return ()
    return (
        f"the classes are the folders {quoted((folder.name for folder in folders), NAMED)}, which "
        f"are called as parts of one set of images are: if they are, sort the images into a folder "
        f"for each class, or list their labels in a CSV file",
    )


def _check_no_folder_between(train: Path, test: Path | None) -> None:
    """DataError if the folders of the classes are not in that of a split, but in one within it."""
    classes = {folder.name for folder in folders_in(train)}
    for split in (train, test):
        inner = folders_in(split) if split else []
        if len(inner) != 1 or (split == test and inner[0].name in classes):
            continue
        if len(deep := folders_in(inner[0])) > 1 and not _images_in(inner[0]):
            raise DataError(
                f"{split} has only one folder, '{inner[0].name}', with the folders "
                f"{quoted((path.name for path in deep), NAMED)}: move these up, into {split}"
            )


def _look_like_splits(folders: list[Path]) -> bool:
    """Whether the folders seem to be splits, although their names are not those of splits.

    Either their names have words such as `train` and `test` in them, or all of them have the same
    folders with images. A class may be a `bullet_train`, so such words count where every folder has
    one, or where those that have one have folders in them.
    """
    named = [folder for folder in folders if splits_within(folder.name)]
    deep = [folder for folder in named if len(folders_in(folder)) > 1]
    for some in (named if len(named) == len(folders) else [], deep):
        if len({kind for folder in some for kind in splits_within(folder.name)}) > 1:
            return True
    names = [{path.name for path in folders_in(folder)} for folder in folders]
    if len(names[0]) < 2 or any(other != names[0] for other in names):
        return False
    return all(
        any(is_image(path) for path in files_below(inner))
        for folder in folders
        for inner in folders_in(folder)
    )


def _check_not_empty(train: SourceSplit, passed_over: list[Path]) -> None:
    """DataError if the folder of a class has no training images."""
    (labels,) = train.labels
    if empty := [name for name in labels.names if name not in labels.used()]:
        folder = Path(labels.place) / empty[0]
        others = [path for path in passed_over if path.is_relative_to(folder)]
        kind = "that no image can be" if all(map(is_special, others)) else "with other endings"
        about = f" ({plural(others, 'file')} {kind}: {_named(others)})" if others else ""
        raise DataError(
            f"{folder} is a class without images{about}: add images, or move the folder away"
        )


def _check_apart(train: SourceSplit, test: SourceSplit) -> None:
    """DataError if a test image is a training image by a link."""
    trained = {
        identity(path): path for path in map(Path, map(train.where, range(len(train.files))))
    }
    for i in range(len(test.files)):
        if other := trained.get(identity(Path(test.where(i)))):
            raise DataError(
                f"{test.where(i)} is the training image {other}: a test image must not be one, so "
                f"replace the link"
            )


def _check_others(root: Path, others: list[Path]) -> None:
    """DataError if a folder beside those of the splits has images."""
    for folder in others:
        if any(is_image(path) for path in files_below(folder)):
            raise DataError(
                f"{folder} is beside folders of splits, and its name is not that of a split "
                f"(train, test, val, …): rename it, or move it away"
            )


def _notes(passed_over: list[Path], loose: list[Path]) -> tuple[str, ...]:
    """Notes that count and name files that are not used."""
    notes: tuple[str, ...] = ()
    special = [path for path in passed_over if is_special(path)]
    others = [path for path in passed_over if not is_special(path)]
    if others:
        notes += (
            f"not read, since no image that can be read has such an ending: "
            f"{plural(others, 'file')}, {_named(others)}",
        )
    if special:
        notes += (
            f"not read, since no regular file (a named pipe, a socket or a device): "
            f"{plural(special, 'file')}, {_named(special)}",
        )
    if loose:
        notes += (
            f"not used, since not in the folder of a class: {plural(loose)}, {_named(loose)}",
        )
    return notes


def _named(paths: Iterable[Path]) -> str:
    """The first few paths."""
    return some_of(map(str, paths), NAMED)
