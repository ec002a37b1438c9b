"""Columns of Hugging Face's Parquet files, and folders of `save_to_disk`, in every usual form."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_files import (
    IMAGE,
    encode,
    encode_all,
    raises_one_line,
    read,
    same,
    save_to_disk,
    write_columns,
    write_shard,
    write_split,
)
from small_data import make_images

from imbtune.data.readers.hf_parquet import find_shards
from imbtune.data.splits import Images

NAMES = ["ape", "bee", "cat"]
TRAIN, TEST = make_images([4, 3, 3], 8, 3), make_images([2, 2, 2], 8, 3, seed=5)
CELLS = [{"bytes": file, "path": None} for file in encode_all(TRAIN)]
WORDS = [NAMES[k] for k in TRAIN.labels]


def write_table(path: Path, features: dict[str, Any] | None = None, **columns: Any) -> None:
    table = pa.table(columns)
    if features:
        about = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": about})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def everything(root: Path) -> tuple[Images, tuple[str, ...]]:
    """All training images, where TEST is the test set."""
    write_split(root, "test", TEST, image="image", names=NAMES)
    dataset = read("parquet", root)
    assert same(dataset.test, TEST)
    return dataset.train, dataset.classes


@pytest.mark.parametrize("image", ["image", "img", "Image", "bytes", "image_bytes", "jpg"])
def test_plain_bytes_are_images(tmp_path: Path, image: str) -> None:
    for kind in (pa.binary(), pa.large_binary()):
        cells = pa.array(encode_all(TRAIN), kind)
        write_table(tmp_path / "train.parquet", **{image: cells, "label": WORDS})
        images, classes = everything(tmp_path)
        assert same(images, TRAIN) and classes == tuple(NAMES)


@pytest.mark.parametrize(
    "labels",
    [
        WORDS,
        pa.array(WORDS, pa.large_string()),
        pa.array(WORDS).dictionary_encode(),
        pa.array([word.encode() for word in WORDS]),
        pa.chunked_array([WORDS[:3], WORDS[3:]]),
        pa.array(TRAIN.labels, pa.uint8()),
        pa.array(TRAIN.labels.astype(float)),
        pa.array(TRAIN.labels.astype("float32")),
    ],
    ids=lambda labels: str(getattr(labels, "type", "list")),
)
@pytest.mark.parametrize("label", ["label", "labels", "class", "Category"])
def test_labels_of_every_type(tmp_path: Path, labels: Any, label: str) -> None:
    """Numbers take their names from the test set."""
    write_table(tmp_path / "train.parquet", image=pa.array(CELLS, IMAGE), **{label: labels})
    images, classes = everything(tmp_path)
    assert same(images, TRAIN) and classes == tuple(NAMES)


@pytest.mark.parametrize("dictionary", [False, True])
def test_text_that_is_not_utf8_is_read(tmp_path: Path, dictionary: bool) -> None:
    words = pa.array([f"{word}\xe9".encode("latin-1") for word in WORDS])
    texts = pa.Array.from_buffers(pa.string(), len(words), words.buffers())
    labels = texts.dictionary_encode() if dictionary else texts
    splits = pa.Array.from_buffers(pa.string(), len(words), words.buffers())
    write_table(tmp_path / "train.parquet", image=encode_all(TRAIN), label=labels, split=splits)
    assert read("parquet", tmp_path).classes == ("ape\\xe9", "bee\\xe9", "cat\\xe9")


def test_a_column_that_is_there_twice_is_named(tmp_path: Path) -> None:
    table = pa.table({"image": encode_all(TRAIN), "label": WORDS})
    pq.write_table(table.append_column("label", [WORDS]), tmp_path / "train.parquet")
    with raises_one_line(tmp_path, "several columns 'label'", "keep one"):
        read("parquet", tmp_path)


def test_columns_of_any_name_by_their_features(tmp_path: Path) -> None:
    features = {"photo": {"_type": "Image"}, "animal": {"_type": "ClassLabel", "names": NAMES}}
    write_table(
        tmp_path / "train.parquet",
        features,
        id=[str(i) for i in range(10)],
        photo=pa.array(CELLS, IMAGE),
        animal=TRAIN.labels,
    )
    images, classes = everything(tmp_path)
    assert same(images, TRAIN) and classes == tuple(NAMES)


UNREADABLE = {
    "no JSON": b"{",
    "not UTF-8": b"\xff{}",
    "nested": b"[" * 5000,
    "a list": b"[]",
    "info is a list": b'{"info": []}',
    "features are a list": b'{"info": {"features": [1]}}',
    "the label is text": b'{"info": {"features": {"label": "ClassLabel"}}}',
    **{
        f"names are {names}": (
            f'{{"info": {{"features": {{"label": {{"_type": "ClassLabel", "names": {names}}}}}}}}}'
        ).encode()
        for names in ("null", "3", '"ape"', "[]", "{}", '[["ape"]]', '{"1": "ape", "2": "bee"}')
    },
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_class_names_that_cannot_be_read_are_told(tmp_path: Path, what: str) -> None:
    """Numbers are the names then, as without any description."""
    table = pa.table({"image": pa.array(CELLS, IMAGE), "label": TRAIN.labels})
    path = tmp_path / "train.parquet"
    pq.write_table(table.replace_schema_metadata({b"huggingface": UNREADABLE[what]}), path)
    dataset = read("parquet", tmp_path)
    assert dataset.classes == ("0", "1", "2")
    notes = [note for note in dataset.notes if note.startswith(f"the class names in {path} cannot")]
    assert len(notes) == 1 and len(notes[0].splitlines()) == 1


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"info": {}},
        {"info": {"features": None}},
        {"info": {"features": {}}},
        {"info": {"features": {"label": {"_type": "Value", "dtype": "int64"}}}},
    ],
)
def test_a_file_without_class_names_needs_no_note(tmp_path: Path, about: dict[str, Any]) -> None:
    table = pa.table({"image": pa.array(CELLS, IMAGE), "label": TRAIN.labels})
    table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    pq.write_table(table, tmp_path / "train.parquet")
    dataset = read("parquet", tmp_path)
    assert dataset.classes == ("0", "1", "2")
    assert not any("class names" in note for note in dataset.notes)


@pytest.mark.parametrize(
    "names", [{"1": "bee", "0": "ape", "2": "cat"}, {"cat": 2, "ape": 0, "bee": 1}]
)
def test_class_names_by_number(tmp_path: Path, names: dict[str, Any]) -> None:
    features = {"label": {"_type": "ClassLabel", "names": names}}
    path = tmp_path / "train.parquet"
    write_table(path, features, image=pa.array(CELLS, IMAGE), label=TRAIN.labels)
    assert read("parquet", tmp_path).classes == tuple(NAMES)


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.int8()])
def test_names_are_those_of_numbers_of_any_type(tmp_path: Path, kind: pa.DataType) -> None:
    features = {"label": {"_type": "ClassLabel", "names": NAMES}}
    labels = pa.array(TRAIN.labels).cast(kind)
    write_table(tmp_path / "train.parquet", features, image=pa.array(CELLS, IMAGE), label=labels)
    assert read("parquet", tmp_path).classes == tuple(NAMES)


def test_features_of_a_saved_data_set_that_are_no_numbers(tmp_path: Path) -> None:
    """`NaN` is JSON for Python alone; without features, the Arrow file may have its own."""
    save_to_disk(tmp_path, TRAIN, NAMES)
    for features, told in (('{"label": NaN}', True), ("null", False), ("[]", True)):
        (tmp_path / "dataset_info.json").write_text(f'{{"features": {features}}}')
        dataset = read("parquet", tmp_path)
        assert dataset.classes == ("0", "1", "2")
        assert any("class names in" in note for note in dataset.notes) == told


def test_negative_labels_as_text_are_refused(tmp_path: Path) -> None:
    words = ["-1" if word == "bee" else word for word in WORDS]
    write_table(tmp_path / "train.parquet", image=pa.array(CELLS, IMAGE), label=words)
    with raises_one_line("train.parquet has 3 images with the label -1", "usually means"):
        read("parquet", tmp_path)


@pytest.mark.parametrize("order", [[2, 1, 0], [1, 2, 0]])
def test_names_in_another_order_in_a_shard_or_in_the_test_set(
    tmp_path: Path, order: list[int]
) -> None:
    """A number stands for the name at that place of its own file's list."""
    names = [NAMES[k] for k in order]
    there = {k: order.index(k) for k in range(3)}
    parts = [TRAIN.take(TRAIN.labels.argsort()[i::2]) for i in range(2)]
    write_shard(
        tmp_path / "train-00000-of-00002.parquet",
        encode_all(parts[0]),
        parts[0].labels.tolist(),
        names=NAMES,
    )
    for split, part in (("train-00001-of-00002", parts[1]), ("test", TEST)):
        labels = [there[int(k)] for k in part.labels]
        write_shard(tmp_path / f"{split}.parquet", encode_all(part), labels, names=names)
    dataset = read("parquet", tmp_path)
    assert dataset.classes == tuple(NAMES) and same(dataset.test, TEST)
    assert dataset.train.labels.tolist() == [*parts[0].labels, *parts[1].labels]


