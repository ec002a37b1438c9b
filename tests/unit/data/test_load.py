"""Where data sets come from: the folder that is chosen, digits, and torchvision's layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import (
    open_folder,
    raises_one_line,
    read,
    same,
    unreadable,
    write_cifar,
    write_split,
)
from sklearn.datasets import load_digits
from small_data import make_images
from torchvision.datasets import CIFAR10, CIFAR100

from imbtune.data.imbalance import Imbalance
from imbtune.data.load import DataSource, data_root, datasets
from imbtune.data.splits import Dataset, Images, final_splits
from imbtune.errors import ConfigError, DataError

# Images of each class, 1,797 in all
DIGITS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_the_data_sets_by_name() -> None:
    literature = {"digits", "cifar10", "cifar100", "cinic10", "svhn", "tiny_imagenet"}
    assert set(datasets.names()) == literature | {"fashion_mnist", "folder", "parquet", "npz"}
    with raises_one_line("cifar11", "did you mean 'cifar10'", kind=ConfigError):
        read("cifar11")


def test_no_folder_is_no_root() -> None:
    assert data_root(None) is None


def test_environment_stands_in_and_the_option_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, named = tmp_path / "given", tmp_path / "named"
    first, second = make_images([1] * 10, 32, 3), make_images([1] * 10, 32, 3, seed=5)
    for folder, images in ((given, first), (named, second)):
        write_split(folder, "train", images)
        write_split(folder, "test", images)
    monkeypatch.setenv("IMBTUNE_DATA", str(named))
    assert same(read("cifar10", data_root(None)).train, second)
    assert same(read("cifar10", data_root(given)).train, first)
    monkeypatch.setenv("IMBTUNE_DATA", str(tmp_path / "gone"))
    assert data_root(given) == given
    with raises_one_line(tmp_path / "gone", "$IMBTUNE_DATA"):
        data_root(None)
    monkeypatch.setenv("IMBTUNE_DATA", "")
    assert data_root(None) is None


def test_missing_folder(tmp_path: Path) -> None:
    with raises_one_line(tmp_path / "gone", "No such file", "--data"):
        data_root(tmp_path / "gone")


def test_a_relative_folder_holds_in_other_working_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's workers, which decode streamed images, run elsewhere."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert data_root(Path("here")) == tmp_path / "here"


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    """Some data sets are one file; these are not."""
    path = tmp_path / "cifar10.zip"
    path.touch()
    assert data_root(path) == path
    for name in ("cifar10", "svhn", "fashion_mnist", "cinic10", "tiny_imagenet", "folder"):
        with raises_one_line(path, "is a file", f"'{name}' is read from a folder"):
            read(name, path)


@pytest.mark.parametrize("below", ["", "inner"])
def test_folder_without_permission(below: str) -> None:
    with open_folder() as home:
        folder = home / "locked" / below
        folder.mkdir(parents=True)
        assert data_root(folder) == folder
        with unreadable(home / "locked"), raises_one_line(folder, "Permission denied", "--data"):
            data_root(folder)


def test_empty_folder(tmp_path: Path) -> None:
    with raises_one_line(tmp_path, "train-*.parquet", "cifar-10-batches-py"):
        read("cifar10", data_root(tmp_path))
    with raises_one_line(tmp_path, "train-*.parquet", "cifar-100-python"):
        read("cifar100", data_root(tmp_path))


def test_digits_are_all_there() -> None:
    dataset = read("digits")
    assert len(dataset.train) + len(dataset.test) == 1797
    assert dataset.test.counts(10).tolist() == [40] * 10
    assert dataset.train.counts(10).tolist() == [n - 40 for n in DIGITS]
    assert dataset.classes == tuple("0123456789")
    for part in (dataset.train, dataset.test):
        assert part.pixels.shape[1:] == (1, 8, 8)
        assert part.array().dtype == np.uint8
        assert (part.array().min(), part.array().max()) == (0, 255)
        assert part.labels.dtype == np.int64
    train, test = ({p.tobytes() for p in i.pixels} for i in (dataset.train, dataset.test))
    assert not train & test


def test_last_digits_of_each_class_are_the_test_set() -> None:
    dataset, bunch = read("digits"), load_digits()
    for k in range(10):
        for part, place in ((dataset.train, slice(-40)), (dataset.test, slice(-40, None))):
            ours = part.pixels[part.labels == k][:, 0] / 255
            theirs = bunch.images[bunch.target == k][place] / 16  # 0 … 16
            assert np.abs(ours - theirs).max() <= 0.5 / 255


def test_the_name_of_a_digit_leads_to_its_image() -> None:
    """`load_digits 1383` is scikit-learn's image 1383."""
    known, dataset = load_digits(), read("digits")
    for part in (dataset.train, dataset.test):
        places = [int(name.removeprefix("load_digits ")) for name in part.names_in("")]
        assert np.array_equal(known.target[places], part.labels)
        pixels = (known.images[places] * (255 / 16)).round()
        assert np.array_equal(pixels, part.array()[:, 0])
    assert dataset.test.names_in("")[0] == "load_digits 1383"


def test_digits_are_scaled_by_their_own_mean_and_deviation() -> None:
    dataset = read("digits")
    pixels = np.concatenate([dataset.train.pixels, dataset.test.pixels]) / 255
    assert round(pixels.mean(), 3) == dataset.preprocessing.mean[0]
    assert round(pixels.std(), 3) == dataset.preprocessing.std[0]
    assert not dataset.preprocessing.flip


