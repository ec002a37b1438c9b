"""Labelled images for a trained model: classes are matched by their names.

Shapes: N images, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from imbtune.data.data_source import DataSource, data_root
from imbtune.data.dataset_registry import datasets
from imbtune.data.encoded_images import TargetShape, decode_images
from imbtune.data.file_walk import files_in
from imbtune.data.images import Images
from imbtune.data.load import load, reads_files
from imbtune.data.readers.hf_arrow import is_saved_dataset
from imbtune.data.readers.hf_parquet import find_shards
from imbtune.data.readers.npz import read_npz
from imbtune.data.readers.split_names import test_set_alone
from imbtune.data.readers.user import find_hugging_face, find_image_files, find_npz
from imbtune.data.splits import final_splits
from imbtune.errors import ConfigError, DataError, NoTrainingSetError, unknown
from imbtune.inference.evaluating.matched_labels import matched_labels
from imbtune.inference.evaluating.split_remedy import ALL, TEST, TRAIN, USER_DATA, with_remedy
from imbtune.inference.evaluating.trained_images import count_trained
from imbtune.inference.example_tables import pixel_hashes
from imbtune.inference.trained_model import TrainedModel
from imbtune.paths import local_path
from imbtune.registry import Value

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

BLOCK = 256
UNKNOWN_TRAINING = (
    "the model may have been trained on these images: then the metrics say nothing of other images"
)


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with labels that are indices of the model's classes.

    Attributes:
        images: pixels of the model's size and channels are made from them in blocks.
        labels_N: index of each image's class among those of the model.
        kind: the split and the name of the data set, in words.
        place: the folder or file that they come from; None for others.
        notes: messages for the user.
        channels: of the model.
        trained: how many of them the model was trained on, as far as that is known.
        hashes: of the pixels of each, as `margins.parquet` has them.
    """

    images: Images
    labels_N: Ints
    kind: str
    place: Path | None
    notes: tuple[str, ...]
    channels: int
    trained: int = 0
    hashes: Sequence[str] = ()

    @property
    def trained_words(self) -> str:
        """`the model was trained on 3 of these 40 images`; empty for none."""
        if not self.trained:
            return ""
        count = len(self.images)
        which = "these images"
        if self.trained < count:
            which = f"{self.trained:,} of these {count:,} images"
        return f"the model was trained on {which}"

    @property
    def what(self) -> str:
        """The data and the split, in words, with the path; for this machine's user."""
        return in_place(self.kind, self.place)

    def first(self, count: int) -> Bytes:
        """The pixels of the first images, which are of as many classes as possible."""
        order = np.argsort(self.labels_N, kind="stable")
        places = np.arange(len(order)) - np.searchsorted(self.labels_N[order], self.labels_N[order])
        rows = np.sort(order[np.argsort(places, kind="stable")][:count])
        return with_channels(self.images.pixels[rows], self.channels)

    def blocks(self) -> Iterator[Bytes]:
        """The pixels (B, C, H, W) in blocks."""
        for start in range(0, len(self.images), BLOCK):
            rows = np.arange(start, min(start + BLOCK, len(self.images)))
            yield with_channels(self.images.pixels[rows], self.channels)


def labelled_images(
    model: TrainedModel,
    data: str | Path | None = None,
    *,
    split: str = TEST,
    dataset: str | None = None,
    skip_corrupt: bool = False,
    resize: bool = False,
) -> LabelledImages:
    """Labelled images in the classes of a model.

    Args:
        data: folder or file; None for $IMBTUNE_DATA, else where the training found them: at the
            place that the model records, or downloaded.
        split: `test`: the test set, as the training made it; `train`: the images that it was
            trained on; `all`: every image.
        dataset: name of the data set, whose layout `data` has; None for the model's own, or for
            the layout that is found.
        skip_corrupt: leave out images that cannot be read.
        resize: scale and centre-crop images of another size, also where the training did not.

    Raises:
        ConfigError: an unknown data set.
        DataError: no data, images of another size, or classes that the model does not have.
    """
    root, name = _place(model, data, dataset)
    source = DataSource(root, skip_corrupt)
    found, classes, notes = _load(model, source, split, name, resize)
    kind = f"{split if split != ALL else 'all'} images{'' if name in USER_DATA else f' of {name}'}"
    place = root if reads_files(name) else None
    what = in_place(kind, place)
    labels_N, missing = matched_labels(found, classes, model.classes, what)
    shape = tuple(found.pixels.shape[2:])
    if model.image_shape and shape != model.image_shape[1:]:
        wanted = "×".join(map(str, model.image_shape[:0:-1]))
        raise DataError(
            f"{what} has images of {shape[1]}×{shape[0]} pixels, and the model's are {wanted}: "
            f"give others, or --resize"
        )
    notes = (*notes, *missing)
    own = model.config.data
    is_published = own.part.is_builtin and name not in USER_DATA  # the same in every place
    at = None if is_published else place
    made = LabelledImages(found, labels_N, kind, place, notes, model.preprocess.channels)
    names = found.names_in(split) if at is not None or name == own.name else [""] * len(found)
    hashes = [found for block in made.blocks() for found in pixel_hashes(block)]
    trained = count_trained(model, names, at, hashes)
    made = replace(made, hashes=hashes, trained=trained)
    if split == TRAIN and not trained:
        made = replace(made, notes=(UNKNOWN_TRAINING, *notes))
    if trained:
        note = f"{made.trained_words}: the metrics say nothing of other images"
        made = replace(made, notes=(note, *notes))
    return made


def in_place(what: str, place: Path | None) -> str:
    """Images in words, with the folder or file that they come from."""
    return what if place is None else f"{what} in {place}"


