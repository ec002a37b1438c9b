"""Load data sets by name.

`load(name, knobs, data_source)` returns the whole data set. A data set is a function from a
`DataSource` and its knobs to a `Dataset`, registered under a name:

    @datasets.register("mine", help="…")
    def mine(data_source: DataSource, *, size: Annotated[int, Knob("pixels", 8)] = 32) -> Dataset:
        ...

It may also declare a shared knob (`subset_seed`), to get its value. One that does not read
`data_source.root` is registered with `reads_files=False`: `--data` is refused for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from imbtune.data.cache import cached
from imbtune.data.data_source import DataSource, data_root, describe_size, memory_limit
from imbtune.data.dataset_registry import datasets
from imbtune.data.readers import published, user
from imbtune.data.readers.split_names import quoted
from imbtune.data.splits import Dataset, EncodedPixels
from imbtune.errors import ConfigError, DataError
from imbtune.registry import Part, Value, knobs_of

__all__ = [
    "DataSource",
    "check_reads_files",
    "data_root",
    "datasets",
    "load",
    "published",
    "reads_files",
    "source_of",
    "user",
]

NAMED = 5  # classes that a message names


def load(
    name: str, knobs: Mapping[str, Value] | None = None, data_source: DataSource | None = None
) -> Dataset:
    """Load a data set and check that each class has training and test images.

    Args:
        knobs: values of the data set's knobs, by name; others are ignored, missing ones have their
            defaults.
        data_source: where to read from; None for the download cache.

    Raises:
        ConfigError: an unknown name.
        DataError: files that are missing, broken or of the wrong kind, or a class without images.
    """
    make, data_source = datasets[name].make, data_source or DataSource()
    declared = {key: value for key, value in (knobs or {}).items() if key in knobs_of(make)}
    dataset = cached(name, make, data_source, declared)
    notes = _check(datasets[name], dataset, data_source.root)
    return replace(
        dataset,
        train=dataset.train.named("train"),
        test=dataset.test.named("test"),
        notes=(*dataset.notes, *notes, *_encoded_notes(dataset)),
    )


def reads_files(name: str) -> bool:
    """Whether a data set reads files of the user's or of a download."""
    return name not in datasets.names() or bool(datasets[name].traits.get("reads_files", True))


def source_of(name: str, data: Path | None, skip_corrupt: bool = False) -> DataSource:
    """Where a data set is read from: `data`, else `$IMBTUNE_DATA`, else the download cache.

    Args:
        name: of the data set. One that reads no files has none, whatever `$IMBTUNE_DATA` says.
        data: the value of `--data`, if it was given.

    Raises:
        ConfigError: `data` is given for a data set that reads no files.
        DataError: as :func:`data_root`.
    """
    check_reads_files(name, data)
    return DataSource(data_root(data) if reads_files(name) else None, skip_corrupt)


def check_reads_files(name: str, data: object) -> None:
    """ConfigError for a `data` that the data set would not read; None is none."""
    if data is not None and not reads_files(name):
        raise ConfigError(
            f"--data {data}: the data set '{name}' reads no files: leave it out, or for images of "
            "your own write a space with data: folder (see docs/data.md)"
        )


def _check(part: Part, dataset: Dataset, root: Path | None) -> tuple[str, ...]:
    """Notes about classes without test images.

    Raises:
        DataError: labels that no class has, a class without training images, test images of
            another shape; or a published data set without test images of a class.
    """
    where, classes = f"data set '{part.name}'" + (f" in {root}" if root else ""), dataset.classes
    missing = {}
    for kind, images in (("training", dataset.train), ("test", dataset.test)):
        if not len(images):
            raise DataError(f"{where} has no {kind} images: check the files")
        if images.labels.min() < 0 or images.labels.max() >= len(classes):
            raise DataError(
                f"{where} has {kind} labels from {images.labels.min()} to {images.labels.max()}, "
                f"outside of its {len(classes)} classes: check the files"
            )
        empty = np.flatnonzero(images.counts(len(classes)) == 0)
        names = quoted((classes[k] for k in empty), NAMED)
        missing[kind] = f"no {kind} image of {len(empty)} of its {len(classes)} classes ({names})"
        if len(empty) and (kind == "training" or part.source):  # published data is complete
            raise DataError(
                f"{where} has {missing[kind]}: check the files, or leave those classes out"
            )
    shapes = [images.pixels.shape[1:] for images in (dataset.train, dataset.test)]
    if shapes[0] != shapes[1]:
        raise DataError(
            f"{where} has training images of the shape {shapes[0]} and test images of the shape "
            f"{shapes[1]} (channels, height, width): make them alike"
        )
    if not len(empty):
        return ()
    return (f"there is {missing['test']}: metrics leave these classes out",)


def _encoded_notes(dataset: Dataset) -> tuple[str, ...]:
    """A note that the images stay encoded, if they do."""
    parts = (dataset.train, dataset.test)
    if not any(isinstance(images.pixels, EncodedPixels) for images in parts):
        return ()
    n, size = sum(map(len, parts)), sum(images.pixels.nbytes for images in parts)
    return (
        f"{n:,} images would take {describe_size(size)} decoded, more than the limit of "
        f"{describe_size(memory_limit())}: they stay encoded and are decoded again in every epoch "
        f"($IMBTUNE_MEMORY sets the limit)",
    )
