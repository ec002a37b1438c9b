"""The user's data: image folders, Hugging Face files, or a .npz file.

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
from imbtune.data.encoded_images import TargetShape, decode_images
from imbtune.data.file_walk import any_case, files_in
from imbtune.data.imbalance import SubsetSeed
from imbtune.data.readers.folders import find_class_folders
from imbtune.data.readers.hf_arrow import ARROW_FILES, find_saved_dataset, is_saved_dataset
from imbtune.data.readers.hf_parquet import (
    SHARDS,
    check_no_files_below,
    check_no_others,
    find_shards,
    read_shards,
)
from imbtune.data.readers.label_tables import find_label_tables
from imbtune.data.readers.npz import read_npz
from imbtune.data.readers.source_data import SourceData, check_links
from imbtune.data.readers.split_names import choose_splits, quoted
from imbtune.data.splits import Dataset, Images, Preprocessing, share_counts, standard_pad
from imbtune.errors import DataError, NotTrainableError
from imbtune.limits import IMAGE_SIZE
from imbtune.registry import Knob

Size = Annotated[
    int,
    Knob(
        "scale and crop images to a square of this many pixels; 0: all have one size", 0, IMAGE_SIZE
    ),
]
TestShare = Annotated[
    float, Knob("share of each class for the test set, if the data has none", 0.01, 0.9)
]


@datasets.register(
    "folder",
    help="your image files: --data has train/CLASS/ and test/CLASS/, only CLASS/, or a CSV file",
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
    """Image files with labels in CSV files, or in one folder per class or in folders below it.

    Raises:
        DataError: there is no path, labels are missing or unclear, or images cannot be read.
    """
    root = data_source.required_root("folder")
    data_source.root_folder("folder")
    if is_saved_dataset(root) or find_shards(root)[0]:
        raise DataError(f"{root} has a data set in Hugging Face files: set data.name=parquet")
    return _read(find_image_files(root), data_source, size, test_share, subset_seed)


@datasets.register(
    "parquet",
    help="your Hugging Face data: --data has train-*.parquet, or is a folder of save_to_disk",
    defaults={"profile": "as_is"},
)
@from_files(*SHARDS, *ARROW_FILES, f"**/{any_case('*.parquet')}")
def parquet(
    data_source: DataSource,
    *,
    size: Size = 0,
    test_share: TestShare = 0.2,
    subset_seed: SubsetSeed = 0,
) -> Dataset:
    """Encoded images in Parquet files, one or several per split, or in a saved data set.

    Raises:
        DataError: there is no path, no training shard, or files cannot be read.
    """
    root = data_source.required_root("parquet")
    data_source.root_folder("parquet")
    return _read(find_hugging_face(root), data_source, size, test_share, subset_seed)


@datasets.register(
    "npz",
    help="your arrays: --data is a .npz file with x_train, y_train and maybe x_test, y_test",
    defaults={"profile": "as_is"},
)
@from_files(any_case("*.npz"))
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
    path = find_npz(data_source.required_root("npz"))
    images, classes, notes = read_npz(path, size)
    return _dataset(images, classes, notes, str(path), test_share, subset_seed)


def find_image_files(root: Path) -> SourceData:
    """The images of a folder, with labels in CSV files or by folders of classes.

    Raises:
        DataError: labels are missing or unclear, or the folder cannot be read.
    """
    try:
        check_links(root)
        return find_label_tables(root) or find_class_folders(root)
    except OSError as error:
        raise DataError(f"cannot read {error.filename} ({error.strerror}): check it") from error


def find_npz(path: Path) -> Path:
    """The .npz file, or the only one of a folder.

    Raises:
        DataError: there is not exactly one.
    """
    if not path.is_dir():
        return path
    check_links(path)
    found = [file for file in files_in(path) if file.suffix.lower() == ".npz"]
    if len(found) != 1:
        raise DataError(f"{path} has {len(found)} .npz files: set --data to one file")
    return found[0]


def find_hugging_face(root: Path) -> SourceData:
    """The images of a saved data set or of Parquet files, in the Hugging Face layout.

    Raises:
        DataError: there is neither, or files cannot be read.
    """
    try:
        for folder in (root, root / "data"):
            if folder.is_dir():
                check_links(folder)
    except OSError as error:
        raise DataError(f"cannot read {error.filename} ({error.strerror}): check it") from error
    return find_saved_dataset(root) or _find_parquet(root)


def _find_parquet(root: Path) -> SourceData:
    """The images of the Parquet files."""
    shards, others = find_shards(root)
    if not shards:
        has = f" (it has {quoted((path.name for path in others), 5)})" if others else ""
        raise DataError(
            f"no train-*.parquet in {root}{has}: rename the files of the training set, or set "
            f"data.name to folder or npz"
        )
    check_no_others(others)
    try:
        check_no_files_below(root)
    except OSError as error:
        raise DataError(f"cannot read {error.filename} ({error.strerror}): check it") from error

    def describe(split: str) -> Path:
        return shards[split][0].parent / f"{split}*.parquet"

    train, test, notes = choose_splits(shards, root, describe)
    return SourceData(read_shards(train), read_shards(test) if test else None, notes)


def _read(
    found: SourceData, data_source: DataSource, size: int, test_share: float, subset_seed: int
) -> Dataset:
    """The data set of the encoded images."""
    splits, classes, notes = found.matched()
    images, more = decode_images(splits, TargetShape(crop=size), data_source)
    return _dataset(images, classes, notes + more, found.train.place, test_share, subset_seed)


def _dataset(
    images: list[Images],
    classes: tuple[str, ...],
    notes: tuple[str, ...],
    place: str,
    test_share: float,
    subset_seed: int,
) -> Dataset:
    """The data set. Where `images` has no test images, some of the training images become them.

    Args:
        images: the training images, and the test images if there are any.
        classes: the names of the classes.
        notes: messages for the user.
        place: where the training images come from, for messages.
        test_share: the share of each class for the test set.
        subset_seed: of the choice of test images.

    Raises:
        NotTrainableError: there is one class only, or a class has too few images.
    """
    if len(classes) < 2:
        raise NotTrainableError(
            f"{place} has only one class, '{classes[0]}'", "a classifier needs two or more"
        )
    has_test = len(images) > 1
    _check_counts(images[0], classes, place, has_test)
    if not has_test:
        images = split_off_test(images[0], classes, test_share, subset_seed)
        notes += (
            f"the data has no test set: {len(images[1]):,} images, {test_share:g} of each class, "
            f"are used as one",
        )
    train, test = images
    mean, std = train.mean_and_std()
    preprocessing = Preprocessing(mean, std, pad=standard_pad(train.pixels.shape[2]), flip=True)
    return Dataset(train, test, classes, preprocessing, notes)


def _check_counts(train: Images, classes: tuple[str, ...], place: str, has_test: bool) -> None:
    """NotTrainableError if a class has fewer images than training, validation and test need."""
    needed = 2 if has_test else 3
    counts = train.counts(len(classes)).tolist()
    few = {name: n for name, n in zip(classes, counts, strict=True) if n < needed}
    if not few:
        return
    name, count = next(iter(few.items()))
    others = f", and so do {len(few) - 1:,} other classes" if len(few) > 1 else ""
    uses = "training and validation" if has_test else "training, validation and test"
    more = "add images" if has_test else "add images, add a test set"
    raise NotTrainableError(
        f"class '{name}' has {count} image{'s' * (count != 1)} in {place}, but needs {needed}, "
        f"one each for {uses}{others}",
        f"{more}, or leave the class out",
    )


def split_off_test(
    images: Images, classes: tuple[str, ...], share: float, seed: int
) -> list[Images]:
    """Training and test images: a share of each class is for testing.

    It is at least one image, and at least two remain where there are three: one for training, one
    for validation.

    Args:
        images: all images, of each class at least two.
        classes: the names of the classes.
        share: the share, in [0, 1].
        seed: of the random choice.
    """
    available_K = images.counts(len(classes))
    counts_K = np.minimum(share_counts(share, available_K), np.maximum(available_K - 2, 1))
    is_test, rng = np.zeros(len(images), dtype=bool), np.random.default_rng(seed)
    for k, n in enumerate(counts_K):
        is_test[rng.permutation(np.flatnonzero(images.labels == k))[:n]] = True
    images = images.named("image")  # by its place among all
    return [images.take(np.flatnonzero(~is_test)), images.take(np.flatnonzero(is_test))]
