"""What the report of a rung has of each class, as plain lists.

Shapes: K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbtune.training.evaluation.margins import ClassMargins


def occurring(confusion_KK: NDArray[np.int64]) -> list[int]:
    """Label, prediction and count of each pair of classes that occurs, one after the other."""
    labels, predicted = np.nonzero(confusion_KK)
    found: list[int] = (
        np.stack([labels, predicted, confusion_KK[labels, predicted]], 1).ravel().tolist()
    )
    return found


def margin_columns(margins: ClassMargins | None) -> dict[str, list[float]]:
    """Mean margins of each class by column of the trials' table; none below the full budget."""
    if margins is None:
        return {}
    return {
        "margin_train": margins.train_logit_K.tolist(),
        "margin_val": margins.held_out_logit_K.tolist(),
        "probability_margin_train": margins.train_probability_K.tolist(),
        "probability_margin_val": margins.held_out_probability_K.tolist(),
    }