def test_test_set_that_lists_other_classes_is_matched_by_name(tmp_path: Path) -> None:
    """b, c, d beside a, b, c, with images of b and c."""
    write_split(tmp_path, "train", TRAIN, names=NAMES)
    part = Images(TEST.array()[2:], TEST.labels[2:])
    labels = (part.labels - 1).tolist()
    write_shard(tmp_path / "test.parquet", encode_all(part), labels, names=["bee", "cat", "dog"])
    dataset = read("parquet", tmp_path)
    assert dataset.classes == tuple(NAMES) and same(dataset.test, part)
    write_shard(
        tmp_path / "test.parquet", encode_all(part), [0, 1, 2, 1], names=["bee", "cat", "dog"]
    )
    with raises_one_line("class 'dog'", "test.parquet", "'ape', 'bee', 'cat', these", "'dog':"):
        read("parquet", tmp_path)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train-00000-of-00001", "test-00000-of-00001-0a1b2c3d"),
        ("Train", "TEST"),
        ("training_0", "eval"),
        ("train-0001", "validation-0001"),
        ("data/train", "data/Dev"),
    ],
)
def test_names_of_shards(tmp_path: Path, train: str, test: str) -> None:
    for name, part in ((train, TRAIN), (test, TEST)):
        labels = part.labels.tolist()
        write_shard(tmp_path / f"{name}.parquet", encode_all(part), labels, names=NAMES)
    dataset = read("parquet", tmp_path)
    assert same(dataset.train, TRAIN) and same(dataset.test, TEST)
    told = [
        f"{Path(test).stem[:3]}" in note and "is the test set" in note for note in dataset.notes
    ]
    assert any(told) == (Path(test).stem[:3] in ("val", "Dev"))


