"""What the number of images means for a search: the score of chance, and how exact a score is.

Shapes: K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbtune.training.phases import steps_per_epoch

Ints = NDArray[np.int64]
LISTED = 10  # classes whose counts are listed one by one
# A data set is small where one of these is passed
MAX_STEP, MAX_ERROR, MIN_STEPS = 0.02, 0.05, 4


@dataclass(frozen=True)
class ScoreScale:
    """How a score on the validation images is to be read.

    Attributes:
        chance: the best score of a model that predicts the same class for every image.
        step: by how much one validation image of class `coarsest` moves the score.
        error: standard error of one score, if half of each class is predicted correctly (which is
            where it is largest); training again with another seed adds to it.
        coarsest: index of the class with the fewest validation images.
    """

    chance: float
    step: float
    error: float
    coarsest: int


def score_scale(objective: str, validation_K: Sequence[int] | Ints) -> ScoreScale:
    """The scale of an objective's scores.

    A class has recall h/n with h hits among its n validation images. One image moves it by 1/n, and
    its variance is at most 1/(4n), that of a binomial share of one half. `balanced_accuracy` is
    the mean recall, `worst_class` the smallest and `accuracy` the mean weighted by n. For
    `macro_f1`, step and error are those of `balanced_accuracy`, which it equals where each class
    is predicted as often as it occurs.

    Args:
        objective: one of `imbtune.training.evaluation.metrics.OBJECTIVES`.
        validation_K: validation images of each class; classes without any do not count.
    """
    counts_K = np.asarray(validation_K, dtype=np.int64)
    n_K = counts_K[counts_K > 0]
    classes, total, least = len(n_K), int(n_K.sum()), int(n_K.min())
    coarsest = int(np.flatnonzero(counts_K == least)[0])
    balanced_error = float(np.sqrt((0.25 / n_K).sum())) / classes
    chance, step, error = {
        "balanced_accuracy": (1 / classes, 1 / (classes * least), balanced_error),
        "macro_f1": (
            float((2 * n_K / (n_K + total)).max()) / len(counts_K),
            1 / (classes * least),
            balanced_error,
        ),
        "accuracy": (int(n_K.max()) / total, 1 / total, 0.5 / total**0.5),
        "worst_class": (float(classes == 1), 1 / least, 0.5 / least**0.5),
    }[objective]
    return ScoreScale(chance, step, error, coarsest)


def data_size_lines(
    objective: str,
    classes: Sequence[str],
    train_K: Sequence[int] | Ints,
    validation_K: Sequence[int] | Ints,
    batch_size: int,
) -> list[str]:
    """What a user should know of a data set's size: one line, and a warning where it is small.

    Args:
        objective: as in `score_scale`.
        classes: names, in the order of the labels.
        train_K: training images of each class.
        validation_K: validation images of each class.
        batch_size: of a training step.
    """
    scale = score_scale(objective, validation_K)
    lines = [
        f"Images per class: {_counts(train_K)} for training, {_counts(validation_K)} for "
        f"validation; a model that predicts one class only scores {scale.chance:.3g}"
    ]
    warnings = []
    if scale.step > MAX_STEP or scale.error > MAX_ERROR:
        warnings.append(
            f"one validation image of class '{classes[scale.coarsest]}' moves the score by "
            f"{scale.step:.2g}, and one score has a standard error of up to {scale.error:.2g}: "
            "trials that differ by less cannot be told apart"
        )
    steps, batch = steps_per_epoch(int(np.sum(train_K)), batch_size)
    if steps < MIN_STEPS:
        warnings.append(
            f"an epoch has {steps} step{'s' * (steps > 1)} of {batch} images: give more epochs or "
            "a smaller batch_size"
        )
    return lines + ([f"Small data set: {'; '.join(warnings)}"] if warnings else [])


def _counts(counts_K: Sequence[int] | Ints) -> str:
    """The counts one by one where there are few classes, else their range."""
    values = [int(count) for count in counts_K]
    low, high = min(values), max(values)
    if low == high:
        return str(low)
    return " ".join(map(str, values)) if len(values) <= LISTED else f"{low} to {high}"
