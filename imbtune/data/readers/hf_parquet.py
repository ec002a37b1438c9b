"""Images in Parquet files with the Hugging Face layout (:mod:`imbtune.data.readers.hf_tables`).

The shards of a split are named `train-00000-of-00002.parquet` or `train.parquet`, and are in the
folder, in its `data/`, or in the folder of a configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from imbtune.data.file_walk import any_case, files_below, is_hidden
from imbtune.data.readers.hf_tables import find_columns, read_table, split_columns
from imbtune.data.readers.source_data import SourceSplit, check_regular, joined
from imbtune.data.readers.split_names import TRAIN, flagged_split, quoted, split_of
from imbtune.errors import DataError

# Where the Hugging Face repositories of the known data sets keep their shards
FOLDERS = ("", "data", "plain_text", "cifar100", "fashion_mnist", "cropped_digits")
FILES = any_case("*.parquet")
SHARDS = tuple(f"{folder}/{FILES}".lstrip("/") for folder in FOLDERS)  # where shards can be
# A split's name, and then numbers and a hash, as in train-00000-of-00002-0a1b
SHARD_NAME = re.compile(r"([a-z_-]+?)(?:[-_.]?(?:\d[0-9a-f]*|of|[0-9a-f]{4,}))*", re.IGNORECASE)


def find_shards(root: Path) -> tuple[dict[str, list[Path]], list[Path]]:
    """The shards of each split, in order, by the split's name; and files of no known split.

    Raises:
        DataError: shards of one split are in several folders.
    """
    splits: dict[str, list[Path]] = {}
    others: list[Path] = []
    for folder in (root / name for name in FOLDERS):
        for path in sorted(folder.glob(FILES)):
            if is_hidden(path.name):
                continue
            match = SHARD_NAME.fullmatch(path.stem)
            if not match or not split_of(match[1]):
                others.append(path)
                continue
            shards = splits.setdefault(match[1], [])
            shards.append(path)
            if shards[0].parent != path.parent:
                raise DataError(
                    f"{shards[0]} and {path} are two {match[1]} sets: move one of them away"
                )
    return splits, others


def _split_in(path: Path) -> str | None:
    """The split that the name of a shard names."""
    match = SHARD_NAME.fullmatch(path.stem)
    return split_of(match[1]) if match else None


def check_no_files_below(root: Path) -> None:
    """DataError if there are files of splits in folders that are not read.

    Raises:
        OSError: a folder cannot be read.
    """
    read = {root / name for name in FOLDERS}
    for path in files_below(root):
        is_split = _split_in(path) or split_of(path.parent.name)
        if path.suffix.lower() == ".parquet" and path.parent not in read and is_split:
            raise DataError(
                f"{path} would not be used, since it is neither in {root} nor in "
                f"{root / 'data'}: move it to the files of the other splits, or away"
            )


def check_no_others(others: Iterable[Path]) -> None:
    """DataError if there are files of no known split, which would not be used."""
    names = [path.name for path in others]
    if names:
        raise DataError(
            f"{next(iter(others)).parent} has {quoted(names, 5)}, whose names are not those of a "
            f"split (train, test, val, …): rename them, or move them away"
        )


def read_shards(shards: list[Path]) -> SourceSplit:
    """Read the shards of one split.

    Raises:
        DataError: a shard or a column is missing, a file is not Parquet, or a label is not valid.
    """
    _check_shards(shards)
    return joined([_read_shard(path) for path in shards])


def _check_shards(shards: list[Path]) -> None:
    """DataError unless there is each of the shards that their names count (`00001-of-00002`)."""
    for path in shards:
        total = re.search(r"-of-(\d+)", path.stem)
        if total and int(total[1]) != len(shards):
            raise DataError(
                f"{path} is one of {int(total[1])} shards, and its folder has {len(shards)}: "
                f"get the missing ones, or move other files away"
            )
    numbers = [re.search(r"(\d+)-of-\d+", path.stem) for path in shards]
    if not any(numbers):
        return
    found = {int(number[1]) for number in numbers if number}
    if missing := sorted(set(range(len(shards))) - found):
        if found == set(range(1, len(shards) + 1)):
            return
        raise DataError(
            f"{shards[0].parent} has {len(shards)} shards such as {shards[0].name}, and shard "
            f"{missing[0]} is missing: get it, and move second copies away"
        )


def _read_shard(path: Path) -> SourceSplit:
    """The encoded images of one shard and their labels."""
    check_regular(path)
    try:
        schema = pq.read_schema(path)
        flags = [name for name in schema.names if flagged_split(name)]
        columns = [*find_columns(schema, path), *split_columns(schema), *flags]
        split = _split_in(path) or TRAIN
        return read_table(pq.read_table(path, columns=columns), path, split)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path} is not a complete Parquet file ({reason}): get it again"
        ) from error
