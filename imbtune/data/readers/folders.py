"""Image files in one folder per class."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa

from imbtune.data.decoding import ENDINGS
from imbtune.data.encoded_images import EncodedImages
from imbtune.errors import DataError


def class_folders(root: Path) -> tuple[str, ...]:
    """The sorted names of the folders in `root`, without hidden ones.

    Raises:
        DataError: `root` cannot be read.
    """
    try:
        return tuple(
            sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
        )
    except OSError as error:
        raise DataError(f"cannot read the folder {root} ({error.strerror}): check it") from error


def list_folder(root: Path, classes: tuple[str, ...]) -> EncodedImages:
    """The image files below root/CLASS/ for each class, sorted by path.

    Args:
        root: the folder with the folders of the classes.
        classes: the names of these folders, in the order of the labels.

    Raises:
        DataError: `root` has a folder that is not one of the classes.
    """
    if other := sorted(set(class_folders(root)) - set(classes)):
        raise DataError(
            f"{root / other[0]} is a class without training images: "
            f"move it away, or add training images of it"
        )
    paths, labels = [], []
    for k, name in enumerate(classes):
        found = image_files(root / name)
        paths += found
        labels += [k] * len(found)
    return files_on_disk(paths, labels)


def image_files(folder: Path) -> list[str]:
    """The paths of all image files in the folder and below, sorted, without hidden files."""
    return sorted(
        str(Path(below) / name)
        for below, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(ENDINGS) and not name.startswith(".")
    )


def files_on_disk(paths: list[str], labels: list[int]) -> EncodedImages:
    """Image files by their paths, with their labels."""
    files = pa.array([os.fsencode(path) for path in paths], pa.large_binary())
    return EncodedImages(files, True, np.array(labels, dtype=np.int64), lambda i: paths[i])
