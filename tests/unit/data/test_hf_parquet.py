"""Hugging Face Parquet: the same images bit for bit, and one line for every way to be broken."""

from __future__ import annotations

import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from data_files import (
    IMAGE,
    encode,
    encode_all,
    open_folder,
    raises_one_line,
    read,
    same,
    unreadable,
    write_columns,
    write_shard,
    write_split,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import make_images

from imbtune.data.benchmark_files import BENCHMARKS
from imbtune.data.data_source import DataSource
from imbtune.data.encoded_images import TargetShape, decode_images
from imbtune.data.readers.hf_parquet import find_shards, read_shards
from imbtune.data.readers.source_data import SourceData
from imbtune.data.splits import Images
from imbtune.errors import DataError

TRAIN, TEST = "train-00000-of-00001.parquet", "test-00000-of-00001.parquet"
ORDER = np.random.default_rng(0).permutation(20)
IMAGES = make_images([2] * 10, 32, 3).take(ORDER)
TESTS = make_images([1] * 10, 32, 3, seed=4)
FILES, LABELS = encode_all(IMAGES), IMAGES.labels.tolist()


def read_images(
    root: Path, split: str, size: tuple[int, int], classes: int
) -> tuple[Images, tuple[str, ...]]:
    """One split alone, as RGB."""
    shards, _ = find_shards(root)
    sources, names, _ = SourceData(read_shards(shards[split])).matched(classes)
    (images,), _ = decode_images(sources, TargetShape(3, size), DataSource(root))
    return images, names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty training and ten test images of CIFAR-10's shape."""
    write_split(tmp_path, "train", IMAGES)
    write_split(tmp_path, "test", TESTS)
    return tmp_path


def test_images_come_out_bit_for_bit(folder: Path) -> None:
    dataset = read("cifar10", folder)
    assert same(dataset.train, IMAGES)
    assert same(dataset.test, TESTS)
    assert dataset.classes == tuple("0123456789")
    assert dataset.train.array().dtype == np.uint8
    assert dataset.train.labels.dtype == np.int64


@pytest.mark.parametrize("shards", [2, 3, 11])
@pytest.mark.parametrize("inner", ["", "data"])
def test_shards_are_read_in_order(tmp_path: Path, shards: int, inner: str) -> None:
    write_split(tmp_path / inner, "train", IMAGES, shards)
    write_split(tmp_path / inner, "test", TESTS)
    assert same(read("cifar10", tmp_path).train, IMAGES)


def test_files_without_numbers(tmp_path: Path) -> None:
    write_shard(tmp_path / "train.parquet", FILES, LABELS)
    write_shard(tmp_path / "test.parquet", encode_all(TESTS), TESTS.labels.tolist())
    assert same(read("cifar10", tmp_path).train, IMAGES)


def test_cifar100_has_its_own_columns_and_names(tmp_path: Path) -> None:
    images, names = make_images([1] * 100, 32, 3), list(BENCHMARKS["cifar100"].classes)
    for split in ("train", "test"):
        write_split(tmp_path, split, images, image="image", label="fine_label", names=names)
    dataset = read("cifar100", tmp_path)
    assert same(dataset.train, images)
    assert dataset.classes == tuple(names)


def test_unused_columns_do_not_matter(tmp_path: Path) -> None:
    """CIFAR-100 has `coarse_label` beside `fine_label`; a user may have more."""
    cells = pa.array([{"bytes": file, "path": "x.png"} for file in FILES], IMAGE)
    columns = {"id": list(range(20)), "img": cells, "coarse_label": [0] * 20, "fine_label": LABELS}
    write_columns(tmp_path / TRAIN, columns)
    images, _ = read_images(tmp_path, "train", (32, 32), 10)
    assert same(images, IMAGES)


def test_grey_becomes_rgb(tmp_path: Path) -> None:
    grey = make_images([2, 2], 8, 1)
    write_split(tmp_path, "train", grey)
    images, _ = read_images(tmp_path, "train", (8, 8), 2)
    assert np.array_equal(images.array(), np.repeat(grey.array(), 3, axis=1))


def test_height_comes_before_width(tmp_path: Path) -> None:
    pixels = np.arange(3 * 4 * 6, dtype=np.uint8).reshape(1, 3, 4, 6)
    write_shard(tmp_path / TRAIN, encode_all(Images(pixels, np.array([0]))), [0])
    assert np.array_equal(read_images(tmp_path, "train", (4, 6), 1)[0].array(), pixels)
    with raises_one_line("6×4", "4×6"):
        read_images(tmp_path, "train", (6, 4), 1)


@pytest.mark.parametrize("names", [None, 7, {}, [], ["cat"], {"cat": 0}])
def test_class_names_of_another_data_set(tmp_path: Path, names: object) -> None:
    """Without names, the classes are numbered."""
    write_shard(tmp_path / TRAIN, FILES, LABELS, names=names)
    write_split(tmp_path, "test", TESTS)
    if isinstance(names, (list, dict)) and names:
        with raises_one_line(tmp_path / TRAIN, f"names {len(names)} classes", "from 0 to 9"):
            read("cifar10", tmp_path)
    else:
        assert read("cifar10", tmp_path).classes == tuple("0123456789")


def test_published_data_is_matched_by_name(tmp_path: Path) -> None:
    names = [name.upper() for name in BENCHMARKS["cifar10"].classes]
    write_shard(tmp_path / TRAIN, FILES, LABELS, names=names)
    labels = (9 - TESTS.labels).tolist()
    write_shard(tmp_path / TEST, encode_all(TESTS), labels, names=names[::-1])
    dataset = read("cifar10", tmp_path)
    assert dataset.classes == tuple(names) and same(dataset.test, TESTS)


Break = Callable[[Path], object]


def shard(encoded: list[bytes | None] | None = None, labels: list[Any] | None = None) -> Break:
    """Write the training shard anew, with other images or labels."""
    return lambda folder: write_shard(folder / TRAIN, encoded or FILES, labels or LABELS)


def columns(**columns: Any) -> Break:
    return lambda folder: write_columns(folder / TRAIN, columns)


def cut(size: int) -> Break:
    return lambda folder: (folder / TRAIN).write_bytes((folder / TRAIN).read_bytes()[:size])


def make_folder(folder: Path) -> None:
    (folder / TRAIN).unlink()
    (folder / TRAIN).mkdir()


def swap(row: int, file: bytes | None) -> list[bytes | None]:
    return [*FILES[:row], file, *FILES[row + 1 :]]


def label(row: int, value: int | None) -> list[int | None]:
    return [*LABELS[:row], value, *LABELS[row + 1 :]]


def bomb() -> bytes:
    """A PNG that says it is 60,000 × 60,000."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return FILES[0][:12] + head + struct.pack(">I", zlib.crc32(head)) + FILES[0][33:]


CELLS = pa.array([{"bytes": file, "path": None} for file in FILES], IMAGE)
BROKEN: dict[str, tuple[Break, tuple[str, ...]]] = {
    "empty file": (cut(0), (TRAIN, "not a complete Parquet")),
    "truncated": (cut(1000), (TRAIN, "not a complete Parquet", "get it again")),
    "not Parquet": (lambda f: (f / TRAIN).write_text("PAR1 no"), (TRAIN, "not a complete")),
    "a folder": (make_folder, (TRAIN, "not a complete Parquet")),
    "no image column": (columns(pic=CELLS, label=LABELS), (TRAIN, "['pic', 'label']", "'img'")),
    "no label column": (columns(img=CELLS, y=LABELS), (TRAIN, "['img', 'y']", "'label'")),
    "line break in a column": (columns(**{"a\nb": [1]}), (TRAIN, r"['a\nb']")),
    "image is text": (columns(img=["x.png"] * 20, label=LABELS), (TRAIN, "'img'", "string")),
    "image without bytes": (
        columns(img=[{"path": "x"}] * 20, label=LABELS),
        (TRAIN, "'img'", "struct<path: string>", "struct(bytes, path)"),
    ),
    "line break in a field": (
        columns(img=[{"a\nb": 1}] * 20, label=LABELS),
        (TRAIN, r"struct<a\nb: int64>", "struct(bytes, path)"),
    ),
    "bytes are text": (
        columns(img=[{"bytes": "x", "path": "x"}] * 20, label=LABELS),
        (TRAIN, "'img'", "bytes: string", "struct(bytes, path)"),
    ),
    "label is text": (
        columns(img=CELLS, label=["cat"] * 20),
        (TEST, "a class without training images", "classes 'cat'", "'0', '1'"),
    ),
    "label is a list": (
        columns(img=CELLS, label=[[1]] * 20),
        (TRAIN, "'label'", "list<", "whole numbers or strings"),
    ),
    "label is a fraction": (
        columns(img=CELLS, label=[0.5] * 20),
        (TRAIN, "label 0.5", "whole numbers or strings"),
    ),
    "label is null": (shard(labels=label(3, None)), (TRAIN, "'label'", "has 1 null values")),
    "label is negative": (
        shard(labels=label(3, -1)),
        (TRAIN, "1 image with the label -1", "no label"),
    ),
    "label is too large": (shard(labels=label(3, 10)), ("from 0 to 10", "0 to 9")),
    "a class is missing": (
        shard(labels=[k % 9 for k in LABELS]),
        ("no training image of 1 of its 10 classes ('9')", "check the files"),
    ),
    "image is null": (shard(swap(7, None)), (TRAIN, "row 7", "cannot be read")),
    "image is no image": (shard(swap(7, b"GIF or so")), (TRAIN, "row 7", "cannot be read")),
    "image is truncated": (
        shard(swap(7, FILES[7][:-100])),
        (TRAIN, "1 of 30 images", "cannot be read", "row 7 (image file is trunc", "--skip-corrupt"),
    ),
    "image is huge": (shard(swap(19, bomb())), (TRAIN, "row 19", "cannot be read")),
    "image of another size": (
        shard(swap(7, encode(IMAGES.array()[7][:, :, :30]))),
        (TRAIN, "row 7", "30×32, not 32×32"),
    ),
    "no row": (columns(img=CELLS[:0], label=pa.array([], pa.int64())), (TRAIN, "no row")),
    "no test shard": (lambda f: (f / TEST).unlink(), ("no test-*.parquet", "both train and test")),
    "no train shard": (lambda f: (f / TRAIN).unlink(), ("no complete cifar10", "train-*.parquet")),
    "a shard is missing": (
        lambda f: (f / TRAIN).rename(f / "train-00000-of-00003.parquet"),
        ("train-00000-of-00003.parquet", "one of 3 shards", "has 1", "get the missing ones"),
    ),
    "a second copy instead of a shard": (
        lambda f: [
            shutil.copy(f / TRAIN, f / "train-00000-of-00002-abcdef12.parquet"),
            (f / TRAIN).rename(f / "train-00000-of-00002.parquet"),
        ],
        ("2 shards such as train-00000-of-00002", "shard 1 is missing", "second copies away"),
    ),
    "a second copy": (
        lambda f: write_shard(f / "train-00000-of-00001-0a1b.parquet", FILES, LABELS),
        ("one of 1 shards", "has 2", "move other files away"),
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_data_is_one_line(folder: Path, what: str) -> None:
    spoil, parts = BROKEN[what]
    spoil(folder)
    with raises_one_line(folder, *parts):
        read("cifar10", folder)


@pytest.mark.parametrize("name", ["split", "Subset", "partition"])
def test_a_column_of_other_splits_is_refused(folder: Path, name: str) -> None:
    def write(*splits: str) -> None:
        values = list(splits) * (20 // len(splits))
        write_columns(folder / TRAIN, {"img": CELLS, "label": LABELS, name: values})

    write("train", "test")
    with raises_one_line(folder / TRAIN, "training set", f"column '{name}' has 'test'", "each"):
        read("parquet", folder)
    write("Training", "batch 1")
    assert same(read("parquet", folder).train, IMAGES)


@pytest.mark.parametrize(
    "other", ["sub/test.parquet", "test/0000.parquet", "data/more/val.parquet"]
)
def test_shards_in_folders_that_are_not_read_are_named(folder: Path, other: str) -> None:
    write_split(folder / "runs", "metrics", TESTS)
    assert same(read("parquet", folder).test, TESTS)
    (folder / other).parent.mkdir(parents=True)
    write_shard(folder / other, FILES, LABELS)
    with raises_one_line(folder / other, "would not be used", "or away"):
        read("parquet", folder)


def test_row_is_counted_within_its_shard(tmp_path: Path) -> None:
    write_shard(tmp_path / "train-00000-of-00002.parquet", FILES, LABELS)
    write_shard(tmp_path / "train-00001-of-00002.parquet", swap(4, b""), LABELS)
    with raises_one_line("train-00001-of-00002.parquet, row 4"):
        read_images(tmp_path, "train", (32, 32), 10)


def test_other_data_set_of_the_family(folder: Path) -> None:
    """CIFAR-10 given for CIFAR-100: ten of a hundred labels."""
    with raises_one_line(folder, "no training image of 90 of its 100 classes ('10', '11',"):
        read("cifar100", folder)


def test_file_without_read_permission() -> None:
    with open_folder() as folder:
        write_split(folder, "train", IMAGES)
        write_split(folder, "test", TESTS)
        assert same(read("cifar10", folder).train, IMAGES)
        with unreadable(folder / TRAIN), raises_one_line(folder / TRAIN, "Permission denied"):
            read("cifar10", folder)


SMALL = make_images([2, 2, 2], 4, 3)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard of six 4×4 images, with class names."""
    folder = tmp_path_factory.mktemp("small")
    write_split(folder, "train", SMALL, names=["a", "b", "c"])
    return folder / TRAIN


@given(st.data())
def test_any_truncation_is_one_line(small: Path, data: Any) -> None:
    whole = small.read_bytes()
    size = data.draw(st.integers(0, len(whole) - 1))
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / TRAIN).write_bytes(whole[:size])
        with raises_one_line(Path(name) / TRAIN):
            read_images(Path(name), "train", (4, 4), 3)


@settings(max_examples=300, derandomize=True)  # others' parsers: no surprises
@given(st.data())
def test_any_damage_is_one_line_or_harmless(small: Path, data: Any) -> None:
    """Parquet has no checksum here: damage may pass, but then the shapes are right."""
    damaged = bytearray(small.read_bytes())
    places = st.tuples(st.integers(0, len(damaged) - 1), st.integers(0, 255))
    for place, value in data.draw(st.lists(places, min_size=1, max_size=4)):
        damaged[place] = value
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / TRAIN).write_bytes(damaged)
        try:
            images, names = read_images(Path(name), "train", (4, 4), 3)
        except DataError as error:
            refusal = str(error)
        else:
            assert images.pixels.shape == (len(images), 3, 4, 4)
            assert set(images.labels.tolist()) <= {0, 1, 2}
            assert len(names) == 3
            return
    assert len(refusal.splitlines()) == 1
    assert name in refusal