def test_endings_in_upper_case(tmp_path: Path) -> None:
    path = write_split(tmp_path, "train", TRAIN)[0]
    path.rename(tmp_path / "TRAIN.PARQUET")
    assert len(read("parquet", tmp_path).train) == 7
    np.savez(tmp_path / "mine.npz", images=TRAIN.array(), labels=TRAIN.labels)
    (tmp_path / "mine.npz").rename(tmp_path / "MINE.NPZ")
    (tmp_path / "._MINE.npz").write_text("what macOS leaves")
    assert len(read("npz", tmp_path).train) == 7


def test_validation_shards_beside_a_test_set_are_not_used_and_named(tmp_path: Path) -> None:
    for split in ("train", "test", "validation"):
        write_split(tmp_path, split, TRAIN, names=NAMES)
    (note,) = read("parquet", tmp_path).notes
    assert note.startswith(f"{tmp_path}/validation*.parquet is not used")


def test_files_that_are_no_split_are_refused_by_name(tmp_path: Path) -> None:
    write_split(tmp_path, "train", TRAIN)
    for name in ("extra", "train-extra", "unlabeled-00000-of-00001", "data"):
        path = write_split(tmp_path, "other", TRAIN)[0].rename(tmp_path / f"{name}.parquet")
        assert find_shards(tmp_path)[1] == [path]
        with raises_one_line(tmp_path, f"'{name}.parquet'", "train, test, val", "rename them"):
            read("parquet", tmp_path)
        path.unlink()
    (tmp_path / "train-00000-of-00001.parquet").rename(tmp_path / "photos.parquet")
    with raises_one_line("no train-*.parquet", "it has 'photos.parquet'", "rename"):
        read("parquet", tmp_path)


def test_two_copies_of_a_split_are_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "data"):
        write_split(folder, "train", TRAIN)
    with raises_one_line("/train-00000-of-00001.parquet and", "/data/train-0", "move one of them"):
        read("parquet", tmp_path)


def test_test_images_of_another_size(tmp_path: Path) -> None:
    write_split(tmp_path, "train", TRAIN)
    write_split(tmp_path, "test", make_images([2, 2, 2], 9, 3))
    with raises_one_line("test-00000-of-00001.parquet, row 0 is 9×9 and others are 8×8"):
        read("parquet", tmp_path)


def save_splits(root: Path, **splits: tuple[Images, Sequence[str]]) -> None:
    for name, (images, names) in splits.items():
        save_to_disk(root / name, images, names)
    (root / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))


@pytest.mark.parametrize("files", [1, 3])
@pytest.mark.parametrize("stream", [True, False])
def test_a_saved_data_set(tmp_path: Path, files: int, stream: bool) -> None:
    save_to_disk(tmp_path / "saved", TRAIN, NAMES, files, stream)
    dataset = read("parquet", tmp_path / "saved")
    assert dataset.classes == tuple(NAMES)
    whole = {p.tobytes(): k for p, k in zip(TRAIN.array(), TRAIN.labels, strict=True)}
    for images in (dataset.train, dataset.test):
        for pixels, k in zip(images.array(), images.labels, strict=True):
            assert whole.pop(pixels.tobytes()) == k
    assert not whole


