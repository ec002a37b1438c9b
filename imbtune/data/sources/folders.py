"""Folders of image files, one a class."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa

from imbtune.data.decoding import ENDINGS
from imbtune.data.encoded_images import EncodedImages
from imbtune.errors import DataError


def class_folders(root: Path) -> tuple[str, ...]:
    """The names of the folders in `root`, sorted; hidden ones are none."""
    try:
        return tuple(
            sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
        )
    except OSError as error:
        raise DataError(f"cannot look into {root} ({error.strerror}): check the folder") from error


def list_folder(root: Path, classes: tuple[str, ...], names: tuple[str, ...] = ()) -> EncodedImages:
    """The images below root/CLASS/ for each class, sorted by path; labels in the classes' order.

    Args:
        names: of the classes in `classes`, for messages; else their folders' names.

    Raises:
        DataError: a folder of no known class.
    """
    if strange := sorted(set(class_folders(root)) - set(classes)):
        raise DataError(
            f"{root / strange[0]} is a class that the training images lack: "
            f"move it away, or add training images of it"
        )
    paths, labels = [], []
    for k, name in enumerate(classes):
        found = image_files(root / name)
        paths += found
        labels += [k] * len(found)
    return path_source(paths, labels)


def image_files(folder: Path) -> list[str]:
    """Every image file in the folder and below, sorted; hidden files are left out."""
    return sorted(
        str(Path(below) / name)
        for below, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(ENDINGS) and not name.startswith(".")
    )


def path_source(paths: list[str], labels: list[int]) -> EncodedImages:
    """A source of files on disk."""
    files = pa.array([os.fsencode(path) for path in paths], pa.large_binary())
    return EncodedImages(files, True, np.array(labels, dtype=np.int64), lambda i: paths[i])
