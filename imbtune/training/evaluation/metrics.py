"""Metrics from a confusion matrix, and the evaluation that fills it.

confusion_KK[i, j] is the number of images of class i that the model predicts as class j.

Shapes: K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imbtune.errors import DivergenceError
from imbtune.training.device.device_data import BLOCK, DeviceData
from imbtune.training.model import evaluating

Ints = NDArray[np.int64]
# many-shot: more than 100 training images, few-shot: fewer than 20 (Liu et al. 2019, 1904.05160)
MANY, FEW = 100, 20

METRICS = {
    "balanced_accuracy": "mean recall of the classes",
    "accuracy": "share of the images that are classified correctly (top-1)",
    "macro_f1": "mean F1 score of the classes",
    "worst_class": "smallest recall of a class",
    "many": f"mean recall of the classes with more than {MANY} training images",
    "medium": f"mean recall of the classes with {FEW} to {MANY} training images",
    "few": f"mean recall of the classes with fewer than {FEW} training images",
}
GROUPS = ("many", "medium", "few")  # undefined where no class is of that size
OBJECTIVES = tuple(name for name in METRICS if name not in GROUPS)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A model's predictions of the held-out images, counted on the device.

    Asynchronous on a GPU: the first read of `failure` or `confusion_KK` synchronises, and copies
    everything at once.

    Args:
        counts: int64 (K² + 1,) on the device: the confusion matrix row by row, then the number of
            images with a logit that is not finite.
        classes: K.
    """

    counts: Tensor
    classes: int

    @property
    def failure(self) -> str | None:
        """What is wrong if a logit is not finite, in words; else None."""
        *counts, broken = self._on_host.tolist()
        if not broken:
            return None
        return f"the logits of {broken} of {sum(counts)} images are not finite"

    @property
    def confusion_KK(self) -> Ints:
        """The confusion matrix.

        Raises:
            DivergenceError: a logit is not finite, so that the matrix means nothing.
        """
        if self.failure:
            raise DivergenceError(self.failure)
        return self._on_host[:-1].reshape(self.classes, self.classes)

    @cached_property
    def _on_host(self) -> Ints:
        counts: Ints = self.counts.cpu().numpy()
        return counts


def evaluate(model: nn.Module, data: DeviceData, autocast: torch.autocast) -> Evaluation:
    """Evaluate the model on the held-out images; asynchronous on a GPU."""
    classes = len(data.classes)
    flat_KK = torch.zeros(classes * classes, dtype=torch.int64, device=data.device)
    broken = torch.zeros(1, dtype=torch.int64, device=data.device)
    with evaluating(model), torch.inference_mode(), autocast:
        for pixels, labels in zip(
            data.held_out.in_order(BLOCK), data.held_out_labels_M.split(BLOCK), strict=True
        ):
            logits_BK = model(data.normalise(pixels))
            broken += (~logits_BK.isfinite()).any(1).sum()
            flat_KK += torch.bincount(
                labels * classes + logits_BK.argmax(1), minlength=classes * classes
            )
    return Evaluation(torch.cat([flat_KK, broken]), classes)


def recalls(confusion_KK: Ints) -> NDArray[np.float64]:
    """Recall of each class, (K,), in [0, 1]; NaN for a class without held-out images."""
    totals_K = confusion_KK.sum(1)
    with np.errstate(invalid="ignore"):
        recall_K: NDArray[np.float64] = np.diag(confusion_KK) / totals_K
    return recall_K


def compute_metrics(confusion_KK: Ints, counts_K: Ints) -> dict[str, float | None]:
    """All metrics of an evaluation, each in [0, 1].

    Args:
        confusion_KK: the confusion matrix. Classes without held-out images have no recall and no
            F1, so no mean includes them; images that are predicted as such a class are errors.
        counts_K: training images of each class.

    Returns:
        By name: `balanced_accuracy`, the mean recall of the classes; `accuracy`, top-1;
        `macro_f1`, the mean F1 of the classes; `worst_class`, the smallest recall; `many`,
        `medium` and `few`, the mean recall of classes with more than 100, with 20 to 100 and with
        fewer than 20 training images (Liu et al. 2019, arXiv 1904.05160), None where there is no
        such class with held-out images.
    """
    recall_K = recalls(confusion_KK)
    defined_K = confusion_KK.sum(1) > 0
    hits_K = np.diag(confusion_KK)
    labelled_and_predicted_K = confusion_KK.sum(1) + confusion_KK.sum(0)
    f1_K = 2 * hits_K / np.maximum(labelled_and_predicted_K, 1)
    groups = {
        "many": counts_K > MANY,
        "medium": (counts_K >= FEW) & (counts_K <= MANY),
        "few": counts_K < FEW,
    }
    return {
        "balanced_accuracy": float(recall_K[defined_K].mean()),
        "accuracy": float(hits_K.sum() / confusion_KK.sum()),
        "macro_f1": float(f1_K[defined_K].mean()),
        "worst_class": float(recall_K[defined_K].min()),
    } | {
        name: float(recall_K[members & defined_K].mean()) if (members & defined_K).any() else None
        for name, members in groups.items()
    }
