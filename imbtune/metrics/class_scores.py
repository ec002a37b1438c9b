"""Recall, precision and F1 of each class. Shapes: K classes."""

from __future__ import annotations

import numpy as np

from imbtune.metrics.from_confusion import recalls
from imbtune.metrics.predictions import Floats, Ints


def class_scores(confusion_KK: Ints) -> tuple[Floats, Floats, Floats]:
    """Recall, precision and F1 of each class, each (K,).

    NaN for recall and F1 of a class without images, and for the precision of one that is never
    predicted.
    """
    hits_K, images_K, predicted_K = (
        np.diag(confusion_KK),
        confusion_KK.sum(1),
        confusion_KK.sum(0),
    )
    with np.errstate(invalid="ignore"):
        precision_K: Floats = hits_K / predicted_K
        f1_K = np.where(images_K > 0, 2 * hits_K / np.maximum(images_K + predicted_K, 1), np.nan)
    return recalls(confusion_KK), precision_K, f1_K
