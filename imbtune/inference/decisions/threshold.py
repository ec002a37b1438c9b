"""The operating point of a two-class model: from which probability on an image is positive.

Instead of the more probable class, an image is predicted as the positive class if that class's
log-odds are at least a threshold. The threshold is chosen for a metric on labelled images that
training did not see. Log-odds are compared, not probabilities, since these round to 1 where a model
is sure.

Shapes: N images, two classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbtune.errors import ConfigError
from imbtune.metrics.metric import metric_from
from imbtune.metrics.number_text import as_text
from imbtune.metrics.predictions import ClassCounts

Floats = NDArray[np.float64]


FEW = 10  # images that say hardly anything of a precision or recall


@dataclass(frozen=True)
class Condition:
    """The precision or recall that a metric asks for, and what becomes of it.

    Attributes:
        name: `precision` or `recall`.
        wanted: how much the metric asks for.
        value: on the images on which the threshold was chosen.
        expected: on other images, at the thresholds of the resamples, like `Threshold.corrected`.
        interval: 95 % interval of `expected`.
        reached: share of the resamples in which the left-out images have as much as is wanted.
        images: how many images `value` is a share of.
    """

    name: str
    wanted: float
    value: float
    expected: float
    interval: tuple[float, float]
    reached: float
    images: int

    @property
    def warnings(self) -> list[str]:
        """What is doubtful about it, in words."""
        found = []
        if self.reached < 0.5:
            found.append(
                f"other images have a {self.name} of {self.wanted:g} in only {self.reached:.0%} of "
                "the resamples; in others it is lower, or no image is predicted as positive: ask "
                "for a higher one where it must hold, or give more images"
            )
        if self.images < FEW:
            found.append(
                f"there is hardly any evidence: the {self.name} is that of {self.images} "
                f"image{'s' * (self.images != 1)}"
            )
        return found

    def to_dict(self) -> dict[str, object]:
        """The part `condition` of `threshold.json`."""
        return {**vars(self), "interval": list(self.interval)}

    @classmethod
    def from_dict(cls, content: Mapping[str, object]) -> Condition:
        """The inverse of :meth:`to_dict`; KeyError, TypeError, ValueError or AssertionError."""
        low, high = map(_finite, _list(content["interval"]))
        return cls(
            str(content["name"]),
            _finite(content["wanted"]),
            _finite(content["value"]),
            _finite(content["expected"]),
            (low, high),
            _finite(content["reached"]),
            int(_finite(content["images"])),
        )


@dataclass(frozen=True)
class Threshold:
    """A chosen operating point, as `threshold.json` has it.

    Attributes:
        positive: the class that is predicted from the threshold on.
        log_odds: the threshold, log(p / (1 - p)) of the positive class.
        log_odds_interval: its 95 % interval, whose ends may be infinite.
        metric: setting of the metric that it is best for.
        value: the metric on the images on which the threshold was chosen, which is optimistic.
        corrected: the value without that optimism, as resampling estimates it: at the thresholds
            of the resamples, whose precision or recall may be another than the metric asks for
            (`condition`).
        interval: 95 % interval of `corrected`.
        argmax_value: the metric of the more probable class, on the same images; None where it does
            not reach the precision or recall that the metric asks for.
        constant: the class that is best predicted for every image, whatever the model says, and
            the metric of that on the same images; None where it does not reach what is asked for.
        condition: where the metric asks for a precision or recall, what that is.
        chosen_on: which images these were.
        counts: how many there were of each class.
        image_hashes: by which the images are known again (`pixel_hashes`); empty for those of the
            calibration.
    """

    positive: str
    log_odds: float
    log_odds_interval: tuple[float, float]
    metric: str | dict[str, Any]
    value: float
    corrected: float
    interval: tuple[float, float]
    argmax_value: float | None
    constant: tuple[str, float] | None
    condition: Condition | None
    chosen_on: str
    counts: dict[str, int]
    image_hashes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        low, high = self.interval
        also = ""
        if (asked := self.condition) is not None:
            also = f", {asked.name} {as_text(asked.expected)}"
        useless = "" if self.gains else "; it gains nothing, so it is not stored"
        return (
            f"Threshold('{self.positive}' from {self.probability:.4g} on): {self.quantity} "
            f"{as_text(self.corrected)} [{as_text(low)}, {as_text(high)}]{also} expected on other "
            f"images{useless}"
        )

    @property
    def class_counts(self) -> ClassCounts:
        """The images on which it was chosen, for the names of its metric."""
        counts_K = np.array(list(self.counts.values()), dtype=np.int64)
        train_K = np.array([int(name != self.positive) for name in self.counts])  # only its order
        return ClassCounts(list(self.counts), train_K, counts_K)

    @property
    def quantity(self) -> str:
        """What `value` and `corrected` are: `recall` for `recall_at_precision`."""
        name = metric_from(self.metric).name
        return name if self.condition is None else name.partition("_at_")[0]

    @property
    def gains(self) -> bool:
        """Whether it is expected to be better on other images than what needs no threshold."""
        return not self.as_good

    @property
    def as_good(self) -> str:
        """What is expected to be as good without a threshold, in words; empty for nothing."""
        sign = metric_from(self.metric).sign
        if self.argmax_value is not None and sign * self.corrected <= sign * self.argmax_value:
            return "predicting the more probable class"
        if self.constant is not None and sign * self.corrected <= sign * self.constant[1]:
            return f"predicting '{self.constant[0]}' for every image"
        return ""

    @property
    def probability(self) -> float:
        """The threshold as a probability of the positive class, in [0, 1]."""
        return probability_of(self.log_odds)

    @property
    def probability_interval(self) -> tuple[float, float]:
        """Its 95 % interval."""
        low, high = self.log_odds_interval
        return probability_of(low), probability_of(high)

    def to_dict(self) -> dict[str, object]:
        """The content of `threshold.json`."""
        return self.to_metadata() | {"image_hashes": " ".join(self.image_hashes)}

    def to_metadata(self) -> dict[str, object]:
        """The same without the hashes, for a file that goes to others."""
        return {
            "positive": self.positive,
            "probability": self.probability,
            "probability_interval": list(self.probability_interval),
            "log_odds": self.log_odds,
            "log_odds_interval": [
                None if math.isinf(end) else end for end in self.log_odds_interval
            ],
            "metric": self.metric,
            "value": self.value,
            "corrected": self.corrected,
            "interval": list(self.interval),
            "argmax_value": self.argmax_value,
            "constant": None
            if self.constant is None
            else {"class": self.constant[0], "value": self.constant[1]},
            "condition": None if self.condition is None else self.condition.to_dict(),
            "chosen_on": self.chosen_on,
            "counts": self.counts,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, object], classes: Sequence[str]) -> Threshold:
        """The threshold of a file.

        Raises:
            ConfigError: it is not what `to_dict` gives, or names another class.
        """
        try:
            low, high = (
                infinite if end is None else _finite(end)
                for end, infinite in zip(
                    _list(content["log_odds_interval"]), (-math.inf, math.inf), strict=True
                )
            )
            worst, best = map(_finite, _list(content["interval"]))
            metric, counts = content["metric"], content["counts"]
            assert isinstance(metric, str | dict) and isinstance(counts, dict)
            constant = content.get("constant")  # older files have none
            condition = content.get("condition")
            assert constant is None or isinstance(constant, dict)
            assert condition is None or isinstance(condition, dict)
            found = cls(
                str(content["positive"]),
                _finite(content["log_odds"]),
                (low, high),
                metric,
                _finite(content["value"]),
                _finite(content["corrected"]),
                (worst, best),
                None if content["argmax_value"] is None else _finite(content["argmax_value"]),
                (str(constant["class"]), _finite(constant["value"])) if constant else None,
                Condition.from_dict(condition) if condition else None,
                str(content["chosen_on"]),
                {str(name): int(count) for name, count in counts.items()},
                tuple(str(content["image_hashes"]).split()),
            )
        except (KeyError, TypeError, ValueError, AssertionError) as error:
            raise ConfigError(
                "threshold.json is not one that this version of imbtune wrote: choose the "
                "threshold again, or remove it with imbtune threshold --remove"
            ) from error
        if len(classes) != 2 or found.positive not in classes:
            raise ConfigError(
                f"threshold.json is of a class '{found.positive}', which the model does not have: "
                "choose the threshold again, or remove it with imbtune threshold --remove"
            )
        return found


def log_odds_of(probability: float) -> float:
    """log(p / (1 - p)); ±inf for 1 and 0."""
    if probability in (0, 1):
        return math.copysign(math.inf, probability - 0.5)
    return math.log(probability) - math.log1p(-probability)


def probability_of(log_odds: float) -> float:
    """The probability with these log-odds, which may be infinite."""
    if log_odds >= 0:
        return 1 / (1 + math.exp(-log_odds))
    odds = math.exp(log_odds)
    return odds / (1 + odds)


def check_two_classes(classes: Sequence[str]) -> None:
    """ConfigError for a model of more classes, with the reason."""
    if len(classes) != 2:
        raise ConfigError(
            f"a threshold is for two classes, and this model has {len(classes)}: thresholds per "
            "class, chosen on the few images of the rare ones, would overfit them; give --prior "
            "for another class mix"
        )


def _list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(value)
    return float(value)
