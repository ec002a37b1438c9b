"""Images from one NumPy .npz file.

Arrays of images and labels by one of the usual pairs of names (`PAIRS`), a test set by another.
Images are (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels; uint8, or floats in [0, 1].
Labels are whole numbers, or words, which become classes in alphabetical order.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imbtune.data.decoding import crop_to
from imbtune.data.images import BLOCK, Bytes, Images
from imbtune.data.source import describe_size, memory_limit
from imbtune.errors import DataError

PAIRS = (("x_train", "y_train"), ("train_images", "train_labels"), ("images", "labels"))
TEST_PAIRS = (("x_test", "y_test"), ("test_images", "test_labels"))

Array = NDArray[Any]


def read_npz(path: Path, size: int) -> tuple[list[Images], tuple[str, ...]]:
    """The training images, the test images where there are any, and the class names.

    Args:
        size: pixels of the square that images are cropped to; 0: they stay.

    Raises:
        DataError: no .npz file, arrays that are missing, or not what they should be.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            room = sum(part.file_size for part in archive.infolist())
        if room > 2 * (limit := memory_limit()):
            raise DataError(
                f"{path} holds {describe_size(room)}, more than the {describe_size(2 * limit)} of "
                f"memory: save it as Parquet or image files, which can stay encoded"
            )
        with np.load(path, allow_pickle=False) as arrays:
            held = {
                name: arrays[name]
                for pair in (*PAIRS, *TEST_PAIRS)
                for name in pair
                if name in arrays
            }
            names = list(arrays)
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DataError(
            f"{path} is no whole .npz file ({error}): write it again with numpy.savez, words as "
            f"dtype=str"
        ) from error
    for one, other in (*PAIRS, *TEST_PAIRS):
        if (one in held) != (other in held):
            there, lacks = (one, other) if one in held else (other, one)
            raise DataError(f"{path} has '{there}' without '{lacks}': save both, or neither")
    pairs = [_find(held, PAIRS), _find(held, TEST_PAIRS)]
    if not pairs[0]:
        listed = ", or ".join(" and ".join(pair) for pair in PAIRS)
        raise DataError(f"{path} holds the arrays {names}: it needs {listed}")
    classes = _classes(path, held[pairs[0][1]])
    return [_images(path, pair, held, classes, size) for pair in pairs if pair], classes


def _find(held: dict[str, Array], pairs: tuple[tuple[str, str], ...]) -> tuple[str, str] | None:
    return next((pair for pair in pairs if pair[0] in held and pair[1] in held), None)


def _images(
    path: Path, pair: tuple[str, str], held: dict[str, Array], classes: tuple[str, ...], size: int
) -> Images:
    images, labels = held[pair[0]], _flat(held[pair[1]])
    if len(images) != len(labels) or not len(labels):
        raise DataError(
            f"{path} has {len(images)} images in '{pair[0]}' and {len(labels)} labels in "
            f"'{pair[1]}': save one label an image"
        )
    pixels = _pixels(path, pair[0], images)
    if size:
        pixels = np.stack([_crop(image, size) for image in pixels])
    if labels.dtype.kind in "iu":
        numbers = labels.astype(np.int64)
    else:
        places = {name: k for k, name in enumerate(classes)}
        numbers = np.array([places.get(_word(label), -1) for label in labels], dtype=np.int64)
    if numbers.min() < 0 or numbers.max() >= len(classes):
        wrong = labels[(numbers < 0) | (numbers >= len(classes))][0]
        raise DataError(
            f"'{pair[1]}' of {path} has the label {_word(wrong)}, which is none of the training "
            f"labels: check the labels"
        )
    return Images(pixels, numbers)


def _classes(path: Path, labels: Array) -> tuple[str, ...]:
    labels = _flat(labels)
    if labels.dtype.kind in "US":
        return tuple(sorted({_word(label) for label in labels}))
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or not len(labels) or labels.min() < 0:
        raise DataError(
            f"the labels of {path} are {labels.dtype} of shape {labels.shape}: save whole numbers "
            f"from 0 on, or words, one an image"
        )
    return tuple(str(k) for k in range(int(labels.max()) + 1))


def _flat(labels: Array) -> Array:
    """(N, 1), as some write it, as (N,)."""
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _word(label: Any) -> str:
    return label.decode(errors="replace") if isinstance(label, bytes) else str(label)


def _pixels(path: Path, name: str, images: Array) -> Bytes:
    """As (N, C, H, W) uint8."""
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
        raise DataError(f"'{name}' of {path} holds {images.dtype}: save uint8, 0 to 255")
    low, high = images.min(), images.max()
    scale = 255 if images.dtype.kind in "fb" else 1
    if not (low >= 0 and high * scale <= 255):  # so written, NaN fails too
        raise DataError(
            f"'{name}' of {path} runs from {low:g} to {high:g} as {images.dtype}: save uint8, "
            f"0 to 255, or floats in [0, 1]"
        )
    pixels = np.empty(images.shape, dtype=np.uint8)
    for at in range(0, len(images), BLOCK):
        pixels[at : at + BLOCK] = np.rint(images[at : at + BLOCK] * np.float64(scale))
    return pixels


def _crop(image_CHW: Bytes, size: int) -> Bytes:
    grey = len(image_CHW) == 1
    image = Image.fromarray(
        image_CHW[0] if grey else np.ascontiguousarray(image_CHW.transpose(1, 2, 0))
    )
    pixels = np.asarray(crop_to(image, size, size))
    return pixels[None] if grey else pixels.transpose(2, 0, 1)
