"""Images in one NumPy .npz file.

The names of the arrays tell what they are, in any case: `x`, `images`, `data` or `pixels` are
images, and `y`, `labels` or `targets` their labels, with the name of a split (`x_train`,
`test_images`) or without one (`images` and `labels` are the training set). Images are (N, H, W),
(N, H, W, C) or (N, C, H, W), with 1 or 3 channels, and uint8 or floats in [0, 1]. Labels are whole
numbers, or strings, which become classes in alphabetical order.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from imbtune.data.data_source import describe_size, memory_limit
from imbtune.data.decoding import crop_to
from imbtune.data.images import BLOCK, Array, Bytes, Images
from imbtune.data.readers.labels import Labels, labels_from_array, match_labels
from imbtune.data.readers.source_data import check_regular
from imbtune.data.readers.split_names import choose_splits, quoted, split_of, splits_within
from imbtune.errors import DataError

IMAGES = ("x", "images", "image", "imgs", "data", "pixels")
LABELS = ("y", "labels", "label", "targets", "target")


@dataclass(frozen=True)
class _Split:
    """The names of the arrays of one split; None where there is none."""

    images: str | None = None
    labels: str | None = None


def read_npz(path: Path, size: int) -> tuple[list[Images], tuple[str, ...], tuple[str, ...]]:
    """Read the file.

    Args:
        path: the file.
        size: scale and centre-crop the images to a square of this many pixels; 0 for no crop.

    Returns:
        The training images and, if there are any, the test images; the class names; and notes for
        the user.

    Raises:
        DataError: the file is not a .npz file, arrays are missing or have wrong shapes or values,
            or the file exceeds the memory limit.
    """
    check_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            size_in_memory = sum(array.file_size for array in archive.infolist())
        if size_in_memory > 2 * (limit := memory_limit()):
            raise DataError(
                f"{path} would take {describe_size(size_in_memory)}, more than the memory limit of "
                f"{describe_size(2 * limit)}: use Parquet or image files, which can stay encoded"
            )
        with np.load(path, allow_pickle=False) as arrays:
            train, test, notes = _choose(path, list(arrays))
            chosen = [train] + ([test] if test else [])
            _check_others(path, arrays, {name for s in chosen for name in (s.images, s.labels)})
            found = [(_array(arrays, s.images), _flat(_array(arrays, s.labels))) for s in chosen]
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        MemoryError,  # the file claims to have an array of that size
        NotImplementedError,
        RuntimeError,  # an encrypted member
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DataError(
            f"{path} is not a complete .npz file ({error}): write it again with numpy.savez, and "
            f"string labels as dtype=str"
        ) from error
    labels = [_labels(path, s, y, len(x)) for s, (x, y) in zip(chosen, found, strict=True)]
    classes, *numbers, more = match_labels(labels[:1], labels[1:])
    images = [
        Images(_pixels(path, str(s.images), x, size), index)
        for s, (x, _), index in zip(chosen, found, numbers, strict=False)
    ]
    _check_shapes(path, chosen, images)
    return images, classes, notes + more


def _array(arrays: Mapping[str, Array], name: str | None) -> Array:
    """An array of the file; ValueError for a member that is none, which NumPy gives as bytes."""
    array = arrays[str(name)]
    if not isinstance(array, np.ndarray):
        raise ValueError(f"'{name}' is no array")
    return array


def _choose(path: Path, names: list[str]) -> tuple[_Split, _Split | None, tuple[str, ...]]:
    """The arrays of the training and the test set, and notes for the user."""
    splits: dict[str, _Split] = {}
    others = []
    for name in names:
        split, is_labels = _meaning(name)
        if split is None:
            others.append(name)
            continue
        so_far = splits.get(split, _Split())
        if other := so_far.labels if is_labels else so_far.images:
            raise DataError(f"{path} has '{other}' and '{name}': keep one of the two arrays")
        splits[split] = _Split(so_far.images, name) if is_labels else _Split(name, so_far.labels)
    if not splits:
        raise DataError(
            f"{path} has the arrays {names}: it needs x_train and y_train, or train_images and "
            f"train_labels, or images and labels"
        )
    for found in splits.values():
        if not (found.images and found.labels):
            present = found.images or found.labels or ""
            raise DataError(
                f"{path} has '{present}' without '{_partner(present)}': save both, or neither"
            )

    def describe(split: str) -> str:
        return f"'{splits[split].images}' of {path}"

    train, test, notes = choose_splits(splits, path, describe)
    if others:
        notes += (f"{path} has arrays that are not used: {quoted(others, 5)}",)
    return train, test, notes


def _check_others(path: Path, arrays: Mapping[str, Array], used: set[str | None]) -> None:
    """DataError if an array of images has a name that is not that of a split."""
    for name in arrays:
        words = re.split(r"[\W_]+", name.casefold())
        known = _meaning(name)[0] or name in used
        is_named = any(word in IMAGES for word in words) or splits_within(name)
        glued = re.search("train|test|val", name.casefold())  # as in `xtest`
        if not known and (is_named or glued) and _array(arrays, name).ndim in (3, 4):
            raise DataError(
                f"{path} has images in '{name}', whose name is not that of a split (train, test, "
                f"val, …): rename the array, as in x_test, or save the file without it"
            )


def _meaning(name: str) -> tuple[str | None, bool]:
    """The split of an array, and whether it has the labels; None for an array that is neither."""
    words = [word for word in re.split(r"[\W_]+", name.casefold()) if word]
    kinds = [word for word in words if word in (*IMAGES, *LABELS)]
    splits = [word for word in words if word not in (*IMAGES, *LABELS)]
    if len(kinds) != 1 or len(splits) > 1:
        return None, False
    split = splits[0] if splits else "train"
    return (split if split_of(split) else None), kinds[0] in LABELS


def _partner(name: str) -> str:
    """The usual name of the labels of an array of images, or the other way round."""
    pairs = {"x": "y", "images": "labels", "image": "label", "data": "target", "imgs": "labels"}
    pairs |= {"pixels": "labels"} | {"y": "x", "labels": "images", "label": "image"}
    pairs |= {"target": "data", "targets": "data"}
    kind = next(word for word in re.split(r"[\W_]+", name.casefold()) if word in pairs)
    return re.sub(f"(?<![a-z]){kind}(?![a-z])", pairs[kind], name, flags=re.IGNORECASE)


def _labels(path: Path, split: _Split, labels: Array, images: int) -> Labels:
    """The labels of one split, checked."""
    place = f"'{split.labels}' of {path}"
    if labels.ndim != 1:
        raise DataError(f"{place} has the shape {labels.shape}: save whole numbers, one per image")
    if images != len(labels) or not len(labels):
        raise DataError(
            f"{path} has {images} images in '{split.images}' and {len(labels)} labels in "
            f"'{split.labels}': save one label per image"
        )
    return labels_from_array(labels, place)


def _flat(labels: Array) -> Array:
    """Labels of shape (N, 1) as (N,)."""
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _check_shapes(path: Path, splits: list[_Split], images: list[Images]) -> None:
    """DataError if test images have another shape than training images."""
    shapes = [part.pixels.shape[1:] for part in images]
    if len(shapes) == 2 and shapes[0] != shapes[1]:
        names = [
            f"'{s.images}' has images of the shape {shape}"
            for s, shape in zip(splits, shapes, strict=True)
        ]
        raise DataError(
            f"in {path}, {' and '.join(names)} (channels, height, width): save images of one shape"
        )


def _pixels(path: Path, name: str, images: Array, size: int) -> Bytes:
    """The images as (N, C, H, W) uint8, cropped to `size` if it is not 0.

    Raises:
        DataError: their shape, type or values are not valid.
    """
    pixels = _as_bytes(path, name, images)
    return np.stack([_crop(image, size) for image in pixels]) if size else pixels


def _as_bytes(path: Path, name: str, images: Array) -> Bytes:
    """The images as (N, C, H, W) uint8; DataError if their shape, type or values are not valid."""
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise DataError(
            f"'{name}' of {path} has the shape {images.shape}: save (N, H, W), (N, H, W, C) or "
            f"(N, C, H, W) with 1 or 3 channels"
        )
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    if images.dtype.kind not in "fiub":
        raise DataError(f"'{name}' of {path} has the type {images.dtype}: save uint8, 0 to 255")
    low, high = images.min(), images.max()
    scale = 255 if images.dtype.kind in "fb" else 1
    if not (low >= 0 and high * scale <= 255):  # in this form NaN fails, too
        raise DataError(
            f"'{name}' of {path} is {images.dtype} from {low:g} to {high:g}: save uint8, "
            f"0 to 255, or floats in [0, 1]"
        )
    pixels = np.empty(images.shape, dtype=np.uint8)
    for at in range(0, len(images), BLOCK):
        pixels[at : at + BLOCK] = np.rint(images[at : at + BLOCK] * np.float64(scale))
    return pixels


def _crop(image_CHW: Bytes, size: int) -> Bytes:
    """The image, scaled and centre-cropped to a square."""
    grey = len(image_CHW) == 1
    image = Image.fromarray(
        image_CHW[0] if grey else np.ascontiguousarray(image_CHW.transpose(1, 2, 0))
    )
    pixels = np.asarray(crop_to(image, size, size))
    return pixels[None] if grey else pixels.transpose(2, 0, 1)
