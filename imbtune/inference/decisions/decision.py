"""From a model's logits to probabilities and classes: temperature, class prior, threshold.

Shapes: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imbtune.errors import ConfigError, DivergenceError, shown, some_of
from imbtune.inference.decisions.class_prior import NAMED, log_shift, prior_from
from imbtune.inference.decisions.label_shift import LabelShift
from imbtune.inference.decisions.threshold import Threshold, check_two_classes, log_odds_of
from imbtune.metrics.metric import metric_from

# Added to the logit of a class that does not occur: far below every logit, so that its probability
# is exactly 0, and finite, so that metrics can subtract it
LOWEST = -1e30
Prior = str | Path | Mapping[str, float]


class Classifier(Protocol):
    """What a decision needs to know of a model; `TrainedModel` has it."""

    @property
    def classes(self) -> list[str]:
        """The name of each class."""

    @property
    def temperature(self) -> float:
        """What the logits are divided by."""

    @property
    def label_shift(self) -> LabelShift | None:
        """What the probabilities for a given class mix start from; None without a calibration."""

    @property
    def train_K(self) -> NDArray[np.int64] | None:
        """Training images of each class; None where they are not known."""

    @property
    def threshold(self) -> Threshold | None:
        """The chosen operating point of two classes; None for the more probable class."""


@dataclass(frozen=True, eq=False)
class Decision:
    """How a model's logits become probabilities and classes.

    Attributes:
        temperature: by which the logits are divided.
        shift_K: what is added then, for a given class prior; None for nothing.
        positive: index of the class that a threshold decides on; None for the most probable class.
        log_odds: the threshold, as log-odds of that class.
        lines: what of this differs from the most probable class of the model, for the user.
    """

    temperature: float
    shift_K: Tensor | None = None
    positive: int | None = None
    log_odds: float = 0.0
    lines: tuple[str, ...] = ()

    @property
    def never(self) -> list[int]:
        """The indices of the classes to which a prior gives the share 0."""
        if self.shift_K is None:
            return []
        found: list[int] = (self.shift_K <= LOWEST).nonzero()[:, 0].tolist()
        return found

    def logits(self, logits_NK: Tensor) -> Tensor:
        """The logits whose softmax are the probabilities."""
        cooled_NK = logits_NK.double() / self.temperature
        return cooled_NK if self.shift_K is None else cooled_NK + self.shift_K

    def classes(self, decided_NK: Tensor) -> Tensor:
        """The predicted class of each image (N,), from the logits of :meth:`logits`."""
        if self.positive is None:
            return decided_NK.argmax(1)
        other = 1 - self.positive
        is_positive_N = decided_NK[:, self.positive] - decided_NK[:, other] >= self.log_odds
        return torch.where(is_positive_N, self.positive, other)


def decision(
    model: Classifier, prior: Prior | None = None, threshold: float | None = None
) -> Decision:
    """The decision that a model is used with.

    Args:
        prior: shares of the classes where the model is used, as in :func:`prior_from`; None for
            the probabilities as the loss trained them.
        threshold: probability from which an image is of the positive class, for two classes; None
            for the model's own, if it has one.

    Raises:
        ConfigError: a prior or a threshold that cannot be used, or both where they exclude each
            other.
    """
    found, own = without_threshold(model, prior), model.threshold
    if threshold is None and own is not None and prior is not None:
        raise ConfigError(
            f"--prior: the model's threshold {own.probability:.4g} of class '{own.positive}' was "
            "chosen for another class mix: give --threshold, too (0.5 for the more probable class)"
        )
    positive = positive_class(model)
    if threshold is not None:
        check_two_classes(model.classes)
        is_number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
        if not is_number or not 0 <= threshold <= 1:
            raise ConfigError(f"--threshold {shown(threshold)}: give a probability from 0 to 1")
        threshold += 0.0  # never -0.0
        log_odds = log_odds_of(threshold)
        name = model.classes[positive]
        line = f"threshold: class '{name}' from a probability of {threshold:.4g} on"
    elif own is not None:
        log_odds = own.log_odds
        line = (
            f"threshold: class '{own.positive}' from a probability of {own.probability:.4g} on, "
            f"chosen for {metric_from(own.metric).title(own.class_counts)} on {own.chosen_on}"
        )
    else:
        return found
    return replace(found, positive=positive, log_odds=log_odds, lines=(*found.lines, line))


def without_threshold(model: Classifier, prior: Prior | None = None) -> Decision:
    """The decision for the most probable class.

    Args:
        prior: as in :func:`decision`.

    Raises:
        ConfigError: a prior that cannot be used, or a model that does not say its own.
    """
    if prior is None:
        return Decision(model.temperature)
    temperature, shift_K, line = _prior_shift(model, prior)
    return Decision(temperature, shift_K, lines=(line,))


def positive_class(model: Classifier) -> int:
    """The class that a threshold decides on: that of the model's own, or the rarer in training."""
    if model.threshold is not None:
        return model.classes.index(model.threshold.positive)
    train_K = model.train_K
    return 1 if train_K is None else int(np.flatnonzero(train_K == train_K.min())[-1])


def check_finite(network: nn.Module) -> None:
    """DivergenceError for a weight that is NaN or infinite."""
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise DivergenceError(
                f"the model's weights are not finite ({name}): it diverged in training; train it "
                "again, for example with a lower --set optimizer.lr"
            )


def _prior_shift(model: Classifier, prior: Prior) -> tuple[float, Tensor, str]:
    """The temperature that divides the logits, what is added then (K,), and a line about it."""
    wanted_K = prior_from(prior, model.classes)
    if (shift := model.label_shift) is not None:
        temperature, fitted_K = shift.temperature, np.array(shift.prior_K)
        source = "the one that the probabilities imply, as fitted on the calibration's images,"
    else:
        if model.train_K is None:
            raise ConfigError(
                "--prior: the model does not say for which class mix its probabilities are, as an "
                "older version wrote it: train it again"
            )
        temperature, fitted_K = model.temperature, model.train_K / model.train_K.sum()
        source = (
            "that of the training images (the model has no calibration that tells it; if its loss, "
            "weights or sampler balance the classes, that is not where it starts from)"
        )
    shift_K = log_shift(wanted_K, np.asarray(fitted_K, np.float64))
    found = torch.from_numpy(shift_K).clamp(min=LOWEST)
    top = int(np.argmax(np.abs(np.log(np.maximum(wanted_K, 1e-300) / fitted_K))))
    never = [f"'{model.classes[k]}'" for k in np.flatnonzero(wanted_K == 0)]
    none = f"; never predicted, since their share is 0: {some_of(never, NAMED)}" if never else ""
    return (
        temperature,
        found,
        (
            f"class mix: from {source} to the given one; the share of class "
            f"'{model.classes[top]}' changes by the largest factor, from {fitted_K[top]:.3g} to "
            f"{wanted_K[top]:.3g}{none}"
        ),
    )


def is_finite(logits_NK: Tensor) -> Tensor:
    """Which images have finite logits, (N,)."""
    return logits_NK.isfinite().all(1)