def test_saved_splits_are_matched_by_name(tmp_path: Path) -> None:
    there = Images(TEST.pixels, 2 - TEST.labels)
    save_splits(tmp_path, train=(TRAIN, NAMES), test=(there, NAMES[::-1]), val=(TRAIN, NAMES))
    dataset = read("parquet", tmp_path)
    assert same(dataset.train, TRAIN) and same(dataset.test, TEST)
    assert dataset.notes[0].startswith(f"{tmp_path}/val is not used")
    with raises_one_line(tmp_path, "Hugging Face files", "data.name=parquet"):
        read("folder", tmp_path)


def json_value(name: str, key: str, value: str) -> Callable[[Path], object]:
    """Write a JSON file with one key."""
    return lambda root: (root / name).write_text(f'{{"{key}": {value}}}')


SAVED: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "unknown split": (
        lambda root: (root / "dataset_dict.json").write_text('{"splits": ["train", "extra"]}'),
        ("'train', 'extra'", "'extra' is no name of a split"),
    ),
    "a split is missing": (lambda root: shutil.rmtree(root / "test"), ("test/state.json",)),
    "a file is missing": (
        lambda root: next((root / "train").glob("*.arrow")).unlink(),
        ("train/data-00000-of-00001.arrow", "is missing"),
    ),
    "a file is cut": (
        lambda root: next((root / "train").glob("*.arrow")).write_bytes(b"ARROW1"),
        ("train/data-00000-of-00001.arrow", "not a complete Arrow file", "get it again"),
    ),
    "no JSON": (lambda root: (root / "train" / "state.json").write_text("{"), ("cannot read",)),
    "no object": (
        lambda root: (root / "train" / "state.json").write_text("[]"),
        ("not a description",),
    ),
    "no files": (
        lambda root: (root / "train" / "state.json").write_text("{}"),
        ("train is a split without images",),
    ),
    **{
        f"splits are {value}": (
            json_value("dataset_dict.json", "splits", value),
            ("dataset_dict.json lists no splits",),
        )
        for value in ("null", "3", '"train"', '{"train": 1}', "[null]", "[[]]")
    },
    **{
        f"files are {value}": (
            json_value("train/state.json", "_data_files", value),
            ("train/state.json does not name its files",),
        )
        for value in ("null", "3", '"x"', '["x"]', '[{"x": 1}]', '[{"filename": 3}]', "[null]")
    },
    "a selection": (
        lambda root: (root / "train" / "state.json").write_text('{"_indices_data_files": [{}]}'),
        ("flatten_indices()",),
    ),
}


@pytest.mark.parametrize("what", SAVED)
def test_saved_data_sets_that_cannot_be_read(tmp_path: Path, what: str) -> None:
    save_splits(tmp_path, train=(TRAIN, NAMES), test=(TEST, NAMES))
    spoil, parts = SAVED[what]
    spoil(tmp_path)
    with raises_one_line(tmp_path, *parts):
        read("parquet", tmp_path)


def test_what_is_beside_a_saved_data_set_is_refused(tmp_path: Path) -> None:
    images = Images(np.arange(9 * 192, dtype=np.uint8).reshape(9, 3, 8, 8), np.arange(9) % 3)
    for split in ("train", "test", "validation"):
        save_to_disk(tmp_path / split, images, ["a", "b", "c"])
    listed = tmp_path / "dataset_dict.json"
    listed.write_text('{"splits": ["train", "test"]}')
    with raises_one_line(
        tmp_path / "validation", "would not be used, since dataset_dict.json lists"
    ):
        read("parquet", tmp_path)
    listed.write_text('{"splits": ["train", "test", "validation", "dev"]}')
    with raises_one_line(f"there is no {tmp_path / 'dev/state.json'}", "lists the split 'dev'"):
        read("parquet", tmp_path)
    listed.write_text('{"splits": ["train", "test", "validation"]}')
    (tmp_path / "test.parquet").write_bytes(b"")
    with raises_one_line("test.parquet would not be used", "is a saved data set: move it away"):
        read("parquet", tmp_path)


def test_nested_descriptions_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("[" * 100_000)
    with raises_one_line("state.json", "too many lists or objects in one another"):
        read("parquet", tmp_path)


def test_a_parquet_file_whose_rows_say_another_split_is_refused(tmp_path: Path) -> None:
    cells = pa.array([{"bytes": encode(np.zeros((3, 8, 8), np.uint8)), "path": None}] * 3, IMAGE)
    columns = {"image": cells, "label": [0, 1, 2], "is_train": [True, True, False]}
    write_columns(tmp_path / "train.parquet", columns)
    with raises_one_line("'is_train' say that its row 2 is in the test set: save a file for each"):
        read("parquet", tmp_path)
