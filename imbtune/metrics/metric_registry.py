"""The registry of the metrics, and what each of them declares.

A metric is a registered function. It takes :class:`Predictions`, or, where the predicted classes
are enough, only their :class:`Confusion`, and returns the metric in its own range, or None where it
is undefined:

    @metrics.register("accuracy", help="…", needs=CONFUSION, spread=Spread.IMAGES, chance=…)
    def accuracy(confusion): ...

Beside help and source it declares the fields of :class:`MetricTraits`. They are checked when it is
registered. With values for its knobs it is a :class:`imbtune.metrics.metric.Metric`.

Shapes: K classes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import Enum
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from imbtune.errors import ConfigError, shown, unknown
from imbtune.metrics.predictions import ClassCounts, Confusion
from imbtune.registry import Part, Registry

CONFUSION: Literal["confusion"] = "confusion"
LOGITS: Literal["logits"] = "logits"
HIGHER: Literal["higher"] = "higher"
LOWER: Literal["lower"] = "lower"
MEAN: Literal["mean"] = "mean"
POSITIVE: Literal["positive"] = "positive"
FEWEST: Literal["fewest"] = "fewest"
# Undefined on many data sets, where no class is of that size: no objectives
GROUPS = ("many", "medium", "few")


class Spread(Enum):
    """What the standard error of a metric is like, before anything is predicted."""

    CLASSES = "that of a mean over classes, which may be one class alone"
    IMAGES = "that of a mean over images"
    AGREEMENT = "that of a mean over images beyond what agrees by chance, as Cohen's κ is"
    WORST = "that of the smallest class"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class MetricTraits:
    """What a metric declares.

    "The counts" are :class:`ClassCounts` of the images; "the knobs" are keywords.

    Attributes:
        needs: CONFUSION or LOGITS. A metric of the confusion matrix is computed after every epoch.
        spread: what its standard error is like; :mod:`imbtune.study.data_size` and `least_error`
            read it.
        chance: of the counts and the knobs, the best value of a constant prediction: the same
            class, or the same probabilities, for every image. None where the metric is undefined,
            which thus depends on the labels alone, and not on what a model predicts.
        has_chance_level: False for `ece`, which a constant prediction has best; its `chance` is
            the worst value, so that any model may win.
        better: HIGHER or LOWER.
        low: the smallest value.
        high: the largest value; may be infinite.
        range_on: of the counts and the knobs, a narrower range, where they give one.
        tells_nothing: of the number of classes and the knobs, why all models of so many classes
            have the same value, and what to give instead; empty where they may differ.
        members: of the counts, the classes whose recalls it is a mean of, (K,) booleans; only where
            these are not all classes with images.
        of_nothing: for a metric of one class, which its knob `of` names: what it is of where that
            is empty. MEAN is the mean of all classes; POSITIVE the same, but of two classes the one
            with the fewest training images; FEWEST is always that one. None for other metrics.
        is_area: True for `auroc`, in which an image of the others counts as much as one of the
            class, and an error by how many of them it passes.
        error: of a :class:`Confusion`, the standard error; only where it has a closed form, others
            are jackknifed (:mod:`imbtune.metrics.score_error`).
        words: how the value of a knob is told in titles, as `str.format` takes it: `of '{}'`. A
            knob that is not here is told by its name and value.
    """

    needs: Literal["confusion", "logits"]
    spread: Spread
    chance: Callable[..., float | None]
    has_chance_level: bool = True
    better: Literal["higher", "lower"] = HIGHER
    low: float = 0.0
    high: float = 1.0
    range_on: Callable[..., tuple[float, float]] | None = None
    tells_nothing: Callable[..., str] | None = None
    members: Callable[[ClassCounts], NDArray[np.bool_]] | None = None
    of_nothing: Literal["mean", "positive", "fewest"] | None = None
    is_area: bool = False
    error: Callable[[Confusion], float] | None = None
    words: Mapping[str, str] = field(default_factory=dict)


CHOICES = {
    "needs": (CONFUSION, LOGITS),
    "spread": tuple(Spread),
    "better": (HIGHER, LOWER),
    "of_nothing": (None, MEAN, POSITIVE, FEWEST),
}
WITH_KNOBS = ("chance", "range_on", "tells_nothing")  # functions that take the knobs


class MetricRegistry(Registry):
    """The metrics by name, each with its traits."""

    def __init__(self) -> None:
        super().__init__("metric", "what a model's predictions are worth")
        self._declared: dict[str, MetricTraits] = {}

    def add(self, part: Part, bare: bool = False) -> None:
        """Register a metric.

        Raises:
            ConfigError: as in :meth:`Registry.add`; or it does not declare what a metric must, or
                something else.
        """
        traits = traits_of(part)
        super().add(part, bare)
        self._declared[part.name] = traits

    def traits(self, name: str) -> MetricTraits:
        """What a registered metric declares."""
        return self._declared[name]


def traits_of(part: Part) -> MetricTraits:
    """The traits of a metric, checked.

    Raises:
        ConfigError: one is missing, there is none of that name, or its value is of another kind.
    """
    known, what = {trait.name: trait for trait in fields(MetricTraits)}, f"metric '{part.name}'"
    if more := [name for name in part.traits if name not in known]:
        raise unknown(f"trait of {what}", more[0], known)
    for name, trait in known.items():
        needed = trait.default is MISSING and trait.default_factory is MISSING
        if needed and name not in part.traits:
            raise ConfigError(f"{what} declares no {name}: register it with {name}=…")
    traits = MetricTraits(**cast(dict[str, Any], part.traits))
    for name, choices in CHOICES.items():
        if getattr(traits, name) not in choices:
            raise ConfigError(
                f"{what}: {name}={shown(getattr(traits, name))}: give one of "
                f"{', '.join(map(str, choices))}"
            )
    if not traits.low < traits.high:
        raise ConfigError(f"{what}: low={traits.low:g} is not below high={traits.high:g}")
    if traits.of_nothing and "of" not in part.knobs:
        raise ConfigError(f"{what} declares of_nothing, and has no knob of: leave it out")
    if more := [name for name in traits.words if name not in part.knobs]:
        raise unknown(f"knob in the words of {what}", more[0], part.knobs)
    for name in WITH_KNOBS:
        _check_takes_knobs(getattr(traits, name), part, f"{what}: {name}")
    return traits


def _check_takes_knobs(function: object, part: Part, what: str) -> None:
    if function is None:
        return
    try:
        if not callable(function):
            raise TypeError("it is no function")
        inspect.signature(function).bind(None, **dict.fromkeys(part.knobs))
    except TypeError as error:
        taken = ", ".join(["one argument", *part.knobs])
        raise ConfigError(f"{what}: {error}: give a function of {taken}") from error


metrics = MetricRegistry()


def class_from(setting: object, key: str) -> str:
    """The value of a knob `of`: the name of a class or its index, as a text; empty for None.

    Raises:
        ConfigError: it is something else.
    """
    if setting is None or isinstance(setting, str):
        return setting or ""
    if type(setting) is not int:
        raise ConfigError(f"{key}={shown(setting)}: give the name of a class, or its index")
    return str(setting)


def group_lines(names: Iterable[str]) -> list[str]:
    """What `many`, `medium` and `few` mean, a line for each of them among the names of metrics."""
    given = set(names)
    return [f"{name}: {metrics[name].help}" for name in GROUPS if name in given]
