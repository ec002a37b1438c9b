"""Images of a model's data, for a comparison of an export with the model.

Shapes: N images, C channels, H and W pixels.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imbtune.data.data_source import cache_folder
from imbtune.data.file_walk import files_in
from imbtune.data.load import reads_files
from imbtune.errors import ConfigError, DataError, ImbtuneError
from imbtune.inference.evaluating.labelled_data import (
    in_place,
    labelled_images,
)
from imbtune.inference.evaluating.split_remedy import ALL, TEST, USER_DATA
from imbtune.inference.predicting.image_inputs import ImageInput, images_at
from imbtune.inference.predicting.predict_images import decoded_blocks, decoder_of
from imbtune.inference.trained_model import TrainedModel

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ImagesToCheck:
    """Images that an export is compared on.

    Attributes:
        pixels: (N, C, H, W).
        kind: what they are, in words.
        place: the folder or file that they come from; None for others.
    """

    pixels: Bytes
    kind: str
    place: Path | None = None

    @property
    def what(self) -> str:
        """What they are, in words, with the path; for this machine's user."""
        return in_place(self.kind, self.place)


def images_to_check(model: TrainedModel, data: str | Path | None, count: int) -> ImagesToCheck:
    """Real images of a model's data.

    Args:
        data: images with labels, in any layout, or without: a folder of images, an image, a list or
            Parquet. Of a published data set the test images are taken. None for the test images
            where the training found them: installed with imbtune, in $IMBTUNE_DATA, at the place
            that the model's folder records, or downloaded.
        count: how many at most.

    Raises:
        ImbtuneError: there are none; or none is at hand without `data`.
    """
    if data is not None:
        dataset = model.config.data.name
        has_any_layout = dataset in USER_DATA or not reads_files(dataset)
        try:
            return _labelled(model, data, ALL if has_any_layout else TEST, count)
        except (ConfigError, DataError) as error:
            try:
                given = images_at(data)
            except DataError as without_labels:
                raise (error if _has_arrays(Path(data)) else without_labels) from None
            return _image_files(model, given, count)
    name = model.config.data.name
    places: list[str | Path | None] = [] if reads_files(name) else [None]
    places += [os.environ["IMBTUNE_DATA"]] if os.environ.get("IMBTUNE_DATA") else []
    recorded = [] if model.data is None else [Path(model.data)]
    places += [place for place in (*recorded, cache_folder(name)) if place.exists()]
    for place in places:
        try:
            return _labelled(model, place, TEST, count)
        except ImbtuneError:
            continue
    gone = f", and {model.data} cannot be read" if model.data is not None else ""
    own = " of your own" if name in USER_DATA else f" of {name}"
    raise DataError(
        f"no images are at hand{gone}: give --data IMAGES, a folder with some{own}, on which the "
        "export is compared with the model, or --unchecked"
    )


def _labelled(
    model: TrainedModel, data: str | Path | None, split: str, count: int
) -> ImagesToCheck:
    images = labelled_images(model, data, split=split, skip_corrupt=True)  # others are enough
    block = images.first(count)
    which = "all" if len(block) == len(images.images) else f"{len(block)} of the"
    kind = images.kind.removeprefix("all ")
    if len(images.images) == 1:
        which, kind = "the", kind.replace("images", "image", 1)
    return ImagesToCheck(block, f"{which} {len(images.images)} {kind}", images.place)


def _has_arrays(path: Path) -> bool:
    """Whether a file or folder has images in arrays, which only count with labels."""
    files = files_in(path) if path.is_dir() else [path]
    return any(file.suffix.lower() == ".npz" for file in files)


def _image_files(model: TrainedModel, given: ImageInput, count: int) -> ImagesToCheck:
    """Images without labels, scaled to the model's size."""
    blocks = decoded_blocks(islice(given.items(), count), decoder_of(model, resize=True))
    found = [
        (item.path, one) for items, block in blocks for item, one in zip(items, block, strict=True)
    ]
    pixels = [one.pixels for _, one in found if not isinstance(one, str)]
    if not pixels:
        path, why = found[0]
        raise DataError(
            f"none of the images of {given.place} can be read, such as {path} ({why}): give others"
        )
    return ImagesToCheck(np.stack(pixels), f"{len(pixels)} images", Path(given.place))
