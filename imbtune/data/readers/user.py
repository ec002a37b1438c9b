"""The user's data: image folders, Hugging Face Parquet files, or a .npz file.

The default profile is `as_is`. If there is no test set, the share `test_share` of each class of the
training images becomes the test set, drawn with `subset_seed`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np

from imbtune.data.cache import from_files
from imbtune.data.data_source import DataSource
from imbtune.data.dataset_registry import datasets
from imbtune.data.encoded_images import EncodedImages, TargetShape, decode_images
from imbtune.data.imbalance import SubsetSeed
from imbtune.data.readers.folders import class_folders, list_folder
from imbtune.data.readers.hf_parquet import SHARDS, find_shards, read_shards
from imbtune.data.readers.npz import read_npz
from imbtune.data.splits import Dataset, Images, Preprocessing, share_counts, standard_pad
from imbtune.errors import DataError
from imbtune.registry import Knob

TEST_NAMES = ("test", "validation", "valid", "val")  # names of a test set; the first one counts

Size = Annotated[
    int, Knob("scale and crop images to a square of this many pixels; 0: all have one size", 0)
]
TestShare = Annotated[
    float, Knob("share of each class for the test set, if the data has none", 0.01, 0.9)
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
    """Image files in one folder per class, or in folders below it.

    Raises:
        DataError: there is no path, no folder of a class, or images cannot be read.
    """
    root = data_source.required_root("folder")
    data_source.root_folder("folder")
    train, test, notes = _split_folders(root)
    classes = class_folders(train)
    if not classes:
        raise DataError(f"{train} has no folders: it needs a folder of images for each class")
    splits = [list_folder(train, classes)]
    splits += [list_folder(test, classes)] if test else []
    images, more = _decode(splits, size, data_source)
    return _dataset(images, classes, notes + more, test_share, subset_seed)


@datasets.register(
    "parquet",
    help="your Hugging Face Parquet: --data has train-*.parquet and maybe test-*.parquet",
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
    """Encoded images in Parquet files, one or several per split.

    Raises:
        DataError: there is no path, no training shard, or files cannot be read.
    """
    root = data_source.required_root("parquet")
    data_source.root_folder("parquet")
    shards = find_shards(root, "train")
    if not shards:
        raise DataError(f"no train-*.parquet in {root}: rename the files of the training set")
    train, classes = read_shards(shards)
    splits = [train]
    if test := find_shards(root, *TEST_NAMES):
        splits.append(read_shards(test, len(classes))[0])
    images, notes = _decode(splits, size, data_source)
    return _dataset(images, classes, notes, test_share, subset_seed)


@datasets.register(
    "npz",
    help="your arrays: --data is a .npz file with x_train, y_train and maybe x_test, y_test",
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
    """Arrays of images and labels in a .npz file, or in the only .npz file of a folder.

    Raises:
        DataError: there is no path, not exactly one file, or its arrays are not valid.
    """
    path = data_source.required_root("npz")
    if path.is_dir():
        found = sorted(path.glob("*.npz"))
        if len(found) != 1:
            raise DataError(f"{path} has {len(found)} .npz files: set --data to one file")
        path = found[0]
    images, classes = read_npz(path, size)
    return _dataset(images, classes, (), test_share, subset_seed)


def _split_folders(root: Path) -> tuple[Path, Path | None, tuple[str, ...]]:
    """The folders of the training and the test images, and notes for the user.

    A folder `train` without folders in it is a class of that name.
    """
    train = root / "train"
    if not train.is_dir() or not class_folders(train):
        return root, None, ()
    found = [name for name in TEST_NAMES if (root / name).is_dir()]
    notes = tuple(
        f"{root / name} is not used: validation images come from the training images"
        for name in found[1:]
    )
    return train, root / found[0] if found else None, notes


def _decode(
    splits: list[EncodedImages], size: int, data_source: DataSource
) -> tuple[list[Images], tuple[str, ...]]:
    """The images of each split, and notes for the user; DataError if a split is empty."""
    for split in splits:
        if not len(split.labels):
            raise DataError(f"{data_source.root} has a split without images: check the files")
    return decode_images(splits, TargetShape(crop=size), data_source)


def _dataset(
    images: list[Images],
    classes: tuple[str, ...],
    notes: tuple[str, ...],
    test_share: float,
    subset_seed: int,
) -> Dataset:
    """The data set. Where `images` has no test images, some of the training images become them."""
    if len(classes) < 2:
        raise DataError(f"there is only one class, '{classes[0]}': a classifier needs two or more")
    if len(images) == 1:
        images = split_off_test(images[0], classes, test_share, subset_seed)
        notes += (
            f"the data has no test set: {len(images[1]):,} images, {test_share:g} of each class, "
            f"are used as one",
        )
    train, test = images
    mean, std = train.mean_and_std()
    preprocessing = Preprocessing(mean, std, pad=standard_pad(train.pixels.shape[2]), flip=True)
    return Dataset(train, test, classes, preprocessing, notes)


def split_off_test(
    images: Images, classes: tuple[str, ...], share: float, seed: int
) -> list[Images]:
    """Training and test images: a share of each class, at least one image, is for testing.

    Args:
        images: all images.
        classes: the names of the classes, for messages.
        share: the share, in [0, 1].
        seed: of the random choice.

    Raises:
        DataError: a class with fewer than two images.
    """
    available_K = images.counts(len(classes))
    k = int(available_K.argmin())
    if available_K[k] < 2:
        raise DataError(
            f"class '{classes[k]}' has {available_K[k]} image, but needs 2, since the data has "
            f"no test set: add images, add a test set, or leave the class out"
        )
    is_test, rng = np.zeros(len(images), dtype=bool), np.random.default_rng(seed)
    for k, n in enumerate(share_counts(share, available_K)):
        is_test[rng.permutation(np.flatnonzero(images.labels == k))[:n]] = True
    return [images.take(np.flatnonzero(~is_test)), images.take(np.flatnonzero(is_test))]
