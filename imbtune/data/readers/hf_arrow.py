"""Images in a folder that `save_to_disk` of the library `datasets` wrote.

It has `state.json`, `dataset_info.json` and Arrow files; or `dataset_dict.json` and such a folder
for each split. The library itself is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from imbtune import strict_json
from imbtune.data.file_walk import files_below, folders_in
from imbtune.data.readers.hf_tables import read_table
from imbtune.data.readers.source_data import SourceData, SourceSplit, check_regular, joined
from imbtune.data.readers.split_names import TRAIN, choose_splits, quoted, split_of
from imbtune.errors import DataError

# All files that are read
ARROW_FILES = ("*.arrow", "*.json", "*/*.arrow", "*/*.json")


def is_saved_dataset(root: Path) -> bool:
    """Whether `save_to_disk` wrote the folder."""
    return (root / "state.json").is_file() or (root / "dataset_dict.json").is_file()


def find_saved_dataset(root: Path) -> SourceData | None:
    """The images of a folder that `save_to_disk` wrote; None where it is none.

    Raises:
        DataError: files are missing or broken, or a split has another name.
    """
    if not is_saved_dataset(root):
        return None
    _check_no_others(root)
    if (root / "state.json").is_file():
        return SourceData(_read_split(root, TRAIN))
    names = _read_json(root / "dataset_dict.json").get("splits")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{root / 'dataset_dict.json'} lists no splits: save the data set again")
    if other := [name for name in names if not split_of(name)]:
        raise DataError(
            f"{root} has the splits {quoted(names)}, and {quoted(other)} is no name of a split "
            f"(train, test, val, …): save the data set without it, or rename it"
        )
    for name in names:
        if not (root / name / "state.json").is_file():
            raise DataError(
                f"there is no {root / name / 'state.json'}, and dataset_dict.json lists the split "
                f"'{name}': get its folder, or save the data set without it"
            )
    for folder in folders_in(root):
        if folder.name not in names and (folder / "state.json").is_file():
            raise DataError(
                f"{folder} would not be used, since dataset_dict.json lists {quoted(names)}: save "
                f"the data set with it, or move it away"
            )
    train, test, notes = choose_splits({name: root / name for name in names}, root)
    splits = [_read_split(path, split_of(path.name) or "") for path in (train, test) if path]
    return SourceData(splits[0], splits[1] if test else None, notes)


def _check_no_others(root: Path) -> None:
    """DataError if there is data in other files, which would not be used."""
    other = (".parquet", ".npz", ".csv", ".tsv")
    if files := sorted(path for path in files_below(root) if path.suffix.lower() in other):
        raise DataError(
            f"{files[0]} would not be used, since {root} is a saved data set: move it away, or set "
            f"--data to the other files"
        )


def _read_split(folder: Path, split: str) -> SourceSplit:
    """The images of one split, or of a saved data set without splits."""
    state = _read_json(folder / "state.json")
    info = _read_json(folder / "dataset_info.json")
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise DataError(
            f"{folder} has a selection of rows: call flatten_indices() and save it again"
        )
    files = state.get("_data_files", [])
    if files == []:
        raise DataError(f"{folder} is a split without images: save it again")
    names = [file.get("filename") if isinstance(file, dict) else None for file in _items(files)]
    paths = [folder / name for name in names if isinstance(name, str)]
    if not paths or len(paths) < len(names):
        raise DataError(f"{folder / 'state.json'} does not name its files: save the data set again")
    return joined([_read_arrow(path, info, split) for path in paths])


def _items(value: object) -> list[object]:
    """The items of a JSON list; none of another value."""
    return value if isinstance(value, list) else []


def _read_arrow(path: Path, info: Mapping[str, Any], split: str) -> SourceSplit:
    """The images of one Arrow file, of which `info` describes the columns."""
    check_regular(path)
    try:
        with pa.OSFile(str(path)) as source:
            table = _table(source)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is not a complete Arrow file ({reason}): get it again") from error
    if info.get("features") is not None:  # else what the file itself says
        about = strict_json.dumps({"info": {"features": info["features"]}})
        table = table.replace_schema_metadata({"huggingface": about})
    return read_table(table, path, split)


def _table(source: pa.NativeFile) -> pa.Table:
    """The table of a stream, or of a file of Arrow's file format."""
    try:
        with pa.ipc.open_stream(source) as stream:
            return stream.read_all()
    except pa.ArrowInvalid:
        source.seek(0)
        with pa.ipc.open_file(source) as file:
            return file.read_all()


def _read_json(path: Path) -> dict[str, Any]:
    check_regular(path)
    try:
        content = strict_json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path} ({error}): save the data set again") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a description of a data set: save the data set again")
    return content
