"""The data sets by name.

`load(name, knobs, data_source)` gives the whole data set. A data set is a function from
`DataSource` and its own knobs to a `Dataset`, registered under a name:

    @datasets.register("mine", help="…")
    def mine(source: DataSource, *, size: Annotated[int, Knob("pixels", 8)] = 32) -> Dataset: ...

It may also declare a setting that all data sets share (`subset_seed`), and gets that one's value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from imbtune.data.cache import cached
from imbtune.data.registry import datasets
from imbtune.data.source import DataSource, data_root, describe_size, memory_limit
from imbtune.data.sources import published, user
from imbtune.data.splits import Dataset, EncodedPixels
from imbtune.errors import DataError
from imbtune.registry import Value, knobs_of

__all__ = ["DataSource", "data_root", "datasets", "load", "published", "user"]

NAMED = 5  # classes that a message names


def load(
    name: str, knobs: Mapping[str, Value] | None = None, data_source: DataSource | None = None
) -> Dataset:
    """The data set `name`, checked.

    Args:
        knobs: of the data set; others are passed over, and what is left out takes its default.
        data_source: where from and how strictly; the download cache unless given.

    Raises:
        ConfigError: an unknown name.
        DataError: files that are missing, truncated, or not what they should be.
    """
    make, data_source = datasets[name].make, data_source or DataSource()
    declared = {key: value for key, value in (knobs or {}).items() if key in knobs_of(make)}
    dataset = cached(name, make, data_source, declared)
    for part, images in (("training", dataset.train), ("test", dataset.test)):
        counts = images.counts(len(dataset.classes))
        lacking = [k for k, count in enumerate(counts[: len(dataset.classes)]) if not count]
        if lacking or len(counts) > len(dataset.classes):
            raise DataError(_says_lacking(name, data_source.root, part, dataset.classes, lacking))
    return replace(dataset, notes=(*dataset.notes, *_says_encoded(dataset)))


def _says_encoded(dataset: Dataset) -> tuple[str, ...]:
    parts = (dataset.train, dataset.test)
    if not any(isinstance(images.pixels, EncodedPixels) for images in parts):
        return ()
    n, size = sum(map(len, parts)), sum(images.pixels.nbytes for images in parts)
    return (
        f"{n:,} images take {describe_size(size)} decoded, more than the "
        f"{describe_size(memory_limit())} they may: they stay encoded and are decoded anew in "
        f"every epoch ($IMBTUNE_MEMORY sets what they may take)",
    )


def _says_lacking(
    name: str, root: Path | None, part: str, classes: tuple[str, ...], lacking: list[int]
) -> str:
    where = f"data set '{name}'" + (f" in {root}" if root else "")
    if not lacking:
        return f"{where} has {part} labels beyond its {len(classes)} classes: check the files"
    names = ", ".join(f"'{classes[k]}'" for k in lacking[:NAMED])
    names += ", …" if len(lacking) > NAMED else ""
    return (
        f"{where} has no {part} image of {len(lacking)} of its {len(classes)} classes ({names}): "
        f"check the files, or leave those classes out"
    )
