"""What `--prior` starts from: the class mix that a model's probabilities imply.

A model's softmax is that of some class mix: of the training images for plain cross-entropy, of
equal shares for a loss that balances the classes, of something between for others. Where the images
of each class look the same in both places and only their shares differ (label shift), its
probabilities for a class mix π are, by Bayes' rule,

    p(k | x)  =  softmax(z / T + log π − log π₀)_k

with the temperature T and the implied mix π₀. Both are fitted on the images of the calibration,
whose own mix π is known: bias-corrected temperature scaling (Alexandari, Kundaje & Shrikumar 2020,
arXiv 1901.06852), whose bias of a class is log π − log π₀. Rare classes may have one image there,
so the biases are drawn to what most losses have,

    log π₀  =  τ·log(training shares) + r

where τ is 1 without balancing and 0 with full balancing. Gaussian penalties hold τ near ½, r near 0
and log T near 0.

Shapes: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

METHOD = "bias-corrected temperature scaling (Alexandari et al. 2020, arXiv 1901.06852), penalised"
LOW, HIGH = 0.01, 100.0  # the bounds of T
# Standard deviations of the penalties. Of 2, 1, 0.5, 0.25 and 0.01 for r, 0.5 was the best or near
# it in simulations of 2 to 40 classes with 1 to 300 images and τ of 0, ½ and 1. That of log T is
# smaller below 0: few images, most of them of frequent classes, are often all but correct, and ask
# for a sharpness that the rare classes do not bear.
MEAN_TAU, SPREAD_TAU, SPREAD_R = 0.5, 0.5, 0.5
SPREAD_LOG_T, SPREAD_BELOW = 1.0, 0.25


@dataclass(frozen=True)
class LabelShift:
    """What the probabilities for a given class mix are computed from.

    Attributes:
        temperature: T, in [0.01, 100], by which the logits are divided where a mix is given.
        prior_K: π₀, the share of each class that the model's probabilities imply; its sum is 1.
    """

    temperature: float
    prior_K: tuple[float, ...]

    def to_json(self) -> dict[str, object]:
        """The part `label_shift` of `calibration.json`."""
        return {"temperature": self.temperature, "prior": list(self.prior_K), "method": METHOD}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> LabelShift:
        """The inverse of :meth:`to_json`.

        Raises:
            LookupError, TypeError, ValueError: other content.
        """
        found = cls(
            float(content["temperature"]), tuple(float(share) for share in content["prior"])
        )
        if not (LOW <= found.temperature <= HIGH and all(0 < p <= 1 for p in found.prior_K)):
            raise ValueError("label_shift has a temperature or shares that cannot be")
        return found


def fit_label_shift(logits_NK: Floats, labels_N: Ints, train_K: Ints) -> LabelShift:
    """Fit temperature and implied class mix of a model.

    Args:
        logits_NK: of images that trained nothing, before a temperature; finite.
        labels_N: their classes. One without an image is taken as τ says.
        train_K: training images of each class, at least one.
    """
    classes, rows = len(train_K), np.arange(len(labels_N))
    with np.errstate(divide="ignore"):
        log_own_K = np.log(np.bincount(labels_N, minlength=classes) / len(labels_N))
    log_train_K = np.log(train_K / train_K.sum())
    log_train_K -= log_train_K.mean()
    is_label_NK = np.eye(classes)[labels_N]

    def loss(found: Floats) -> tuple[float, Floats]:
        """Half the deviance with the penalties, and its gradient: of log T, τ and r."""
        log_t, tau, r_K = found[0], found[1], found[2:]
        cooled_NK = logits_NK * np.exp(-log_t)
        log_p_NK = log_softmax(cooled_NK + log_own_K - tau * log_train_K - r_K, axis=1)
        excess_NK = np.exp(log_p_NK) - is_label_NK
        off = np.concatenate([[log_t], [tau - MEAN_TAU], r_K])
        of_log_t = SPREAD_LOG_T if log_t > 0 else SPREAD_BELOW
        spread = np.concatenate([[of_log_t, SPREAD_TAU], np.full(classes, SPREAD_R)])
        slopes = np.concatenate(
            [
                [-(excess_NK * cooled_NK).sum(), -(excess_NK @ log_train_K).sum()],
                -excess_NK.sum(0),
            ]
        )
        value = -log_p_NK[rows, labels_N].sum() + ((off / spread) ** 2).sum() / 2
        return float(value), slopes + off / spread**2

    start = np.concatenate([[0.0, MEAN_TAU], np.zeros(classes)])
    bounds = [(np.log(LOW), np.log(HIGH))] + [(None, None)] * (1 + classes)
    best = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-13}
    ).x
    prior_K = np.exp(log_softmax(best[1] * log_train_K + best[2:]))
    temperature = float(np.clip(np.exp(best[0]), LOW, HIGH))
    return LabelShift(temperature, tuple(prior_K.tolist()))
