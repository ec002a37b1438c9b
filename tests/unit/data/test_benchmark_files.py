"""Files of one published data set that are given for another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_files import raises_one_line, read, same, write_split
from published_files import GREY, GREY_TEST, RGB, RGB_TEST, TEN, TINY, TINY_TEST, write_cinic
from torchvision.datasets import FashionMNIST

from imbtune.data.benchmark_files import BENCHMARKS, check_counts
from imbtune.data.splits import Images

CLOTHES = tuple(FashionMNIST.classes)
DIGITS = tuple("0123456789")
STL10 = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


def write(folder: Path, names: tuple[str, ...] | None, grey: bool = False) -> Path:
    listed = None if names is None else list(names)
    for split, images in zip(
        ("train", "test"), (GREY, GREY_TEST) if grey else (RGB, RGB_TEST), strict=True
    ):
        write_split(folder, split, images, image="image", names=listed)
    return folder


@pytest.mark.parametrize(
    ("name", "names"),
    [
        *(("svhn", TEN), ("svhn", CLOTHES), ("cinic10", tuple("1234567890"))),
        *(("cifar10", STL10), ("cifar10", CLOTHES), ("fashion_mnist", DIGITS)),
    ],
)
def test_class_names_of_another_data_set_are_refused(
    tmp_path: Path, name: str, names: tuple[str, ...]
) -> None:
    write(tmp_path, names, name == "fashion_mnist")
    has = f"has the classes '{names[0]}', '{names[1]}'"
    with raises_one_line(tmp_path, has, f"and {name} has '", f"set --data to the files of {name}"):
        read(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("cifar10", tuple(name.upper() for name in TEN)),
        ("cifar10", ("plane", "car", *TEN[2:])),
        ("cinic10", TEN),
        ("fashion_mnist", tuple(name.replace("-", " - ").replace("/", " / ") for name in CLOTHES)),
        ("svhn", DIGITS),
        ("svhn", None),
        ("cifar10", None),
        ("cifar10", DIGITS),  # as ClassLabel(num_classes=10) names them
        ("cinic10", DIGITS),
    ],
)
def test_spelling_of_class_names_does_not_matter(
    tmp_path: Path, name: str, names: tuple[str, ...] | None
) -> None:
    grey = name == "fashion_mnist"
    dataset = read(name, write(tmp_path, names, grey))
    assert same(dataset.train.take(np.arange(1)), (GREY if grey else RGB).take(np.arange(1))) or (
        name == "svhn"
    )
    (note,) = dataset.notes
    assert "has 20 + 10 images, a part of the" in note and note.endswith(
        f"{name} (training + test)"
    )


def test_a_few_names_of_cifar100_may_differ(tmp_path: Path) -> None:
    """The copy of Hugging Face has 'cra'."""
    images = Images(np.zeros((100, 3, 32, 32), np.uint8), np.arange(100))
    names = ["cra" if name == "crab" else name for name in BENCHMARKS["cifar100"].classes]
    for split in ("train", "test"):
        write_split(tmp_path, split, images, label="fine_label", names=names)
    assert read("cifar100", tmp_path).classes == tuple(names)
    for split in ("train", "test"):
        write_split(tmp_path, split, images, names=[f"thing {k}" for k in range(100)])
    with raises_one_line(tmp_path, "has the classes 'thing 0'", "cifar100 has 'apple'"):
        read("cifar100", tmp_path)


@pytest.mark.parametrize("kind", ["ids", "words", "all words", "numbers"])
def test_classes_of_tiny_imagenet_are_compared(tmp_path: Path, kind: str) -> None:
    """WordNet IDs, or the names that words.txt gives them."""
    tiny = BENCHMARKS["tiny_imagenet"]
    assert len(set(tiny.classes)) == len(set(tiny.words)) == 200
    assert dict(zip(tiny.classes, tiny.words, strict=True))["n04285008"] == "sports car"
    names = {
        "ids": tiny.classes,
        "words": tuple(name.replace(" ", "_") for name in tiny.words),
        "all words": tuple(f"{name}, another name" for name in tiny.words),
        "numbers": tuple(map(str, range(200))),
    }[kind]
    for split, images in (("train", TINY), ("test", TINY_TEST)):
        write_split(tmp_path, split, images, image="image", names=list(names))
    assert read("tiny_imagenet", tmp_path).classes == names


@pytest.mark.parametrize("names", [[f"n{k:08d}" for k in range(200)], [*"abcde" * 40]])
def test_other_200_classes_are_not_tiny_imagenet(tmp_path: Path, names: list[str]) -> None:
    names = [f"{name}{k}" if len(name) == 1 else name for k, name in enumerate(names)]
    for split, images in (("train", TINY), ("test", TINY_TEST)):
        write_split(tmp_path, split, images, image="image", names=names)
    with raises_one_line(f"has the classes '{names[0]}'", "tiny_imagenet has 'n01443537', "):
        read("tiny_imagenet", tmp_path)


def test_digits_of_svhn_are_known_by_their_names(tmp_path: Path) -> None:
    """Class names in the order 1, 2, …, 9, 0, which is that of imbtune."""
    write(tmp_path, tuple("1234567890"))
    dataset = read("svhn", tmp_path)
    assert same(dataset.train, RGB) and same(dataset.test, RGB_TEST)


def test_folders_of_classes_are_compared(tmp_path: Path) -> None:
    write_cinic(tmp_path)
    for split in ("train", "test"):
        for k, name in enumerate(TEN):
            (tmp_path / split / name).rename(tmp_path / split / str(k))
    with raises_one_line(tmp_path, "has the classes '0', '1'", "cinic10 has 'airplane'"):
        read("cinic10", tmp_path)


@pytest.mark.parametrize("other", sorted(BENCHMARKS))
@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_number_of_images(name: str, other: str) -> None:
    """CIFAR-10 and CINIC-10 have the same class names; files may lack names."""
    counts = BENCHMARKS[other].train, BENCHMARKS[other].test
    ten = {"cifar10", "cinic10", "svhn"}  # 32×32, ten classes
    if name == other or counts == (BENCHMARKS[name].train, BENCHMARKS[name].test):
        assert check_counts(name, *counts, "here") == ()
    elif {name, other} <= ten:
        found = f"here has {counts[0]:,} + {counts[1]:,} images, as {other} has, and {name} has"
        with raises_one_line(found, BENCHMARKS[name].counts):
            check_counts(name, *counts, "here")


def test_numbers_of_images_that_are_too_large_or_a_part() -> None:
    with raises_one_line("here has 50,001 + 10,000 images, and cifar10 has 50,000 + 10,000 images"):
        check_counts("cifar10", 50_001, 10_000, "here")
    with raises_one_line("here has 9 + 10,001 images, and cifar10"):
        check_counts("cifar10", 9, 10_001, "here")
    assert check_counts("cifar10", 49_999, 10_000, "here") == (
        "here has 49,999 + 10,000 images, a part of the 50,000 + 10,000 images of cifar10 "
        "(training + test)",
    )
