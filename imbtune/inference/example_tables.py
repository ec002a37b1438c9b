"""The tables of a trained model: its predictions, the margins, and a row for each class.

Shapes: N images, K classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imbtune.metrics.class_scores import class_scores
from imbtune.metrics.predictions import Predictions

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]


def margin_table(
    split: str,
    names: Sequence[str],
    labels: Ints,
    predicted: Ints,
    logit: Floats,
    probability: Floats,
    hashes: Sequence[str],
) -> pa.Table:
    """The margins of every example of a split, a row per example: for `margins.parquet`.

    Columns: `split`, `example` (its index in the split, from 0), `image` (its file below the data
    folder, or else its place in the data set, such as `train 17`), `label` and `predicted` (class
    indices), `logit_margin`, `probability_margin` (of softmax probabilities, in [-1, 1]),
    `pixel_hash` (by which the image is known elsewhere). No column has nulls.

    Args:
        split: `train`, `test` or `calibration`.
        names: of the images (N,).
        labels: class indices (N,).
        predicted: predicted class indices (N,).
        logit: margins in logits (N,), as in :mod:`imbtune.training.evaluation.margins`.
        probability: margins of the softmax probabilities (N,).
        hashes: of the pixels (N,), as :func:`pixel_hashes` gives them.
    """
    return pa.table(
        {
            "split": pa.array([split] * len(labels)).dictionary_encode(),
            "example": pa.array(range(len(labels)), pa.int32()),
            "image": pa.array(names, pa.string()),
            "label": pa.array(labels, pa.int32()),
            "predicted": pa.array(predicted, pa.int32()),
            "logit_margin": pa.array(logit, pa.float64()),
            "probability_margin": pa.array(probability, pa.float64()),
            "pixel_hash": pa.array(hashes, pa.string()),
        }
    )


def pixel_hashes(pixels_NCHW: Bytes) -> list[str]:
    """16 hexadecimal digits for each image, which are equal where all pixels are.

    Of a million other images, one has those of some image among a million with a probability of
    5 in 100 million.
    """
    return [hashlib.blake2b(pixels.tobytes(), digest_size=8).hexdigest() for pixels in pixels_NCHW]


def count_known(hashes: Sequence[str], known: Iterable[str]) -> int:
    """How many of some images have the pixels of a known one.

    Args:
        hashes: of the images.
        known: hashes of the known ones.
    """
    found = set(known)
    return sum(one in found for one in hashes)


def prediction_table(
    predictions: Predictions, names: Sequence[str], logit: Floats, probability: Floats
) -> pa.Table:
    """What the model says of every test image, a row per image: for `predictions.parquet`.

    Columns: `image` (its file below the data folder, or else its place in the data set), `label`
    and `predicted` (names of classes), `probability` (of the predicted class), `probabilities` (of
    each class, in the order of `labels.json`), `logit_margin` and `probability_margin` as in
    `margins.parquet`. No column has nulls.

    Args:
        predictions: of the images, with the temperature.
        names: of the images (N,).
        logit: margins in logits (N,).
        probability: margins of the probabilities (N,).
    """
    rows, classes = predictions.logits_NK.shape
    p_NK = np.empty((rows, classes))
    for block in predictions.row_blocks():
        p_NK[block] = predictions.log_probabilities(block).exp().cpu().numpy()
    predicted_N = predictions.logits_NK.argmax(1).cpu().numpy()  # of equal ones the first
    flat = pa.array(p_NK.reshape(-1), pa.float64())
    each = pa.FixedSizeListArray.from_arrays(flat, classes)
    return pa.table(
        {
            "image": pa.array(names, pa.string()),
            "label": _named(predictions.labels_N.cpu().numpy(), predictions.names),
            "predicted": _named(predicted_N, predictions.names),
            "probability": pa.array(p_NK[np.arange(rows), predicted_N], pa.float64()),
            "probabilities": each.cast(pa.list_(pa.float64())),
            "logit_margin": pa.array(logit, pa.float64()),
            "probability_margin": pa.array(probability, pa.float64()),
        }
    )


def class_table(predictions: Predictions, margins: Mapping[str, Sequence[float]]) -> pa.Table:
    """A row for each class: for `classes.parquet`.

    Columns: `class` (its index), `name`, `train` and `test` (images), `predicted` (test images that
    are predicted as the class), `recall`, `precision`, `f1`, `auroc` and `average_precision` (the
    class against all others), and the mean margins of its images (`margin_test`, …). A value that
    is undefined is NaN: recall and F1 without test images, a precision without predictions.

    Args:
        predictions: of the test images.
        margins: mean margin of each class (K,) by column.
    """
    matrix_KK = predictions.confusion.matrix_KK
    recall_K, precision_K, f1_K = class_scores(matrix_KK)
    areas_K, average_K = predictions.by_class
    columns = {
        "class": pa.array(range(len(matrix_KK)), pa.int32()),
        "name": pa.array(list(predictions.names), pa.string()),
        "train": pa.array(predictions.train_K, pa.int64()),
        "test": pa.array(matrix_KK.sum(1), pa.int64()),
        "predicted": pa.array(matrix_KK.sum(0), pa.int64()),
        "recall": pa.array(recall_K, pa.float64()),
        "precision": pa.array(precision_K, pa.float64()),
        "f1": pa.array(f1_K, pa.float64()),
        "auroc": pa.array(areas_K, pa.float64()),
        "average_precision": pa.array(average_K, pa.float64()),
    }
    return pa.table(
        columns | {name: pa.array(values, pa.float64()) for name, values in margins.items()}
    )


def _named(index_N: Ints, names: Sequence[str]) -> pa.DictionaryArray:
    index = pa.array(index_N, pa.int32())
    return pa.DictionaryArray.from_arrays(index, pa.array(list(names), pa.string()))
