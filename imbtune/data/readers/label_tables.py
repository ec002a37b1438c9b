"""Labels in CSV files beside image files.

A file has a row for each image: its file name, its class, and maybe its split. There can also be a
file for each split, such as `train.csv` and `test.csv`, in the data folder or in folders of the
splits.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path

from imbtune.data.csv_rows import check_one_line, csv_rows, delimiter_of, spelling_notes
from imbtune.data.file_walk import files_in, folders_in
from imbtune.data.readers.folders import are_parts, check_unpacked
from imbtune.data.readers.image_index import ImageIndex, identity, is_image
from imbtune.data.readers.labels import labels_from_texts
from imbtune.data.readers.source_data import (
    SourceData,
    SourceSplit,
    check_regular,
    files_on_disk,
)
from imbtune.data.readers.split_names import (
    SPLIT_COLUMNS,
    TEST,
    TRAIN,
    choose_splits,
    flagged_split,
    is_container,
    is_fold,
    plural,
    quoted,
    split_by_flags,
    split_of,
)
from imbtune.errors import DataError, some_of
from imbtune.text_encoding import decoded

# Names of columns in lower case, letters alone; earlier ones take precedence
FILE_COLUMNS = (
    *("filename", "filepath", "file", "path", "imagepath", "imgpath", "imagefile", "imagename"),
    *("imgname", "image", "img", "imageid", "imageindex", "imgid", "id", "name"),
)
LABEL_COLUMNS = (
    *("label", "labels", "class", "classname", "labelname", "category", "target", "classid"),
    *("labelid", "diagnosis", "dx", "y"),
)
ROWS_TRIED = 100  # rows of which one must name an image, for a file to be taken for labels
NAMED = 3  # images that a note names


@dataclass(frozen=True)
class Row:
    """One row: the line in the file, the name of the image file, its label and split."""

    line: int
    name: str
    label: str
    split: str


@dataclass(frozen=True)
class Table:
    """A CSV file, or its rows of one split. `rows` is None if its columns are not those of labels.

    `has_splits` tells whether it has a column of splits; `notes` say what its columns mean;
    `labels` are the different ones, with spaces around them.
    """

    path: Path
    columns: tuple[str, ...]
    rows: list[Row] | None
    has_splits: bool = False
    notes: tuple[str, ...] = ()
    labels: frozenset[str] = frozenset()


def find_label_tables(root: Path) -> SourceData | None:
    """The images and their labels by CSV files; None where no CSV file names images.

    Raises:
        DataError: a file cannot be read, lacks labels, or contradicts another.
    """
    tables = _tables(root)
    if not tables:
        return None
    index = ImageIndex(root)
    if not any(_names_an_image(table, index, name) for name, table in tables.items()):
        _check_not_needed(root, list(tables.values()))
        return None
    for name, table in tables.items():
        if len(tables) > 1 and not split_of(name):
            raise DataError(
                f"{table.path} is one of {len(tables)} CSV files, and its name is not that of a "
                f"split (train, test, val, …): rename it, or move it away"
            )
        if table.rows is None:
            raise DataError(
                f"{table.path} has the columns {quoted(table.columns)}, but no labels: add a "
                f"column 'label', or move the file away"
            )
    train, test, notes = _choose(root, tables)
    rows = {row.split for table in tables.values() for row in table.rows or []}
    check_unpacked(root, {split_of(name) for name in (*tables, *rows)})
    chosen = [train] + ([test] if test else [])
    splits, seen = [], dict[Hashable, tuple[str, Table]]()
    for part, kind in zip(chosen, (TRAIN, TEST), strict=False):
        splits.append(_images(part, kind, index, seen))
    files = ", ".join(dict.fromkeys(str(part.path) for part in chosen))
    about = [note for table in tables.values() for note in table.notes]
    about += spelling_notes({table.path: table.labels for table in tables.values()})
    notes = (f"labels come from {files}", *about, *notes)
    listed = {
        index.find(row.name, table.path.parent, split_of(row.split or name))
        for name, table in tables.items()
        for row in table.rows or []
    }
    unused = [path for path in index.paths if path not in listed]
    if unused:
        named = some_of(map(str, unused), NAMED)
        notes += (f"not used, since no CSV file has their label: {plural(unused)}, {named}",)
    return SourceData(splits[0], splits[1] if test else None, notes)


def _tables(root: Path) -> dict[str, Table]:
    """The CSV files by the name that tells their split: in `root`, else in folders of splits."""
    guess = not _has_class_folders(root)
    if found := _csv_files(root):
        return {path.stem: _read_table(path, guess) for path in found}
    inner = {folder: _csv_files(folder) for folder in folders_in(root) if split_of(folder.name)}
    for folder, paths in inner.items():
        if len(paths) > 1:
            raise DataError(f"{folder} has {len(paths)} CSV files: keep the one with the labels")
    return {folder.name: _read_table(paths[0], guess) for folder, paths in inner.items() if paths}


def _csv_files(folder: Path) -> list[Path]:
    return [path for path in files_in(folder) if path.suffix.lower() in (".csv", ".tsv")]


def _names_an_image(table: Table, index: ImageIndex, name: str) -> bool:
    """Whether one of the first rows names an image; `name` tells the split of the table."""
    rows, folder = (table.rows or [])[:ROWS_TRIED], table.path.parent
    return any(index.find(row.name, folder, split_of(row.split or name)) for row in rows)


def _has_class_folders(root: Path) -> bool:
    """Whether the folders look like classes, directly or in folders of splits."""
    folders = folders_in(root)
    for folder in folders:
        if split_of(folder.name) and len(folders_in(folder)) > 1:
            return True
    classes = [f for f in folders if not split_of(f.name) and not is_container(f.name)]
    return len(classes) > 1 and len(classes) == len(folders) and not are_parts(classes)


def _check_not_needed(root: Path, tables: list[Table]) -> None:
    """DataError unless there are folders of classes, which give the labels, too."""
    if _has_class_folders(root):
        return
    table = tables[0]
    if not table.columns:
        raise DataError(
            f"{table.path} is empty: give it the columns 'filename' and 'label', or remove it"
        )
    if table.rows is None:
        raise DataError(
            f"{table.path} has the columns {quoted(table.columns)}: it needs 'filename' and "
            f"'label', or the images must be in one folder for each class"
        )
    if not table.rows:
        raise DataError(f"{table.path} is empty but for its header: add a row for each image")
    raise DataError(
        f"{table.path} lists {plural(table.rows)}, and none is below {root}: check the "
        f"column of file names"
    )


def _choose(root: Path, tables: Mapping[str, Table]) -> tuple[Table, Table | None, tuple[str, ...]]:
    """The rows of the training and the test set, and notes for the user."""
    (first, table), *others = tables.items()
    if others or not table.has_splits:
        if not others and not split_of(first):
            return table, None, ()
        _check_same_split(tables)
        return choose_splits(tables, root, lambda name: tables[name].path)
    by_split: dict[str, list[Row]] = {}
    for row in table.rows or []:
        if not split_of(row.split):
            raise DataError(
                f"{table.path}, line {row.line}: the split '{row.split}' is none of train, test, "
                f"val: change it, or remove the column"
            )
        by_split.setdefault(row.split, []).append(row)
    parts = {name: Table(table.path, table.columns, rows) for name, rows in by_split.items()}
    return choose_splits(parts, table.path, lambda name: f"the split '{name}' of {table.path}")


def _check_same_split(tables: Mapping[str, Table]) -> None:
    """DataError for a row whose column tells another split than the name of its file."""
    for name, table in tables.items():
        for row in table.rows or []:
            if split_of(row.split) not in (None, split_of(name)):
                raise DataError(
                    f"{table.path}, line {row.line}: the split is '{row.split}', and the file is "
                    f"the {split_of(name)} set: move the row, or remove the column"
                )


def _images(
    table: Table, kind: str, index: ImageIndex, seen: dict[Hashable, tuple[str, Table]]
) -> SourceSplit:
    """The images of a table, in the order of its rows; a repeated row counts once.

    Args:
        table: the rows of one split.
        kind: the split.
        index: the image files.
        seen: label and table of the images so far; is added to.

    Raises:
        DataError: a row has no label, or an image has two labels or is in two splits.
    """
    folder = table.path.parent
    paths, labels = [], []
    for row in table.rows or []:
        if not row.label:
            raise DataError(
                f"{table.path}, line {row.line}: '{row.name}' has no label: add it, or remove "
                f"the row"
            )
        # a file that is not there is reported later, as an image that cannot be read
        path = index.find(row.name, folder, kind) or folder / row.name
        key = identity(path)  # a link to an image is the same image
        if key in seen:
            label, other = seen[key]
            if other is not table:
                raise DataError(
                    f"{table.path}, line {row.line}: '{row.name}' is in the training and in the "
                    f"test set: remove it from one of them"
                )
            if label != row.label:
                raise DataError(
                    f"{table.path}, line {row.line}: '{row.name}' has the labels '{label}' and "
                    f"'{row.label}': an image needs exactly one"
                )
            continue
        seen[key] = row.label, table
        paths.append(path)
        labels.append(row.label)
    return files_on_disk(paths, labels_from_texts(labels, str(table.path), numeric=True))


def _read_table(path: Path, guess: bool) -> Table:
    """The rows of a CSV file, in UTF-8 or UTF-16, with any usual delimiter.

    Args:
        path: the file.
        guess: of two columns, the name of one is enough to tell what both are, and there need not
            be a header.

    Raises:
        DataError: it cannot be read, or a row has too few or too many columns.
    """
    check_regular(path)
    try:
        text = decoded(path.read_bytes())
        delimiter = delimiter_of(text)
    except (OSError, UnicodeError) as error:
        raise DataError(f"cannot read {path} ({error}): save it as CSV in UTF-8") from error
    first = next(csv_rows(path, text, delimiter), None)
    if first is None:
        return Table(path, (), None)
    header = [cell.strip() for cell in first[1]]
    while len(header) > 2 and not header[-1]:  # spreadsheets export empty columns
        header.pop()
    if guess:
        check_one_line(path, first[0], header)
    has_header = not (guess and len(header) == 2 and is_image(Path(header[0])))
    places = _columns(path, header, guess) if has_header else (0, 1, None)
    file, label, split = places
    if file is None or label is None:
        return Table(path, tuple(header), None)
    lines = list(csv_rows(path, text, delimiter))[has_header:]
    flagged = [i for i, name in enumerate(header) if flagged_split(name) and i != label]
    flags = {header[i]: i for i in flagged}
    if len({flagged_split(name) for name in flags}) < len(flagged):
        names = quoted(header[i] for i in flagged)
        raise DataError(f"{path} has the columns {names}, of which two say the same: keep one")
    if flags and split is not None:
        raise DataError(
            f"{path} has the columns {quoted([header[split], *flags])}, which all tell the split: "
            f"keep one"
        )
    rows = []
    for line, cells in lines:
        is_short = len(cells) <= max(file, label, split or 0, *flags.values())
        if is_short or any(cell.strip() for cell in cells[len(header) :]):
            first_row = "header" if has_header else "first row"
            how = "correct the line" if is_short else f"put text with '{delimiter}' in quotes"
            raise DataError(
                f"{path}, line {line} has {len(cells)} columns, and the {first_row} has "
                f"{len(header)}: {how}"
            )
        used = (file, label, split, *flags.values())
        check_one_line(path, line, [cells[i] for i in used if i is not None])
        name, text_label = cells[file].strip(), cells[label].strip()
        text_split = "" if split is None else cells[split].strip()
        if flags:
            try:
                text_split = split_by_flags({key: cells[i].strip() for key, i in flags.items()})
            except ValueError as error:
                raise DataError(f"{path}, line {line}: {error}") from error
        rows.append(Row(line, name, text_label, text_split))
    notes = [f"the split of each image comes from {quoted(flags)} in {path}"] if flags else []
    if folds := [name for i, name in enumerate(header) if is_fold(name) and i not in places]:
        notes.append(
            f"not used: {quoted(folds)} in {path} (to test on a fold, give a column 'split' with "
            "train and test)"
        )
    labels = frozenset(cells[label] for _, cells in lines)
    return Table(path, tuple(header), rows, split is not None or bool(flags), tuple(notes), labels)


def _columns(
    path: Path, header: list[str], guess: bool
) -> tuple[int | None, int | None, int | None]:
    """The positions of the columns of file names, labels and splits; None where there is none."""
    keys = [re.sub(r"[^a-z]", "", name.casefold()) for name in header]

    def find(names: tuple[str, ...]) -> int | None:
        return next((keys.index(name) for name in names if name in keys), None)

    file, label, split = find(FILE_COLUMNS), find(LABEL_COLUMNS), find(SPLIT_COLUMNS)
    if (
        guess and len(header) == 2 and (file is None) != (label is None)
    ):  # the other one, whatever its name
        file = 1 - label if label is not None else file
        label = 1 - file if label is None and file is not None else label
    for place in (file, label, split):
        if place is not None and header[place]:
            same = [name for name in header if name.casefold() == header[place].casefold()]
            if len(same) > 1:
                raise DataError(f"{path} has several columns '{header[place]}': keep one of them")
    return file, label, split
