"""Images and labels in the columns of a Hugging Face table, from Parquet or Arrow files.

An image is an encoded file: a struct column with `bytes`, or a column of bytes. The columns are
found by the features in the schema's metadata (:mod:`imbtune.data.readers.hf_features`), and by
their usual names. Labels are whole numbers, also as floats, with class names in the metadata or
without; or strings.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imbtune.data.images import text_of
from imbtune.data.readers.hf_features import class_names, read_features, type_of
from imbtune.data.readers.labels import (
    Labels,
    labels_from_array,
    labels_from_positions,
    labels_from_texts,
    whole_numbers,
)
from imbtune.data.readers.source_data import SourceSplit
from imbtune.data.readers.split_names import (
    SPLIT_COLUMNS,
    TRAIN,
    flagged_split,
    quoted,
    split_by_flags,
    split_of,
)
from imbtune.errors import DataError

# Names of columns, in any case; earlier ones take precedence
IMAGE_COLUMNS = ("img", "image", "bytes", "image_bytes", "jpg", "jpeg", "png", "webp", "content")
LABEL_COLUMNS = (
    *("label", "fine_label", "labels", "class", "class_name", "label_name", "category", "target"),
    "cls",
)


def find_columns(schema: pa.Schema, path: Path) -> tuple[str, str]:
    """The names of the columns of images and labels.

    Raises:
        DataError: there are none.
    """
    features = read_features(schema).features

    def find(names: tuple[str, ...], feature: str) -> str | None:
        lower: dict[str, str] = {name.lower(): name for name in reversed(schema.names)}
        if found := next((lower[name] for name in names if name in lower), None):
            return found
        typed: list[str] = [key for key in schema.names if type_of(features.get(key)) == feature]
        return typed[0] if len(typed) == 1 else None

    image, label = find(IMAGE_COLUMNS, "Image"), find(LABEL_COLUMNS, "ClassLabel")
    if image is None or label is None:
        raise DataError(
            f"{path} has the columns {schema.names}: it needs "
            f"'{IMAGE_COLUMNS[0]}' (or '{IMAGE_COLUMNS[1]}') and '{LABEL_COLUMNS[0]}'"
        )
    for name in (image, label):
        if schema.names.count(name) > 1:
            raise DataError(f"{path} has several columns '{name}': keep one of them")
    return image, label


def split_columns(schema: pa.Schema) -> list[str]:
    """The columns of text whose names say that they hold the split of each image."""
    names = [name for name in schema.names if name.strip().lower() in SPLIT_COLUMNS]
    return [
        name
        for name in names
        if schema.names.count(name) == 1 and _is_text(schema.field(name).type)
    ]


def read_table(table: pa.Table, path: Path, split: str = TRAIN) -> SourceSplit:
    """The images and labels of one file's table, which may have further columns.

    Args:
        table: the rows of the file.
        path: the file.
        split: the split that it is used for.

    Raises:
        DataError: a column has the wrong type, a label is null, there is no row, or a column says
            that rows are in another split.
    """
    _check_split(table, path, split)
    image, label = find_columns(table.schema, path)
    if not len(table):
        raise DataError(f"{path} has no rows: get it again")
    if nulls := table.column(label).null_count:
        raise DataError(f"column '{label}' of {path} has {nulls} null values: get the file again")
    files = _image_bytes(table.column(image), f"column '{image}' of {path}")
    labels, notes = _labels(table, label, path)
    return SourceSplit(files, False, (labels,), lambda i: f"{path}, row {i}", notes)


def _check_split(table: pa.Table, path: Path, split: str) -> None:
    """DataError if a column of splits has another split than that of the file."""
    for name in split_columns(table.schema):
        values = sorted(set(_values(table.column(name))))
        others = [value for value in values if split_of(value) not in (None, split)]
        if others:
            raise DataError(
                f"{path} is read as the {split} set, and its column '{name}' has {quoted(others)}: "
                f"save a file for each split, or remove the column"
            )
    flags = [name for name in table.schema.names if flagged_split(name)]
    if flags and len(table):
        columns = {name: _values(table.column(name)) for name in flags}
        for i, values in enumerate(zip(*columns.values(), strict=True)):
            try:
                other = split_by_flags(dict(zip(flags, values, strict=True)))
            except ValueError as error:
                raise DataError(f"{path}, row {i}: {error}") from error
            if other != split:
                raise DataError(
                    f"{path} is read as the {split} set, and {quoted(flags)} say that its row {i} "
                    f"is in the {other} set: save a file for each split, or remove the column"
                )


def _values(column: pa.ChunkedArray) -> list[str]:
    """The values of a column as text; yes and no as 1 and 0."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())  # a file may say that it is text, and not be UTF-8
    values = column.to_pylist()
    return [str(int(value)) if isinstance(value, bool) else text_of(value) for value in values]


def _is_text(kind: pa.DataType) -> bool:
    """Whether values are strings or bytes, maybe in a dictionary."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or holds_bytes(kind)


def _image_bytes(column: pa.ChunkedArray, what: str) -> pa.LargeBinaryArray:
    """The encoded files of a column; an empty one, which cannot be read, where there is none."""
    if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
        if holds_bytes(column.type.field("bytes").type):
            return _filled(pc.struct_field(column, "bytes"))
    elif holds_bytes(column.type):
        return _filled(column)
    raise DataError(
        f"{what} is {str(column.type)!r}: it must be bytes of image files, or struct(bytes, path)"
    )


def _filled(column: pa.ChunkedArray) -> pa.LargeBinaryArray:
    return pc.fill_null(column.cast(pa.large_binary()), b"").combine_chunks()


def holds_bytes(kind: pa.DataType) -> bool:
    """Whether the values of a column are bytes."""
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _labels(table: pa.Table, label: str, path: Path) -> tuple[Labels, tuple[str, ...]]:
    """The labels of a column by name, and notes for the user.

    Raises:
        DataError: a type that is no label, or a value that is not valid.
    """
    column, place = table.column(label), f"{path}"
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    numbers = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    if any(is_kind(column.type) for is_kind in numbers):
        values = column.to_numpy()
        names, problem = class_names(table.schema, label)
        if names:
            whole = values if values.dtype.kind != "f" else whole_numbers(values, place)
            return labels_from_positions(whole.astype(np.int64), names, place), ()
        notes = (f"the class names in {path} cannot be read: {problem}",) if problem else ()
        return labels_from_array(values, place), notes
    texts = (pa.types.is_string, pa.types.is_large_string, holds_bytes)
    if any(is_kind(column.type) for is_kind in texts):
        return labels_from_texts(_values(column), place), ()
    raise DataError(
        f"column '{label}' of {path} is {column.type}: it must be whole numbers or strings"
    )
