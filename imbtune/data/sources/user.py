"""The user's own data: an image folder, Hugging Face Parquet, a .npz file.

It is taken as it is (`profile: as_is`) unless told otherwise. Where it has no test set, one is set
aside from the training images: `test_share` of every class, drawn by `subset_seed`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np

from imbtune.data.cache import from_files
from imbtune.data.encoded_images import EncodedImages, TargetShape, decode_images
from imbtune.data.imbalance import SubsetSeed
from imbtune.data.registry import datasets
from imbtune.data.source import DataSource
from imbtune.data.sources.folders import class_folders, list_folder
from imbtune.data.sources.hf_parquet import SHARDS, find_shards, read_shards
from imbtune.data.sources.npz import read_npz
from imbtune.data.splits import Dataset, Images, Preprocessing, share_counts, standard_pad
from imbtune.errors import DataError
from imbtune.registry import Knob

TEST_NAMES = ("test", "validation", "valid", "val")  # the first that there is

Size = Annotated[
    int, Knob("pixels of the square that images are scaled and cropped to; 0: all are alike", 0)
]
TestShare = Annotated[
    float, Knob("share of each class that is set aside where there is no test set", 0.01, 0.9)
]


@datasets.register(
    "folder",
    help="your image files: --data has train/CLASS/ and test/CLASS/, or only CLASS/",
    defaults={"profile": "as_is"},
)
@from_files("*")
def folder(
    data_source: DataSource,
    *,
    size: Size = 0,
    test_share: TestShare = 0.2,
    subset_seed: SubsetSeed = 0,
) -> Dataset:
    """Image files, one folder a class, in any depth below it."""
    root = data_source.required_root("folder")
    data_source.root_folder("folder")
    train, test, notes = _split_folders(root)
    classes = class_folders(train)
    if not classes:
        raise DataError(f"{train} has no folders: give one with a folder of images for each class")
    sources = [list_folder(train, classes)]
    sources += [list_folder(test, classes)] if test else []
    images, more = _read(sources, size, data_source)
    return _dataset(images, classes, notes + more, test_share, subset_seed)


@datasets.register(
    "parquet",
    help="your Hugging Face Parquet: --data has train-*.parquet and perhaps test-*.parquet",
    defaults={"profile": "as_is"},
)
@from_files(*SHARDS)
def parquet(
    data_source: DataSource,
    *,
    size: Size = 0,
    test_share: TestShare = 0.2,
    subset_seed: SubsetSeed = 0,
) -> Dataset:
    """Encoded images in Parquet, in one or many shards a split."""
    root = data_source.required_root("parquet")
    data_source.root_folder("parquet")
    shards = find_shards(root, "train")
    if not shards:
        raise DataError(f"no train-*.parquet in {root}: name the shards of the training set so")
    source, classes = read_shards(shards)
    sources = [source]
    if test := find_shards(root, *TEST_NAMES):
        sources.append(read_shards(test, len(classes))[0])
    images, notes = _read(sources, size, data_source)
    return _dataset(images, classes, notes, test_share, subset_seed)


@datasets.register(
    "npz",
    help="your arrays: --data is a .npz file with x_train, y_train and perhaps x_test, y_test",
    defaults={"profile": "as_is"},
)
@from_files("*.npz")
def npz(
    data_source: DataSource,
    *,
    size: Size = 0,
    test_share: TestShare = 0.2,
    subset_seed: SubsetSeed = 0,
) -> Dataset:
    """Arrays of images and labels in one file, or the only .npz file of a folder."""
    path = data_source.required_root("npz")
    if path.is_dir():
        found = sorted(path.glob("*.npz"))
        if len(found) != 1:
            raise DataError(f"{path} has {len(found)} .npz files: give --data the file itself")
        path = found[0]
    images, classes = read_npz(path, size)
    return _dataset(images, classes, (), test_share, subset_seed)


def _split_folders(root: Path) -> tuple[Path, Path | None, tuple[str, ...]]:
    """Where training and test images are, and what is to be said. `train` may be a class, too."""
    train = root / "train"
    if not train.is_dir() or not class_folders(train):
        return root, None, ()
    there = [name for name in TEST_NAMES if (root / name).is_dir()]
    notes = tuple(
        f"{root / name} is left out: validation images come from the training images"
        for name in there[1:]
    )
    return train, root / there[0] if there else None, notes


def _read(
    sources: list[EncodedImages], size: int, data_source: DataSource
) -> tuple[list[Images], tuple[str, ...]]:
    for source in sources:
        if not len(source.labels):
            raise DataError(f"{data_source.root} has a split without an image: check the files")
    return decode_images(sources, TargetShape(crop=size), data_source)


def _dataset(
    images: list[Images],
    classes: tuple[str, ...],
    notes: tuple[str, ...],
    test_share: float,
    subset_seed: int,
) -> Dataset:
    """The data set, its test set set aside where `images` has none."""
    if len(classes) < 2:
        raise DataError(f"there is one class, '{classes[0]}': a classifier needs two or more")
    if len(images) == 1:
        images = set_aside(images[0], classes, test_share, subset_seed)
        notes += (
            f"no test set: {len(images[1]):,} images, {test_share:g} of each class, are set aside "
            f"as one",
        )
    train, test = images
    mean, std = train.mean_and_std()
    preprocessing = Preprocessing(mean, std, pad=standard_pad(train.pixels.shape[2]), flip=True)
    return Dataset(train, test, classes, preprocessing, notes)


def set_aside(whole: Images, classes: tuple[str, ...], share: float, seed: int) -> list[Images]:
    """Training and test images: `share` of every class is for testing, at least one image.

    Raises:
        DataError: a class with fewer than two images.
    """
    available_K = whole.counts(len(classes))
    k = int(available_K.argmin())
    if available_K[k] < 2:
        raise DataError(
            f"class '{classes[k]}' has {available_K[k]} image, and a test set is to be set aside: "
            f"add images, give a test set, or leave the class out"
        )
    is_test, rng = np.zeros(len(whole), dtype=bool), np.random.default_rng(seed)
    for k, n in enumerate(share_counts(share, available_K)):
        is_test[rng.permutation(np.flatnonzero(whole.labels == k))[:n]] = True
    return [whole.take(np.flatnonzero(~is_test)), whole.take(np.flatnonzero(is_test))]
