"""Which of some images a model was trained on, as its `margins.parquet` tells.

An image is one of the training if its pixels are, which also holds for a copy, for a folder that
was moved or renamed, and for another layout; or if its file is, which also holds where its pixels
were scaled to another size.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imbtune.inference.model_folder import MARGINS
from imbtune.inference.trained_model import TrainedModel

TRAIN = "train"  # the split of these images in margins.parquet


def count_trained(
    model: TrainedModel, names: Iterable[str], place: Path | None, hashes: Iterable[str]
) -> int:
    """How many of the images the model was trained on; 0 also where that is not known.

    Args:
        names: of the images, below `place`.
        place: the folder or file of the images; None for those of the model's own data set.
        hashes: of their pixels with the model's channels, in the same order.
    """
    if model.path is None:
        return 0
    try:
        table = pq.read_table(model.path / MARGINS)
    except (OSError, pa.ArrowException):  # of an older version
        return 0
    own = table.filter(pc.equal(table["split"].cast(pa.string()), TRAIN))
    files = _paths(own["image"].to_pylist(), Path(model.data) if place and model.data else None)
    trained, trained_pixels = set(files), set[str]()
    if "pixel_hash" in own.column_names:  # older versions have none
        trained_pixels = set(own["pixel_hash"].to_pylist())
    return sum(
        path in trained or found in trained_pixels
        for path, found in zip(_paths(names, place), hashes, strict=True)
    )


def _paths(names: Iterable[str], place: Path | None) -> list[str]:
    folder = "" if place is None else f"{os.path.realpath(place)}/"
    return [folder + name for name in names]
