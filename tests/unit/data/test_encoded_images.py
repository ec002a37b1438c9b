"""Images that cannot be read, and images that stay encoded for want of memory."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from data_files import encode_all, raises_one_line, read, same, write_shard, write_split
from hypothesis import given
from hypothesis import strategies as st
from small_data import make_images

from imbtune.data import encoded_images
from imbtune.data.data_source import DataSource, memory_limit
from imbtune.data.images import STATISTICS_SAMPLE
from imbtune.data.imbalance import Imbalance
from imbtune.data.splits import Dataset, EncodedPixels, Images, final_splits, search_splits

IMAGES = make_images([20, 9, 5], 12, 3).take(np.random.default_rng(0).permutation(34))
SMALL = "1KB"  # 34 images of 12×12 take 14.7 KB


def write(root: Path, kind: str, broken: tuple[int, ...] = ()) -> list[str]:
    """The images as `kind`, some cut short; what a message calls the broken ones."""
    files = [f[:60] if i in broken else f for i, f in enumerate(encode_all(IMAGES))]
    if kind == "parquet":
        write_shard(root / "train.parquet", files, IMAGES.labels.tolist())
        return [f"train.parquet, row {i}" for i in broken]
    for i, (file, k) in enumerate(zip(files, IMAGES.labels, strict=True)):
        path = root / f"class{k}" / f"{i:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file)
    return [f"class{IMAGES.labels[i]}/{i:04d}.png" for i in broken]


@pytest.mark.parametrize("memory", ["", SMALL])
@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_broken_images_are_counted_and_named_and_can_be_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, memory: str
) -> None:
    """Also before images that stay encoded are trained on."""
    monkeypatch.setenv("IMBTUNE_MEMORY", memory)
    names = write(tmp_path, kind, broken=(3, 8, 21, 30))
    with raises_one_line("4 of 34 images cannot be read", "truncated", "--skip-corrupt") as caught:
        read(kind, tmp_path)
    assert sum(name in str(caught.value) for name in names) == 3
    assert str(caught.value).count(" and 1 more") == 1
    dataset = read(kind, tmp_path, skip_corrupt=True)
    assert "4 of 34 images cannot be read and are left out" in dataset.notes[0]
    assert sum(name in dataset.notes[0] for name in names) == 3
    assert search_splits(dataset, Imbalance("as_is")).notes == dataset.notes
    left = IMAGES.take(np.setdiff1d(np.arange(34), (3, 8, 21, 30)))
    assert contents(dataset) == {
        p.tobytes(): int(k) for p, k in zip(left.array(), left.labels, strict=True)
    }


def contents(dataset: Dataset) -> dict[bytes, int]:
    return {
        p.tobytes(): int(k)
        for part in (dataset.train, dataset.test)
        for p, k in zip(part.array(), part.labels, strict=True)
    }


def test_broken_images_of_both_splits_are_one_line(tmp_path: Path) -> None:
    write(tmp_path, "parquet", broken=(2,))
    (tmp_path / "train.parquet").rename(tmp_path / "test.parquet")
    write(tmp_path, "parquet", broken=(0,))
    with raises_one_line("2 of 68 images", "train.parquet, row 0", "test.parquet, row 2"):
        read("parquet", tmp_path)
    dataset = read("parquet", tmp_path, skip_corrupt=True)
    assert (len(dataset.train), len(dataset.test)) == (33, 33)


def test_nothing_left_is_an_error_all_the_same(tmp_path: Path) -> None:
    write(tmp_path, "folder", broken=tuple(range(34)))
    with raises_one_line("34 of 34 images cannot be read"):
        read("folder", tmp_path, skip_corrupt=True)


def test_class_that_skipping_empties_is_named(tmp_path: Path) -> None:
    write(tmp_path, "folder", broken=tuple(np.flatnonzero(IMAGES.labels == 2).tolist()))
    with raises_one_line("class 'class2' has 0 image"):
        read("folder", tmp_path, skip_corrupt=True)


@pytest.mark.parametrize("name", ["cifar10"])
def test_benchmarks_skip_too(tmp_path: Path, name: str) -> None:
    files = encode_all(make_images([2] * 10, 32, 3))
    files[4] = b""
    write_shard(tmp_path / "train.parquet", files, np.repeat(np.arange(10), 2).tolist())
    write_split(tmp_path, "test", make_images([1] * 10, 32, 3))
    with raises_one_line("1 of 30 images", "row 4", "--skip-corrupt"):
        read(name, tmp_path)
    assert len(read(name, tmp_path, skip_corrupt=True).train) == 19


@pytest.mark.parametrize("size", [0, 8])
@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_encoded_is_resident_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, size: int
) -> None:
    write(tmp_path, kind)
    resident = read(kind, tmp_path, size=size)
    monkeypatch.setenv("IMBTUNE_MEMORY", SMALL)
    streamed = read(kind, tmp_path, size=size)
    assert isinstance(resident.train.pixels, np.ndarray)
    assert streamed.preprocessing == resident.preprocessing and streamed.classes == resident.classes
    *others, last = streamed.notes
    assert "34 images would take" in last and "limit of 1 KB" in last
    assert tuple(others) == resident.notes
    for splits in (search_splits, final_splits):
        ours, theirs = splits(streamed, Imbalance("as_is")), splits(resident, Imbalance("as_is"))
        assert ours.fingerprint() == theirs.fingerprint()
        for part, other in ((ours.train, theirs.train), (ours.held_out, theirs.held_out)):
            assert isinstance(part.pixels, EncodedPixels)
            assert same(part, other)
            assert part.pixels.shape == other.pixels.shape
            assert part.pixels.nbytes == other.pixels.nbytes == other.array().nbytes
            again = pickle.loads(pickle.dumps(part))
            assert same(again, part) and again.digest() == part.digest()


@given(st.lists(st.integers(0, 33), max_size=40), st.data())
def test_batches_and_subsets_of_encoded_pixels(index: list[int], data: st.DataObject) -> None:
    pixels, expected = ENCODED.pixels, IMAGES.array()
    rows = np.array(index, dtype=np.int64)
    assert isinstance(pixels, EncodedPixels)
    assert np.array_equal(pixels[rows], expected[rows])
    some = ENCODED.take(rows)
    assert isinstance(some.pixels, EncodedPixels) and len(some) == len(index)
    assert same(some, IMAGES.take(rows)) and some.digest() == IMAGES.take(rows).digest()
    if index:
        i = data.draw(st.integers(0, len(index) - 1))
        assert np.array_equal(some.pixels[np.array([i])][0], expected[index[i]])


def _encoded() -> Images:
    source = encoded_images.EncodedImages(
        pa.array(encode_all(IMAGES), pa.large_binary()), False, IMAGES.labels, str
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMBTUNE_MEMORY", SMALL)
        (images,), _ = encoded_images.decode_images(
            [source], encoded_images.TargetShape(), DataSource()
        )
    return images


ENCODED = _encoded()


def test_pickle_holds_paths_or_the_encoded_files_of_its_part_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMBTUNE_MEMORY", SMALL)
    write(tmp_path, "folder")
    part = read("folder", tmp_path).train
    assert len(pickle.dumps(part.pixels)) < 34 * (len(str(tmp_path)) + 100) + 2000
    one, encoded_file = ENCODED.take(np.array([3])), encode_all(IMAGES)[3]
    assert len(encoded_file) < len(pickle.dumps(one.pixels)) < len(encoded_file) + 2000


def test_file_that_goes_away_while_training_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMBTUNE_MEMORY", SMALL)
    write(tmp_path, "folder")
    pixels = read("folder", tmp_path).train.pixels
    next((tmp_path / "class0").iterdir()).write_bytes(b"")
    for path in (tmp_path / "class0").iterdir():
        path.unlink()
    with raises_one_line("class0", ".png cannot be read any more"):
        pixels[np.arange(len(pixels))]


def test_threads_do_not_change_what_comes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "folder", broken=(5, 6, 31))
    digests = set()
    for threads, block in ((1, 500), (7, 2)):
        monkeypatch.setattr(encoded_images, "MOST_THREADS", threads)
        monkeypatch.setattr(os, "cpu_count", lambda: 8)
        monkeypatch.setattr(encoded_images, "BLOCK", block)
        for memory in ("", SMALL):
            monkeypatch.setenv("IMBTUNE_MEMORY", memory)
            dataset = read("folder", tmp_path, skip_corrupt=True, size=8)
            splits = final_splits(dataset, Imbalance("as_is"))
            digests.add((splits.fingerprint(), dataset.notes[0], dataset.preprocessing))
    assert len(digests) == 1


def test_mean_and_deviation_of_many_images_come_from_a_fixed_sample() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (STATISTICS_SAMPLE + 2000, 2, 3, 3), dtype=np.uint8)
    pixels[:, 1] = 51
    images = Images(pixels, np.zeros(len(pixels), dtype=np.int64))
    mean, std = images.mean_and_std()
    assert abs(mean[0] - pixels[:, 0].mean() / 255) < 0.002
    assert abs(std[0] - pixels[:, 0].std() / 255) < 0.002
    assert mean[1] == pytest.approx(0.2)
    assert std[1] == 1 / 255
    assert images.mean_and_std() == (mean, std)


@pytest.mark.parametrize(
    ("given", "size"),
    [("2GB", 2 * 10**9), ("1.5 GiB", 3 * 2**29), ("500m", 5 * 10**8), ("4096", 4096)],
)
def test_memory_sizes(monkeypatch: pytest.MonkeyPatch, given: str, size: int) -> None:
    monkeypatch.setenv("IMBTUNE_MEMORY", given)
    assert memory_limit() == size


@pytest.mark.parametrize("given", ["lots", "-1GB", "2XB", "1,5GB", "IB"])
def test_memory_that_is_no_size(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("IMBTUNE_MEMORY", given)
    with raises_one_line(f"$IMBTUNE_MEMORY={given}", "2GB"):
        memory_limit()


def test_half_of_the_machine_is_the_limit_else() -> None:
    assert 2**20 < memory_limit() < 2**50
