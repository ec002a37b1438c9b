"""Images in Parquet files with the Hugging Face layout.

Each row is an image: a struct column `img` or `image` with `bytes` (an encoded file) and `path`,
and an integer column `label` or `fine_label`. The shards of a split are named
`train-00000-of-00002.parquet` or `train.parquet`, and are in the folder, in its `data/`, or in the
folder of a configuration. The class names are in the schema's metadata.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imbtune.data.encoded_images import EncodedImages
from imbtune.data.images import Ints
from imbtune.errors import DataError

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label")
# Where the Hugging Face repositories of the known data sets keep their shards
FOLDERS = ("", "data", "plain_text", "cifar100", "fashion_mnist", "cropped_digits")
SHARDS = tuple(f"{folder}/*.parquet".lstrip("/") for folder in FOLDERS)  # where shards can be


def find_shards(root: Path, *splits: str) -> list[Path]:
    """The shards, in order, of the first of `splits` that has any; empty if none has."""
    for split in splits:
        for folder in (root / name for name in FOLDERS):
            found = sorted(
                path
                for pattern in (f"{split}-*.parquet", f"{split}.parquet")
                for path in folder.glob(pattern)
            )
            if found:
                return found
    return []


def read_shards(shards: list[Path], classes: int = 0) -> tuple[EncodedImages, tuple[str, ...]]:
    """Read the shards of one split.

    Args:
        shards: their paths.
        classes: the number of classes; 0: the number of class names or, without names, the largest
            label + 1.

    Returns:
        The encoded images with their labels, and the class names.

    Raises:
        DataError: a shard or a column is missing, a file is not Parquet, or a label is out of
            range.
    """
    _check_shards(shards)
    parts = [_read_shard(path) for path in shards]
    starts = np.cumsum([0, *(len(labels) for _, labels in parts)])
    labels = np.concatenate([labels for _, labels in parts])
    names = _class_names(shards[0])
    classes = classes or len(names) or int(labels.max()) + 1
    names = names or tuple(str(k) for k in range(classes))
    if len(names) != classes:
        raise DataError(
            f"{shards[0]} names {len(names)} classes, not {classes}: is it the right data set?"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"labels of {shards[0].parent} are from {labels.min()} to {labels.max()}: "
            f"{classes} classes need labels from 0 to {classes - 1}"
        )

    def where(i: int) -> str:
        k = int(np.searchsorted(starts, i, side="right")) - 1
        return f"{shards[k]}, row {i - int(starts[k])}"

    files = pa.concat_arrays([files for files, _ in parts])
    return EncodedImages(files, are_paths=False, labels=labels, where=where), names


def _check_shards(shards: list[Path]) -> None:
    """DataError unless there are as many shards as their names say (`-of-00002`)."""
    for path in shards:
        total = re.search(r"-of-(\d+)", path.stem)
        if total and int(total[1]) != len(shards):
            raise DataError(
                f"{path} is one of {int(total[1])} shards, and its folder has {len(shards)}: "
                f"get the missing ones, or move other files away"
            )


def _read_shard(path: Path) -> tuple[pa.LargeBinaryArray, Ints]:
    """The encoded images of one shard and their labels."""
    try:
        names = pq.read_schema(path).names
        image = next((name for name in IMAGE_COLUMNS if name in names), None)
        label = next((name for name in LABEL_COLUMNS if name in names), None)
        if image is None or label is None:
            raise DataError(
                f"{path} has the columns {names}: it needs "
                f"'{IMAGE_COLUMNS[0]}' (or '{IMAGE_COLUMNS[1]}') and '{LABEL_COLUMNS[0]}'"
            )
        table = pq.read_table(path, columns=[image, label]).rename_columns(["image", "label"])
        _check_columns(path, table, image, label)
        files = pc.struct_field(table.column("image"), "bytes").cast(pa.large_binary())
        # an empty file in place of a null is reported later, as an image that cannot be read
        images = pc.fill_null(files, b"").combine_chunks()
        labels = table.column("label").to_numpy().astype(np.int64)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path} is not a complete Parquet file ({reason}): get it again"
        ) from error
    return images, labels


def _check_columns(path: Path, table: pa.Table, image: str, label: str) -> None:
    """DataError if a column has the wrong type, a label is null, or there is no row."""
    image_type, label_type = table.schema.field("image").type, table.schema.field("label").type
    if not _holds_bytes(image_type):
        raise DataError(
            f"column '{image}' of {path} is {str(image_type)!r}: it must be struct(bytes, path)"
        )
    if not pa.types.is_integer(label_type):
        raise DataError(f"column '{label}' of {path} is {label_type}: it must be whole numbers")
    if nulls := table.column("label").null_count:
        raise DataError(f"column '{label}' of {path} has {nulls} null values: get the file again")
    if not len(table):
        raise DataError(f"{path} has no rows: get it again")


def _holds_bytes(image_type: pa.DataType) -> bool:
    if not pa.types.is_struct(image_type) or image_type.get_field_index("bytes") < 0:
        return False
    kind = image_type.field("bytes").type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _class_names(path: Path) -> tuple[str, ...]:
    """The class names in Hugging Face's metadata; empty if there are none."""
    metadata = pq.read_schema(path).metadata or {}
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return tuple(
            str(name) for name in next(features[c]["names"] for c in LABEL_COLUMNS if c in features)
        )
    except (KeyError, ValueError, TypeError, StopIteration):
        return ()
