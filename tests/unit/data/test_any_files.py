"""Any content of the files that describe images is read, or refused in one line that names a file.

`IMBTUNE_EXAMPLES=100` makes this a long campaign (docs/reliability.md).
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from data_files import IMAGE, encode_all, read, save_to_disk
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_data import make_images

from imbtune.data.splits import Dataset
from imbtune.errors import DataError

IMAGES = make_images([4, 4], 4)
FILES = encode_all(IMAGES)
CELLS = [{"bytes": file, "path": None} for file in FILES]


@contextmanager
def any_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def read_or_refused(name: str, root: Path) -> Dataset | None:
    """The data set, whole and right in itself; None where one line refuses it."""
    try:
        dataset = read(name, root)
    except DataError as error:
        message = str(error)
        assert len(message.splitlines()) == 1 and message.isprintable() and str(root) in message
        return None
    assert len(dataset.classes) == len(set(dataset.classes)) > 1
    for images in (dataset.train, dataset.test):
        assert set(images.labels.tolist()) <= set(range(len(dataset.classes)))
    return dataset


CELL = st.sampled_from(["0.png", "1.png", "2", "ape", "bee", "-1", "nan", "train", "test", "", "1"])
HEADER = st.sampled_from(["filename", "label", "split", "is_train", "fold", "x", "image", "y"])
ROW = st.lists(CELL | st.text(max_size=4), max_size=4)
LINES = st.tuples(
    st.lists(HEADER, max_size=4), st.lists(ROW, max_size=12), st.sampled_from(",;\t|")
)


def as_table(lines: tuple[list[str], list[list[str]], str]) -> bytes:
    header, rows, delimiter = lines
    text = "\n".join(delimiter.join(row) for row in [header, *rows])
    return text.encode("utf-8", "surrogatepass")


@settings(max_examples=60)
@given(st.binary(max_size=60) | LINES.map(as_table))
@example(b"\xff\xfef")
@example(b"filename,label\n0.png,\x00\n")
def test_any_csv_file(content: bytes) -> None:
    with any_folder() as root:
        for i, file in enumerate(FILES):
            (root / f"{i}.png").write_bytes(file)
        (root / "labels.csv").write_bytes(content)
        read_or_refused("folder", root)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["info", "features", "label", "names", "_type", "0", "1", "ape"]),
            inner | st.just("ClassLabel"),
            max_size=4,
        )
    ),
    max_leaves=10,
)
NAMED = st.builds(
    lambda names, kind: {"info": {"features": {"label": {"_type": kind, "names": names}}}},
    JSON | st.lists(st.text(max_size=3), max_size=3),
    st.sampled_from(["ClassLabel", "Value"]) | JSON,
)


@settings(max_examples=60)
@given(st.binary(max_size=20) | (JSON | NAMED).map(lambda value: json.dumps(value).encode()))
def test_any_metadata_of_a_parquet_file(content: bytes) -> None:
    table = pa.table({"image": pa.array(CELLS, IMAGE), "label": IMAGES.labels})
    with any_folder() as root:
        described = table.replace_schema_metadata({b"huggingface": content})
        pq.write_table(described, root / "train.parquet")
        read_or_refused("parquet", root)


@settings(max_examples=40)
@given(st.sampled_from(["state.json", "dataset_info.json"]), JSON | NAMED | st.binary(max_size=9))
def test_any_description_of_a_saved_data_set(name: str, content: Any) -> None:
    with any_folder() as root:
        save_to_disk(root, IMAGES, ["ape", "bee"])
        is_bytes = isinstance(content, bytes)
        (root / name).write_bytes(content if is_bytes else json.dumps(content).encode())
        read_or_refused("parquet", root)


LABEL = st.integers(-2, 3) | st.floats(-2, 3) | st.text(max_size=3) | st.binary(max_size=3)
LABELS = st.lists(LABEL, min_size=8, max_size=8) | st.lists(st.integers(0, 1), max_size=9)


@settings(max_examples=60)
@given(LABELS)
def test_any_labels_of_arrays(labels: list[Any]) -> None:
    with any_folder() as root:
        try:
            array = np.array(labels)
        except ValueError:  # NumPy itself cannot join these
            return
        np.savez(root / "mine.npz", images=IMAGES.array(), labels=array)
        read_or_refused("npz", root)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_damage_of_an_npz_file(places: list[tuple[int, int]]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, images=IMAGES.array(), labels=IMAGES.labels)
    content = bytearray(buffer.getvalue())
    for place, value in places:
        content[place % len(content)] = value
    with any_folder() as root:
        (root / "mine.npz").write_bytes(content)
        read_or_refused("npz", root)


@settings(max_examples=40)
@given(st.lists(st.text(max_size=5).filter(lambda name: "/" not in name), max_size=4))
def test_any_names_of_folders(names: list[str]) -> None:
    with any_folder() as root:
        for name in names:
            try:
                (root / name).mkdir(exist_ok=True)
            except (OSError, ValueError):  # no name of a folder
                continue
            for i, file in enumerate(FILES):
                (root / name / f"{i}.png").write_bytes(file)
        read_or_refused("folder", root)
