"""What a reader finds on disk: encoded images with labels by name, split as they are there."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from imbtune.data.decoding import ENDINGS, LFS_POINTER, is_lfs_pointer
from imbtune.data.encoded_images import EncodedImages
from imbtune.data.file_walk import is_broken_link, is_hidden, is_special
from imbtune.data.readers.labels import Labels, match_labels
from imbtune.errors import DataError


@dataclass(frozen=True)
class SourceSplit:
    """The encoded images of one split.

    Args:
        files: the encoded files, or their paths as bytes.
        are_paths: whether `files` are paths.
        labels: of each file or folder that was read, in the order of `files`.
        where: the name of the image at an index, for messages.
        notes: messages for the user about what was found.
    """

    files: pa.LargeBinaryArray
    are_paths: bool
    labels: tuple[Labels, ...]
    where: Callable[[int], str]
    notes: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """The file or folder of the split, for messages."""
        return self.labels[0].place


@dataclass(frozen=True)
class SourceData:
    """A whole data set on disk.

    Args:
        train: the training images.
        test: the test images; None if there are none.
        notes: messages for the user about what was found.
    """

    train: SourceSplit
    test: SourceSplit | None = None
    notes: tuple[str, ...] = ()

    def matched(
        self, classes: int | None = None
    ) -> tuple[list[EncodedImages], tuple[str, ...], tuple[str, ...]]:
        """The images of each split with matched labels, the classes, and notes for the user.

        Args:
            classes: as in :func:`match_labels`.

        Raises:
            DataError: a split has no images, or the labels do not match.
        """
        splits = [self.train] + ([self.test] if self.test else [])
        for split in splits:
            if not len(split.files):
                raise DataError(f"{split.place} is a split without images: check the files")
        test = self.test.labels if self.test else ()
        names, *labels, notes = match_labels(self.train.labels, test, classes)
        images = [
            EncodedImages(split.files, split.are_paths, index, split.where)
            for split, index in zip(splits, labels, strict=False)
        ]
        found = tuple(note for split in splits for note in split.notes)
        return images, names, self.notes + found + notes


def check_links(folder: Path) -> None:
    """DataError for a link in the folder that leads nowhere, or to a file instead of a folder.

    A class or a split may be behind it, as on a disk that is not mounted. An image behind a link is
    reported with the images that cannot be read.

    Raises:
        OSError: the folder cannot be read.
    """
    for path in sorted(folder.iterdir()):
        if is_hidden(path.name) or path.suffix.lower() in ENDINGS:
            continue
        check_link(path)
        if path.is_symlink() and path.is_file() and not path.suffix:
            raise DataError(
                f"{path} is a link to the file {path.readlink()}, and not to a folder: correct "
                f"the link, or remove it"
            )


def check_link(path: Path) -> None:
    """DataError for a link that leads nowhere."""
    if is_broken_link(path):
        raise DataError(
            f"{path} is a link to {path.readlink()}, which is not there: mount the disk or get "
            f"the data that it leads to, or remove the link"
        )


def check_regular(path: Path) -> None:
    """DataError for a file that cannot be one of data, before it is opened.

    These are a link that leads nowhere, nothing at all, a named pipe, a socket or a device, and the
    pointer that Git LFS leaves in place of a file.
    """
    check_link(path)
    if not path.exists():
        raise DataError(f"{path} is missing: get it, or save the data again")
    if is_special(path):
        raise DataError(
            f"{path} is no regular file, but a named pipe, a socket or a device: save the data in "
            f"a file"
        )
    if is_lfs_pointer(path):
        raise DataError(f"{path} is {LFS_POINTER}")


def files_on_disk(paths: list[Path], labels: Labels) -> SourceSplit:
    """Image files by their paths, with their labels."""
    files = pa.array([os.fsencode(path) for path in paths], pa.large_binary())
    return SourceSplit(files, True, (labels,), lambda i: str(paths[i]))


def joined(splits: list[SourceSplit]) -> SourceSplit:
    """Several files of one split, one after another."""
    starts = np.cumsum([0, *(len(split.files) for split in splits)])

    def where(i: int) -> str:
        k = int(np.searchsorted(starts, i, side="right")) - 1
        return splits[k].where(i - int(starts[k]))

    files = pa.concat_arrays([split.files for split in splits])
    labels = tuple(part for split in splits for part in split.labels)
    notes = tuple(note for split in splits for note in split.notes)
    return SourceSplit(files, splits[0].are_paths, labels, where, notes)
