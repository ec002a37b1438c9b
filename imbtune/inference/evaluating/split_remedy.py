"""Images that no training could use, and a model can be evaluated on: what to type for them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imbtune.data.file_walk import folders_in
from imbtune.data.readers.npz import read_npz
from imbtune.data.readers.split_names import plural, split_of, test_set_alone
from imbtune.data.readers.user import find_hugging_face, find_image_files, find_npz
from imbtune.errors import DataError, NoTrainingSetError, NotTrainableError

USER_DATA = ("folder", "parquet", "npz")  # data sets of the user's own files
TEST, TRAIN, ALL = "test", "train", "all"
SPLITS = (TEST, TRAIN, ALL)


@contextmanager
def with_remedy(root: Path | None, name: str, split: str) -> Iterator[None]:
    """Within the block, a NotTrainableError of the user's files becomes one for an evaluation.

    The data are read as for a training, which has needs that an evaluation of all images does not
    have, and the remedy for a training is not that for an evaluation.

    A test set alone stays a NoTrainingSetError where it is the test set that is evaluated.

    Args:
        root: the folder or file of the data.
        name: the data set, whose layout they have.
        split: that is to be evaluated.
    """
    try:
        yield
    except NotTrainableError as error:
        if root is None or name not in USER_DATA:
            raise
        if split == TEST and isinstance(error, NoTrainingSetError):
            raise
        remedy = _all_images(root, name, split) or _one_split(root)
        raise DataError(f"{error.what}{remedy}") from error


def _all_images(root: Path, name: str, split: str) -> str:
    """That `--split all` evaluates the images, and how many of which split; empty if it cannot."""
    if split == ALL:
        return ""
    try:
        counts = set_sizes(root, name)
    except NotTrainableError:
        return ""
    parts = f" ({counts[0]:,} for training, {counts[1]:,} for testing)" if len(counts) > 1 else ""
    count = plural(range(sum(counts)))
    return (
        f", and --split {split} reads the data as a training does: --split all evaluates all "
        f"{count}{parts}"
    )


def _one_split(root: Path) -> str:
    """How to evaluate the images of one split."""
    inner = folders_in(root) if root.is_dir() else []
    folders = [folder for folder in inner if split_of(folder.name) and folders_in(folder)]
    how = "save them alone, under the name 'train', and give --split all"
    if folders:
        ways = " or ".join(f"--data {shlex.quote(str(folder))}" for folder in folders)
        how = f"give {ways} with --split all"
    return f": to evaluate the images of one split, {how}"


def set_sizes(root: Path, name: str) -> list[int]:
    """The images of the training and the test set of the user's files; of one set if it is alone.

    Raises:
        NotTrainableError: the test set has a class that the training set does not have.
        DataError: the files cannot be read.
    """
    with test_set_alone():
        if name == "npz":
            return list(map(len, read_npz(find_npz(root), 0)[0]))
        found = find_hugging_face(root) if name == "parquet" else find_image_files(root)
        return [len(images.labels) for images in found.matched()[0]]
