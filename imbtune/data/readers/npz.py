"""Images in one NumPy .npz file.

The arrays of images and labels have one of the usual pairs of names (`PAIRS`, and `TEST_PAIRS` for
a test set). Images are (N, H, W), (N, H, W, C) or (N, C, H, W), with 1 or 3 channels, and uint8 or
floats in [0, 1]. Labels are whole numbers, or strings, which become classes in alphabetical order.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from imbtune.data.data_source import describe_size, memory_limit
from imbtune.data.decoding import crop_to
from imbtune.data.images import BLOCK, Array, Bytes, Images
from imbtune.errors import DataError

PAIRS = (("x_train", "y_train"), ("train_images", "train_labels"), ("images", "labels"))
TEST_PAIRS = (("x_test", "y_test"), ("test_images", "test_labels"))


def read_npz(path: Path, size: int) -> tuple[list[Images], tuple[str, ...]]:
    """Read the file.

    Args:
        path: the file.
        size: scale and centre-crop the images to a square of this many pixels; 0 for no crop.

    Returns:
        The training images and, if there are any, the test images; and the class names.

    Raises:
        DataError: the file is not a .npz file, arrays are missing or have wrong shapes or values,
            or the file exceeds the memory limit.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size_in_memory = sum(array.file_size for array in archive.infolist())
        if size_in_memory > 2 * (limit := memory_limit()):
            raise DataError(
                f"{path} would take {describe_size(size_in_memory)}, more than the memory limit of "
                f"{describe_size(2 * limit)}: use Parquet or image files, which can stay encoded"
            )
        with np.load(path, allow_pickle=False) as arrays:
            found = {
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
            f"{path} is not a complete .npz file ({error}): write it again with numpy.savez, and "
            f"string labels as dtype=str"
        ) from error
    for one, other in (*PAIRS, *TEST_PAIRS):
        if (one in found) != (other in found):
            present, missing = (one, other) if one in found else (other, one)
            raise DataError(f"{path} has '{present}' without '{missing}': save both, or neither")
    pairs = [_find_pair(found, PAIRS), _find_pair(found, TEST_PAIRS)]
    if not pairs[0]:
        listed = ", or ".join(" and ".join(pair) for pair in PAIRS)
        raise DataError(f"{path} has the arrays {names}: it needs {listed}")
    classes = _classes(path, found[pairs[0][1]])
    return [_images(path, pair, found, classes, size) for pair in pairs if pair], classes


def _find_pair(
    arrays: dict[str, Array], pairs: tuple[tuple[str, str], ...]
) -> tuple[str, str] | None:
    """The first pair of names that are both in `arrays`."""
    return next((pair for pair in pairs if pair[0] in arrays and pair[1] in arrays), None)


def _images(
    path: Path, pair: tuple[str, str], arrays: dict[str, Array], classes: tuple[str, ...], size: int
) -> Images:
    """The images and labels of one pair of arrays, checked and converted."""
    images, labels = arrays[pair[0]], _flat(arrays[pair[1]])
    if len(images) != len(labels) or not len(labels):
        raise DataError(
            f"{path} has {len(images)} images in '{pair[0]}' and {len(labels)} labels in "
            f"'{pair[1]}': save one label per image"
        )
    pixels = _pixels(path, pair[0], images)
    if size:
        pixels = np.stack([_crop(image, size) for image in pixels])
    if labels.dtype.kind in "iu":
        numbers = labels.astype(np.int64)
    else:
        index = {name: k for k, name in enumerate(classes)}
        numbers = np.array([index.get(_text(label), -1) for label in labels], dtype=np.int64)
    if numbers.min() < 0 or numbers.max() >= len(classes):
        wrong = labels[(numbers < 0) | (numbers >= len(classes))][0]
        raise DataError(
            f"'{pair[1]}' of {path} has the label {_text(wrong)}, which is not a training label: "
            f"check the labels"
        )
    return Images(pixels, numbers)


def _classes(path: Path, labels: Array) -> tuple[str, ...]:
    """The class names: the sorted strings, or the numbers from 0 to the largest label."""
    labels = _flat(labels)
    if labels.dtype.kind in "US":
        return tuple(sorted({_text(label) for label in labels}))
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or not len(labels) or labels.min() < 0:
        raise DataError(
            f"the labels of {path} are {labels.dtype} of shape {labels.shape}: save whole "
            f"numbers from 0 on, or strings, one per image"
        )
    return tuple(str(k) for k in range(int(labels.max()) + 1))


def _flat(labels: Array) -> Array:
    """Labels of shape (N, 1) as (N,)."""
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _text(label: object) -> str:
    """A label as a string."""
    return label.decode(errors="replace") if isinstance(label, bytes) else str(label)


def _pixels(path: Path, name: str, images: Array) -> Bytes:
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
