"""Load data sets by name.

`load(name, knobs, data_source)` returns the whole data set. A data set is a function from a
`DataSource` and its knobs to a `Dataset`, registered under a name:

    @datasets.register("mine", help="…")
    def mine(data_source: DataSource, *, size: Annotated[int, Knob("pixels", 8)] = 32) -> Dataset:
        ...

It may also declare a shared knob (`subset_seed`), to get its value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from imbtune.data.cache import cached
from imbtune.data.data_source import DataSource, data_root, describe_size, memory_limit
from imbtune.data.dataset_registry import datasets
from imbtune.data.readers import published, user
from imbtune.data.splits import Dataset, EncodedPixels
from imbtune.errors import DataError
from imbtune.registry import Value, knobs_of

__all__ = ["DataSource", "data_root", "datasets", "load", "published", "user"]

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
    for part, images in (("training", dataset.train), ("test", dataset.test)):
        counts = images.counts(len(dataset.classes))
        empty = [k for k, count in enumerate(counts[: len(dataset.classes)]) if not count]
        if empty or len(counts) > len(dataset.classes):
            message = _describe_bad_labels(name, data_source.root, part, dataset.classes, empty)
            raise DataError(message)
    return replace(dataset, notes=(*dataset.notes, *_encoded_notes(dataset)))


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


def _describe_bad_labels(
    name: str, root: Path | None, part: str, classes: tuple[str, ...], empty: list[int]
) -> str:
    """The message for classes without images (`empty`), or for labels that no class has."""
    where = f"data set '{name}'" + (f" in {root}" if root else "")
    if not empty:
        return f"{where} has {part} labels above its {len(classes)} classes: check the files"
    names = ", ".join(f"'{classes[k]}'" for k in empty[:NAMED])
    names += ", …" if len(empty) > NAMED else ""
    return (
        f"{where} has no {part} image of {len(empty)} of its {len(classes)} classes ({names}): "
        f"check the files, or leave those classes out"
    )
