"""Images from Parquet in the Hugging Face layout.

One row an image: a struct column `img` or `image` of `bytes` (an encoded file) and `path`, and an
integer column `label` (or `fine_label`). Shards of a split are `train-00000-of-00002.parquet` or
`train.parquet`, in the folder or its `data/`. Class names come from the schema's metadata.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from imbtune.data.splits import Images
from imbtune.errors import DataError

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label")


def find_shards(root: Path, split: str) -> list[Path]:
    """The Parquet files of a split, in order; empty where there are none."""
    patterns = (f"{split}-*.parquet", f"{split}.parquet")
    for folder in (root, root / "data"):
        found = sorted(path for pattern in patterns for path in folder.glob(pattern))
        if found:
            return found
    return []


def read_images(
    root: Path, split: str, size: tuple[int, int], classes: int
) -> tuple[Images, tuple[str, ...]]:
    """All images of a split as RGB, and the class names.

    Args:
        size: height and width that every image must have.
        classes: how many classes the labels must stay below.

    Raises:
        DataError: no shard, a file that is no Parquet, a missing column, a broken image, a label
            out of range.
    """
    shards = find_shards(root, split)
    if not shards:
        raise DataError(f"no {split}-*.parquet in {root}: both train and test shards are needed")
    _check_shards(shards)
    tables = [_read_shard(path) for path in shards]
    pixels = np.empty((sum(map(len, tables)), 3, *size), dtype=np.uint8)
    row = 0
    for path, table in zip(shards, tables, strict=True):
        for i, encoded in enumerate(table.column("image").combine_chunks().field("bytes")):
            pixels[row] = _decode(encoded.as_py(), size, f"{path}, row {i}")
            row += 1
    labels = np.concatenate([table.column("label").to_numpy() for table in tables])
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"labels of {shards[0].parent} run from {labels.min()} to {labels.max()}: "
            f"{classes} classes need 0 to {classes - 1}"
        )
    return Images(pixels, labels.astype(np.int64)), _class_names(shards[0], classes)


def _check_shards(shards: list[Path]) -> None:
    """All the shards that their names speak of, and no second copy of the split."""
    for path in shards:
        total = re.search(r"-of-(\d+)", path.stem)
        if total and int(total[1]) != len(shards):
            raise DataError(
                f"{path} is one of {int(total[1])} shards, and its folder has {len(shards)}: "
                f"get the missing ones, or move foreign ones away"
            )


def _read_shard(path: Path) -> pa.Table:
    """The two columns of one shard, renamed to `image` and `label`."""
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
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is no whole Parquet file ({reason}): get it again") from error
    image_type, label_type = table.schema.field("image").type, table.schema.field("label").type
    if not _holds_bytes(image_type):
        raise DataError(
            f"column '{image}' of {path} is {str(image_type)!r}: it must hold struct(bytes, path)"
        )
    if not pa.types.is_integer(label_type):
        raise DataError(f"column '{label}' of {path} is {label_type}: it must hold whole numbers")
    if nulls := table.column("label").null_count:
        raise DataError(f"column '{label}' of {path} lacks {nulls} labels: get the file again")
    if not len(table):
        raise DataError(f"{path} holds no row: get it again")
    return table


def _holds_bytes(image_type: pa.DataType) -> bool:
    if not pa.types.is_struct(image_type) or image_type.get_field_index("bytes") < 0:
        return False
    kind = image_type.field("bytes").type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _decode(encoded: bytes | None, size: tuple[int, int], where: str) -> np.ndarray:
    try:
        image: Image.Image = Image.open(io.BytesIO(encoded or b""))
        if image.size == (size[1], size[0]):
            image = image.convert("RGB")
    except Exception as error:  # of a broken file PIL raises anything: SyntaxError, ValueError, …
        raise DataError(
            f"{where}: the image cannot be read ({error}): get the file again"
        ) from error
    if image.size != (size[1], size[0]):
        raise DataError(
            f"{where}: the image is {image.size[0]}×{image.size[1]}, not {size[1]}×{size[0]}: "
            f"is it the right data set?"
        )
    return np.asarray(image).transpose(2, 0, 1)


def _class_names(path: Path, classes: int) -> tuple[str, ...]:
    metadata = pq.read_schema(path).metadata or {}
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        names = list(
            next(features[column]["names"] for column in LABEL_COLUMNS if column in features)
        )
    except (KeyError, ValueError, TypeError, StopIteration):
        names = [str(k) for k in range(classes)]
    if len(names) != classes:
        raise DataError(
            f"{path} names {len(names)} classes, not {classes}: is it the right data set?"
        )
    return tuple(names)