def test_cifar_is_shifted_by_four_pixels_and_mirrored(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_split(tmp_path, split, make_images([1] * 10, 32, 3))
    preprocessing = read("cifar10", tmp_path).preprocessing
    assert (preprocessing.pad, preprocessing.flip) == (4, True)
    assert preprocessing.std == (0.2023, 0.1994, 0.2010)


TEN = [f"thing {k}" for k in range(10)]
TRAIN, TEST = make_images([2] * 10, 32, 3), make_images([1] * 10, 32, 3, seed=4)


@pytest.fixture
def batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small CIFAR-10 in torchvision's layout; its folder."""
    return write_cifar(tmp_path, CIFAR10, TRAIN, TEST, TEN, monkeypatch)


def test_torchvision_layout_of_cifar10(batches: Path) -> None:
    dataset = read("cifar10", batches.parent)
    assert same(dataset.train, TRAIN)
    assert same(dataset.test, TEST)
    assert dataset.classes == tuple(TEN)
    assert dataset.train.array().dtype == np.uint8
    assert dataset.train.labels.dtype == np.int64
    assert final_splits(dataset, Imbalance(ratio=2, val_per_class=1)).counts()[-1] == 1


def test_torchvision_layout_of_cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, names = make_images([1] * 100, 32, 3), [f"thing {k}" for k in range(100)]
    write_cifar(tmp_path, CIFAR100, images, images, names, monkeypatch)
    dataset = read("cifar100", tmp_path)
    assert same(dataset.train, images)
    assert same(dataset.test, images)
    assert dataset.classes == tuple(names)


def test_warning_of_old_pickles_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy 2.4.0 to 2.4.4 warn of CIFAR's own (0, 1), all of 2.4 and later of (0, True)."""
    write_cifar(tmp_path, CIFAR10, TRAIN, TEST, TEN, monkeypatch, dtype_flags=b"K\x00\x88")
    assert same(read("cifar10", tmp_path).train, TRAIN)


def test_parquet_comes_before_torchvision(batches: Path) -> None:
    other = make_images([1] * 10, 32, 3, seed=8)
    for split in ("train", "test"):
        write_split(batches.parent, split, other)
    assert same(read("cifar10", batches.parent).train, other)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
@pytest.mark.parametrize("damage", ["truncated", "changed", "gone"])
def test_broken_batches(batches: Path, name: str, damage: str) -> None:
    path = batches / name
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[:-20])
    elif damage == "changed":
        path.write_bytes(content[:-20] + b"?" + content[-19:])
    with raises_one_line(batches.parent, "no complete cifar10", "cifar-10-batches-py", "MD5"):
        read("cifar10", batches.parent)


def test_batches_without_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_folder() as folder:
        batches = write_cifar(folder, CIFAR10, TRAIN, TEST, TEN, monkeypatch)
        assert same(read("cifar10", folder).train, TRAIN)
        with (
            unreadable(batches / "test_batch"),
            raises_one_line(folder, "Permission denied", "--data"),
        ):
            read("cifar10", folder)
        with unreadable(batches), raises_one_line(folder, "no complete cifar10"):
            read("cifar10", folder)


def test_given_folder_is_never_downloaded_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any) -> None:
        pytest.fail("a download into the user's folder")

    monkeypatch.setattr(CIFAR10, "download", refuse)
    with pytest.raises(DataError):
        read("cifar10", tmp_path)
    assert not list(tmp_path.iterdir())


MADE = Dataset(TRAIN, TEST, tuple(TEN), read("digits").preprocessing)
WRONG_DATA: dict[str, tuple[Dataset, tuple[str, ...]]] = {
    "shape": (
        replace(MADE, test=Images(TEST.array()[:, :1], TEST.labels)),
        ("training images of the shape (3, 32, 32)", "test images of the shape (1, 32, 32)"),
    ),
    "large label": (
        replace(MADE, train=Images(TRAIN.pixels, TRAIN.labels * 10**12)),
        ("training labels from 0 to 9000000000000", "outside of its 10 classes"),
    ),
    "negative label": (
        replace(MADE, test=Images(TEST.pixels, TEST.labels - 1)),
        ("test labels from -1 to 8", "outside of its 10 classes"),
    ),
    "training class": (
        replace(MADE, train=Images(TRAIN.pixels, TRAIN.labels % 9)),
        ("no training image of 1 of its 10 classes ('thing 9')", "check the files"),
    ),
    "no image": (replace(MADE, test=TEST.take(np.arange(0))), ("no test images",)),
}


@pytest.fixture
def give() -> Iterator[Callable[[Dataset], None]]:
    """Makes a loader of the user's, `mine`, return a data set."""

    def give(dataset: Dataset) -> None:
        @datasets.register("mine", help="a test's")
        def mine(data_source: DataSource) -> Dataset:
            assert data_source.root is None
            return dataset

    yield give
    del datasets._parts["mine"]


@pytest.mark.parametrize("what", WRONG_DATA)
def test_data_of_a_users_loader_is_checked(what: str, give: Callable[[Dataset], None]) -> None:
    dataset, parts = WRONG_DATA[what]
    give(dataset)
    with raises_one_line("data set 'mine' has", *parts):
        read("mine")


def test_test_set_of_a_users_loader_may_lack_a_class(give: Callable[[Dataset], None]) -> None:
    give(replace(MADE, test=TEST.take(np.arange(8))))
    (note,) = read("mine").notes
    assert "no test image of 2 of its 10 classes ('thing 8', 'thing 9')" in note


def test_labels_that_leave_out_a_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test = Images(TEST.pixels, TEST.labels % 9)
    write_cifar(tmp_path, CIFAR10, TRAIN, test, TEN, monkeypatch)
    with raises_one_line(tmp_path, "no test image of 1 of its 10 classes ('thing 9')"):
        read("cifar10", tmp_path)