def with_channels(pixels_NCHW: Bytes, channels: int) -> Bytes:
    """Grey images as RGB, and RGB images as grey, as Pillow converts them.

    Raises:
        DataError: other channels.
    """
    has = pixels_NCHW.shape[1]
    if has == channels:
        return pixels_NCHW
    if (has, channels) == (1, 3):
        return np.repeat(pixels_NCHW, 3, axis=1)
    if (has, channels) != (3, 1):
        raise DataError(f"images have {has} channels, and the model's have {channels}: give others")
    grey = [
        np.asarray(Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).convert("L"))
        for pixels in pixels_NCHW
    ]
    return np.stack(grey)[:, None]


def _place(
    model: TrainedModel, data: str | Path | None, dataset: str | None
) -> tuple[Path | None, str]:
    """Where the images are, None for files of imbtune's own or a download; and their data set.

    Raises:
        ConfigError: `data` for a data set that reads no files.
        DataError: what is there cannot be read.
    """
    own = model.config.data
    if data is not None:
        path = Path(local_path("--data", data))
        if dataset is not None and not reads_files(dataset):
            raise ConfigError(
                f"--dataset {dataset} and --data {path}: that data set reads no files: leave one "
                "of them out"
            )
        root = data_root(path)
        assert root is not None, "it is given"
        return root, dataset or dataset_name(model, root)
    if not reads_files(dataset or own.name):
        return None, dataset or own.name
    if (root := data_root(None)) is not None:  # $IMBTUNE_DATA
        return root, dataset or dataset_name(model, root)
    if model.data is None or (dataset or own.name) != own.name:
        return None, dataset or own.name
    try:
        return data_root(Path(model.data)), own.name
    except DataError as error:
        if own.part.is_builtin and own.name not in USER_DATA:  # it is in the cache, or downloaded
            return None, own.name
        raise DataError(
            f"the training found its images in {model.data}, which cannot be read now: give --data "
            "with the place where they are"
        ) from error


def _load(
    model: TrainedModel, source: DataSource, split: str, name: str, resize: bool
) -> tuple[Images, Sequence[str], tuple[str, ...]]:
    """The images of a split, the classes of their labels, and notes."""
    own = model.config.data.name
    if name not in datasets.names():
        raise unknown("data set", name, datasets.names())
    size = model.image_shape[1] if model.image_shape and resize else 0
    if name in USER_DATA and split == ALL:
        root = source.required_root(name)
        with with_remedy(root, name, split):
            return _every_image(name, root, model, source, size)
    knobs: dict[str, Value] = dict(model.config.data.knobs) if name == own else {}
    if name in USER_DATA:
        knobs["size"] = size or int(model.config.data.knobs.get("size", 0) or 0)
    try:
        with with_remedy(source.root, name, split):
            loaded = load(name, knobs, source)
    except NoTrainingSetError:
        if name not in USER_DATA:
            raise
        return _every_image(name, source.required_root(name), model, source, size)
    if split == TEST:
        hint = ("--split all evaluates all images, if the training did not see them",)
        is_made = any("the data has no test set" in note for note in loaded.notes)
        return loaded.test, loaded.classes, loaded.notes + hint * is_made
    if split == TRAIN:
        trained = loaded.train
        if name == own:
            trained = final_splits(loaded, model.config.data.shared).train
        return trained, loaded.classes, loaded.notes
    return _joined([loaded.train, loaded.test]), loaded.classes, loaded.notes


def dataset_name(model: TrainedModel, root: Path) -> str:
    """The model's data set, or for files of the user's the layout that they have.

    For a data set that reads no files, such as `digits`, the files are other images than its own.
    """
    own = model.config.data.name
    if reads_files(own) and (own not in USER_DATA or str(root) == model.data):
        return own
    if root.is_file() or (
        any(path.suffix.lower() == ".npz" for path in files_in(root)) and not _has_folders(root)
    ):
        return "npz"
    return "parquet" if is_saved_dataset(root) or find_shards(root)[0] else "folder"


def _has_folders(root: Path) -> bool:
    return any(path.is_dir() for path in root.iterdir())


def _every_image(
    name: str, root: Path, model: TrainedModel, source: DataSource, size: int
) -> tuple[Images, Sequence[str], tuple[str, ...]]:
    """All images of the user's files, and their classes; also those of a test set alone."""
    try:
        return _images_of(name, root, model, source, size, (TRAIN, TEST))
    except NoTrainingSetError:
        with test_set_alone():
            return _images_of(name, root, model, source, size, (TEST,))


def _images_of(
    name: str,
    root: Path,
    model: TrainedModel,
    source: DataSource,
    size: int,
    splits: Sequence[str],
) -> tuple[Images, Sequence[str], tuple[str, ...]]:
    """All images of the user's files, which have these splits, and their classes."""
    crop = size or int(model.config.data.knobs.get("size", 0) or 0)
    if name == "npz":
        images, classes, notes = read_npz(find_npz(root), crop)
        named = [part.named(part_of) for part, part_of in zip(images, splits, strict=False)]
        return _joined(named), classes, notes
    source_data = find_hugging_face(root) if name == "parquet" else find_image_files(root)
    parts, classes, notes = source_data.matched()
    shape = TargetShape(model.preprocess.channels, crop=crop)
    if not crop and model.image_shape:
        remedy = "give others, or --resize"
        shape = TargetShape(model.preprocess.channels, model.image_shape[1:], remedy=remedy)
    images, more = decode_images(parts, shape, source)
    return _joined(images), classes, notes + more


def _joined(parts: Sequence[Images]) -> Images:
    """Several sets of images as one."""
    if len(parts) == 1:
        return parts[0]
    pixels = np.concatenate([part.array() for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    names = [name for part in parts for name in part.names_in("image")]
    return Images(pixels, labels, pa.array(names, pa.large_string()))
