"""Which of some images a model was trained on, as its `margins.parquet` names them."""

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


def count_trained(model: TrainedModel, names: Iterable[str], place: Path | None) -> int:
    """How many of the images the model was trained on; 0 also where that is not known.

    Images are the same where the paths of their files are, or in a file the rows.

    Args:
        names: of the images, below `place`.
        place: the folder or file of the images; None for those of the model's own data set.
    """
    if model.path is None:
        return 0
    try:
        table = pq.read_table(model.path / MARGINS, columns=["split", "image"])
    except (OSError, pa.ArrowException):  # of an older version
        return 0
    own = table.filter(pc.equal(table["split"].cast(pa.string()), TRAIN))["image"].to_pylist()
    trained = set(_paths(own, None if place is None or not model.data else Path(model.data)))
    return sum(path in trained for path in _paths(names, place))


def _paths(names: Iterable[str], place: Path | None) -> list[str]:
    folder = "" if place is None else f"{os.path.realpath(place)}/"
    return [folder + name for name in names]
