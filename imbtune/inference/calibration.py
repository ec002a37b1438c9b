"""Temperature scaling: one factor that makes a trained model's probabilities honest.

    p = softmax(z / T)

T is the temperature with the least log-loss on images that trained nothing (Guo et al. 2017,
arXiv 1706.04599). It changes no order: the predicted class is the same. It cannot move the class
mix that the probabilities imply either; what another mix starts from is fitted on the same images
(:mod:`imbtune.inference.decisions.label_shift`).

Shapes: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from torch import Tensor

from imbtune.inference.decisions.label_shift import LabelShift, fit_label_shift
from imbtune.metrics.from_probabilities import ece, log_loss
from imbtune.metrics.predictions import Predictions

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

METHOD = "temperature scaling (Guo et al. 2017, arXiv 1706.04599)"
LOW, HIGH = 0.01, 100.0  # the bounds of T
TOLERANCE = 1e-10  # of log T
AT_BOUND = 1e-6  # of log T: how near to a bound the minimum counts as there

KEEP_A_SHARE = (
    "all training images trained the model, so none are left to fit a temperature on: "
    "imbtune train --calibrate 0.1 keeps a tenth of each class for it"
)


@dataclass(frozen=True)
class Calibration:
    """A fitted temperature, and on what it was fitted.

    Attributes:
        temperature: T, in [0.01, 100].
        images: how many it was fitted on.
        source: which images these are.
        log_loss: on them, with T = 1 and with T; in nats.
        ece: their expected calibration error in 15 bins, with T = 1 and with T.
        label_shift: what the probabilities for a given class mix are computed from; None in a
            folder that an older version wrote.
        note: what limits it, in words; empty if nothing does.
    """

    temperature: float
    images: int
    source: str
    log_loss: tuple[float, float]
    ece: tuple[float, float]
    label_shift: LabelShift | None
    note: str = ""

    @property
    def is_fitted(self) -> bool:
        """Whether the images tell a temperature; else it stays 1, and the note says why."""
        return self.temperature != 1 or not self.note

    def to_json(self) -> dict[str, object]:
        """The content of `calibration.json`."""
        return {
            "temperature": self.temperature,
            "method": METHOD,
            "images": self.images,
            "source": self.source,
            "log_loss": dict(zip(("before", "after"), self.log_loss, strict=True)),
            "ece": dict(zip(("before", "after"), self.ece, strict=True)),
            "label_shift": None if self.label_shift is None else self.label_shift.to_json(),
            "note": self.note,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Calibration | None:
        """The inverse of :meth:`to_json`; None where no temperature was fitted.

        Raises:
            LookupError, TypeError, ValueError: other content.
        """
        if content["temperature"] is None:
            return None
        temperature = float(content["temperature"])
        if not LOW <= temperature <= HIGH:
            raise ValueError(f"temperature {temperature} is not between {LOW} and {HIGH}")
        losses, errors = content["log_loss"], content["ece"]
        shift = content.get("label_shift")  # older files have none
        return cls(
            temperature,
            int(content["images"]),
            str(content["source"]),
            (float(losses["before"]), float(losses["after"])),
            (float(errors["before"]), float(errors["after"])),
            LabelShift.from_json(shift) if shift is not None else None,
            str(content["note"]),
        )


def not_calibrated(reason: str = KEEP_A_SHARE) -> dict[str, object]:
    """The content of `calibration.json` where no temperature was fitted."""
    return {"temperature": None, "reason": reason}


def calibrate(
    logits_NK: Tensor, labels_N: Tensor, source: str, names: Sequence[str], train_K: Ints
) -> Calibration:
    """Fit the temperature of a model, and what its use for another class mix starts from.

    Args:
        logits_NK: of images that trained nothing, times the loss's scale.
        labels_N: their classes.
        source: which images these are, in words.
        names: of the classes.
        train_K: training images of each class, at least one.

    Raises:
        DivergenceError: a logit is not finite.
    """
    before = Predictions(logits_NK.double(), labels_N, names, train_K)
    z_NK, y_N = logits_NK.double().cpu().numpy(), labels_N.cpu().numpy()
    temperature, note = fit_temperature(z_NK, y_N)
    after = Predictions(logits_NK.double() / temperature, labels_N, names, train_K)
    return Calibration(
        temperature,
        len(labels_N),
        source,
        (log_loss(before), log_loss(after)),
        (ece(before), ece(after)),
        fit_label_shift(z_NK, y_N, train_K),
        note,
    )


def fit_temperature(logits_NK: Floats, labels_N: NDArray[np.int64]) -> tuple[float, str]:
    """The temperature with the least log-loss, and what limits it, in words; else an empty text.

    The log-loss is convex in 1/T, so a bounded search of log T finds its minimum. Where every image
    is predicted correctly, the log-loss falls without end as T goes to 0, and the images say
    nothing of how sharp the model may be: T stays 1. Else T is within [0.01, 100].

    Args:
        logits_NK: finite, float64.
        labels_N: the true classes.
    """
    own_N = np.take_along_axis(logits_NK, labels_N[:, None], 1)[:, 0]
    others_NK = logits_NK.copy()
    np.put_along_axis(others_NK, labels_N[:, None], -np.inf, 1)
    margin_N = own_N - others_NK.max(1)
    images = len(labels_N)
    if (margin_N > 0).all():
        return 1.0, (
            f"all {images} images are predicted correctly, so their log-loss has no minimum: the "
            "temperature stays 1; more images would tell it"
        )
    relative_NK = logits_NK - own_N[:, None]

    def loss(log_temperature: float) -> float:
        return float(logsumexp(relative_NK * np.exp(-log_temperature), axis=1).mean())

    bounds = (np.log(LOW), np.log(HIGH))
    found = float(
        minimize_scalar(
            loss, bounds=bounds, method="bounded", options={"xatol": TOLERANCE, "maxiter": 1000}
        ).x
    )
    if loss(0.0) <= loss(found):
        return 1.0, ""
    for bound, temperature in zip(bounds, (LOW, HIGH), strict=True):
        if abs(found - bound) < AT_BOUND or loss(bound) <= loss(found):
            return temperature, f"the temperature is at its bound, {temperature:g}"
    return float(np.exp(found)), ""
