"""Margins: how far a model is from misclassifying an example.

    logit margin        s·(z_y - max_{k≠y} z_k)
    probability margin  p_y - max_{k≠y} p_k,  with p = softmax(s·z)

z are the model's logits, s is the loss's scale (30 on LDAM's cosine head, else 1). Both margins are
negative where the example is misclassified (Koltchinskii & Panchenko 2002; Cao et al. 2019,
arXiv 1906.07413, section 3).

Shapes: N examples, K classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbtune.errors import DivergenceError
from imbtune.training.device.device_data import BLOCK, DeviceData
from imbtune.training.device.image_store import Resident, Streamed
from imbtune.training.model import evaluating
from imbtune.training.state import TrainState

Floats = NDArray[np.float64]


class Margins(NamedTuple):
    """Classes and margins of every example, on the host; all (N,).

    Attributes:
        labels: the true class.
        predicted: the class with the largest logit.
        logit: the logit margin.
        probability: the probability margin, in [-1, 1].
    """

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    logit: Floats
    probability: Floats

    def class_means(self, classes: int) -> tuple[Floats, Floats]:
        """Mean logit and probability margins of each class, (K,); NaN for one without examples."""
        totals_K = np.bincount(self.labels, minlength=classes)
        with np.errstate(invalid="ignore"):
            logit_K, probability_K = (
                np.bincount(self.labels, weights=margin, minlength=classes) / totals_K
                for margin in (self.logit, self.probability)
            )
        return logit_K, probability_K


class ClassMargins(NamedTuple):
    """Mean margins of each class, (K,), of held-out and of training examples (not augmented)."""

    train_logit_K: Floats
    train_probability_K: Floats
    held_out_logit_K: Floats
    held_out_probability_K: Floats


def margins_of(
    logits_NK: Tensor, labels_N: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Logit and probability margin of each row, both (N,).

    Args:
        logits_NK: the model's logits times the loss's scale s.
        labels_N: the true classes.
        temperature: by which logits are divided for the probabilities.
    """
    both = []
    for scores_NK in (logits_NK, (logits_NK / temperature).softmax(1)):
        true_N = scores_NK.gather(1, labels_N[:, None]).squeeze(1)
        others_NK = scores_NK.scatter(1, labels_N[:, None], -torch.inf)
        both.append(true_N - others_NK.amax(1))
    return both[0], both[1]


def image_logits(state: TrainState, data: DeviceData, images: Resident | Streamed) -> Tensor:
    """The logits of all images times the loss's scale, (N, K), on the device.

    Args:
        state: the model.
        data: normalises the pixels.
        images: uint8 images, augmented nowhere.
    """
    with evaluating(state.model), torch.no_grad():
        logits_NK = torch.cat(
            [state.logits(data.normalise(pixels)) for pixels in images.in_order(BLOCK)]
        )
    return logits_NK * state.methods.vectors.scale


def example_margins(
    state: TrainState,
    data: DeviceData,
    images: Resident | Streamed,
    labels_N: Tensor,
    temperature: float = 1.0,
) -> Margins:
    """The margins of all images, in order; synchronises.

    Args:
        state: the model.
        data: normalises the pixels.
        images: uint8 images, augmented nowhere.
        labels_N: their classes, on the device.
        temperature: by which logits are divided for the probabilities.

    Raises:
        DivergenceError: a logit or a margin is not finite.
    """
    logits_NK = image_logits(state, data, images)
    logit_N, probability_N = margins_of(logits_NK, labels_N, temperature)
    # a finite margin of an image with a logit that is not finite: -inf is never the largest
    broken = int((~(logit_N.isfinite() & logits_NK.isfinite().all(1))).sum())
    if broken:
        raise DivergenceError(f"the logits of {broken} of {len(labels_N)} images are not finite")
    return Margins(
        labels_N.cpu().numpy(),
        logits_NK.argmax(1).cpu().numpy(),
        logit_N.double().cpu().numpy(),
        probability_N.double().cpu().numpy(),
    )


def class_margins(state: TrainState, data: DeviceData) -> ClassMargins:
    """Mean margins of each class on the training and the held-out images; synchronises."""
    classes = len(data.classes)
    train = example_margins(state, data, data.train, data.labels_N)
    held_out = example_margins(state, data, data.held_out, data.held_out_labels_M)
    return ClassMargins(*train.class_means(classes), *held_out.class_means(classes))
