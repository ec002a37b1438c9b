"""The evaluation of a model: the confusion matrix, and where it is asked for the logits.

confusion_KK[i, j] is the number of images of class i that the model predicts as class j.

Shapes: M held-out images, K classes.
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


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A model's predictions of the held-out images, counted on the device.

    Asynchronous on a GPU: the first read of `failure` or `confusion_KK` synchronises, and copies
    everything at once.

    Args:
        counts: int64 (K² + 1,) on the device: the confusion matrix row by row, then the number of
            images with a logit that is not finite.
        classes: K.
        logits_MK: the network's logits in float32 on the device; None unless they are kept.
    """

    counts: Tensor
    classes: int
    logits_MK: Tensor | None = None

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


def evaluate(
    model: nn.Module, data: DeviceData, autocast: torch.autocast, keep_logits: bool = False
) -> Evaluation:
    """Evaluate the model on the held-out images; asynchronous on a GPU.

    Args:
        keep_logits: whether the logits are kept on the device, beside the confusion matrix.
    """
    classes = len(data.classes)
    flat_KK = torch.zeros(classes * classes, dtype=torch.int64, device=data.device)
    broken = torch.zeros(1, dtype=torch.int64, device=data.device)
    kept = list[Tensor]()
    with evaluating(model), torch.inference_mode(), autocast:
        for pixels, labels in zip(
            data.held_out.in_order(BLOCK), data.held_out_labels_M.split(BLOCK), strict=True
        ):
            logits_BK = model(data.normalise(pixels))
            if keep_logits:
                kept.append(logits_BK.float())
            broken += (~logits_BK.isfinite()).any(1).sum()
            flat_KK += torch.bincount(
                labels * classes + logits_BK.argmax(1), minlength=classes * classes
            )
        logits_MK = torch.cat(kept) if keep_logits else None
    return Evaluation(torch.cat([flat_KK, broken]), classes, logits_MK)
