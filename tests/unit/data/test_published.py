"""SVHN, Fashion-MNIST, CINIC-10 and Tiny-ImageNet: every layout, real downloads, every fault."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from data_files import raises_one_line, read, same, write_split
from PIL import Image
from published_files import (
    GREY,
    GREY_TEST,
    RGB,
    RGB_TEST,
    TEN,
    TINY,
    TINY_TEST,
    WORDNET,
    in_order,
    write_cinic,
    write_fashion,
    write_svhn,
    write_tiny,
)

from imbtune.data.imbalance import Imbalance
from imbtune.data.splits import Images, final_splits

pytestmark = [
    pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache" / "imbtune"


def test_svhn_has_its_own_class_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_svhn(tmp_path, monkeypatch)
    dataset = read("svhn", tmp_path)
    assert same(dataset.train, RGB) and same(dataset.test, RGB_TEST)
    assert dataset.classes == ("1", "2", "3", "4", "5", "6", "7", "8", "9", "0")
    assert dataset.preprocessing.mean == dataset.preprocessing.std == (0.5, 0.5, 0.5)
    assert final_splits(dataset, Imbalance(ratio=2, head=2, val_per_class=1)).counts()[9] == 1
    (tmp_path / "test_32x32.mat").write_bytes(b"changed")
    with raises_one_line(tmp_path, "no complete svhn", "test_32x32.mat with the right MD5 sums"):
        read("svhn", tmp_path)


def test_svhn_in_parquet_has_the_same_order(tmp_path: Path) -> None:
    for split, images in (("train", RGB), ("test", RGB_TEST)):
        digits = Images(images.pixels, (images.labels + 1) % 10)  # Hugging Face: 0 is the digit 0
        folder = tmp_path / "cropped_digits"
        write_split(folder, split, digits, image="image", names=[str(k) for k in range(10)])
    dataset = read("svhn", tmp_path)
    assert same(dataset.train, RGB) and same(dataset.test, RGB_TEST)
    assert dataset.classes[0] == "1" and dataset.classes[9] == "0"


def test_fashion_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fashion(tmp_path, monkeypatch)
    dataset = read("fashion_mnist", tmp_path)
    assert same(dataset.train, GREY) and same(dataset.test, GREY_TEST)
    assert dataset.classes[0] == "T-shirt/top" and dataset.classes[9] == "Ankle boot"
    raw = tmp_path / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    for content in (raw.read_bytes()[:-9], raw.read_bytes()[:16], b"", b"nonsense"):
        raw.write_bytes(content)
        with raises_one_line(tmp_path, "no complete fashion_mnist", "FashionMNIST/raw/"):
            read("fashion_mnist", tmp_path)


def test_grey_parquet_stays_grey(tmp_path: Path) -> None:
    for split, images in (("train", GREY), ("test", GREY_TEST)):
        write_split(tmp_path, split, images, image="image")
    dataset = read("fashion_mnist", tmp_path)
    assert same(dataset.train, GREY) and same(dataset.test, GREY_TEST)


@pytest.mark.parametrize("inner", ["", "CINIC-10"])
def test_cinic10_is_tested_on_its_test_folder(tmp_path: Path, inner: str) -> None:
    write_cinic(tmp_path / inner)
    dataset = read("cinic10", tmp_path)
    assert same(dataset.train, RGB) and same(dataset.test, RGB_TEST)
    assert dataset.classes == TEN
    shutil.rmtree(tmp_path / inner / "train" / "cat")
    with raises_one_line("test/cat", "a class without training images"):
        read("cinic10", tmp_path)


@pytest.mark.parametrize("layout", ["annotated", "sorted", "no words"])
def test_tiny_imagenet(tmp_path: Path, layout: str) -> None:
    root = write_tiny(tmp_path / "tiny-imagenet-200")
    grey = next((root / "train" / WORDNET[3] / "images").iterdir())
    Image.fromarray(TINY.array()[3][0]).save(grey, "PNG")
    train = TINY.array().copy()
    train[3] = train[3][0]
    names = (
        *(f"word{k}" for k in range(198)),
        f"word198 ({WORDNET[198]})",
        f"word198 ({WORDNET[199]})",
    )
    if layout == "sorted":  # as a common script leaves it
        annotations = root / "val" / "val_annotations.txt"
        for name, wordnet_id in (
            line.split("\t")[:2] for line in annotations.read_text().splitlines()
        ):
            (root / "val" / wordnet_id).mkdir()
            (root / "val" / "images" / name).rename(root / "val" / wordnet_id / name)
        annotations.unlink()
        (root / "val" / "images").rmdir()
    elif layout == "no words":
        (root / "words.txt").unlink()
        names = WORDNET
    dataset = read("tiny_imagenet", tmp_path)
    assert same(dataset.train, Images(train, TINY.labels))
    assert same(in_order(dataset.test), TINY_TEST)
    assert dataset.classes == names
    assert dataset.preprocessing.pad == 8


def test_classes_that_the_file_of_names_lacks_are_told(tmp_path: Path) -> None:
    root = write_tiny(tmp_path / "tiny-imagenet-200")
    words = root / "words.txt"
    words.write_text(f"{WORDNET[0]}\tfirst, second\n")
    dataset = read("tiny_imagenet", tmp_path)
    assert dataset.classes == ("first", *WORDNET[1:])
    assert any(
        note.startswith(f"{words} has no names for the classes '{WORDNET[1]}', ")
        and "and 194 more, which have their IDs" in note
        for note in dataset.notes
    )
    words.unlink()
    words.mkdir()
    with raises_one_line(f"cannot read {words}"):
        read("tiny_imagenet", tmp_path)


def test_tiny_imagenet_in_parquet_is_tested_on_valid(tmp_path: Path) -> None:
    for split, images in (("train", TINY), ("valid", TINY_TEST)):
        write_split(tmp_path / "data", split, images, image="image", names=list(WORDNET))
    dataset = read("tiny_imagenet", tmp_path)
    assert same(dataset.train, TINY) and same(dataset.test, TINY_TEST)
    assert dataset.classes == WORDNET


Spoil = Callable[[Path], object]
TINY_FAULTS: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "unknown class": (
        lambda val: (val / "val_annotations.txt").write_text("val_0.JPEG\tn1\t0"),
        ("val_annotations.txt", "'val_0.JPEG' the class 'n1'"),
    ),
    "empty list": (lambda val: (val / "val_annotations.txt").write_text(""), ("lists no images",)),
    "no text": (
        lambda val: (val / "val_annotations.txt").write_bytes(b"\xff\xfe\xfa"),
        ("cannot read",),
    ),
    "missing image": (
        lambda val: (val / "images" / "val_7.JPEG").unlink(),
        ("1 of 400 images", "val_7.JPEG (No such file"),
    ),
    "no val": (
        shutil.rmtree,
        ("does not contain tiny_imagenet", "folders train and val", "tiny-imagenet-200"),
    ),
    "a class less": (
        lambda val: shutil.rmtree(val.parent / "train" / WORDNET[0]),
        ("which is not in train/",),
    ),
}


@pytest.mark.parametrize("what", TINY_FAULTS)
def test_broken_tiny_imagenet(tmp_path: Path, what: str) -> None:
    spoil, parts = TINY_FAULTS[what]
    write_tiny(tmp_path)
    spoil(tmp_path / "val")
    with raises_one_line(*parts):
        read("tiny_imagenet", tmp_path)


def test_other_number_of_class_folders(tmp_path: Path) -> None:
    write_cinic(tmp_path)
    for split in ("train", "test"):
        shutil.rmtree(tmp_path / split / "cat")
    with raises_one_line(tmp_path, "9 class folders, not 10", "right data set"):
        read("cinic10", tmp_path)


@pytest.mark.parametrize("name", ["svhn", "fashion_mnist", "cinic10", "tiny_imagenet"])
def test_empty_folder_says_what_is_missing(tmp_path: Path, name: str) -> None:
    with raises_one_line(tmp_path, name, "it needs train-*.parquet"):
        read(name, tmp_path)
