"""A metric with values for its knobs: one of a search is its objective.

Shapes: K classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from imbtune.errors import ConfigError, shown, unknown
from imbtune.metrics.costs import Costs
from imbtune.metrics.metric_registry import FEWEST, GROUPS, LOGITS, LOWER, POSITIVE, MetricTraits
from imbtune.metrics.metric_registry import metrics as metrics
from imbtune.metrics.number_text import as_text
from imbtune.metrics.predictions import ClassCounts, Confusion, Predictions
from imbtune.registry import Part, Value

KnobValue = Value | Costs
MOST_OBJECTIVES = 3  # a front of more has almost every trial


@dataclass(frozen=True)
class Metric:
    """A registered metric with values for its knobs. Make it with :func:`metric_from`.

    Attributes:
        name: of the registered function.
        knobs: a value for each of its knobs.
        given: the knobs that the user gave.
    """

    name: str
    knobs: Mapping[str, KnobValue] = field(default_factory=dict)
    given: Mapping[str, KnobValue] = field(default_factory=dict)

    @property
    def part(self) -> Part:
        """The registered function with its knobs, help and source."""
        return metrics[self.name]

    @property
    def traits(self) -> MetricTraits:
        """What the function declares."""
        return metrics.traits(self.name)

    @property
    def needs_logits(self) -> bool:
        """Whether the confusion matrix is not enough."""
        return self.traits.needs == LOGITS

    @property
    def sign(self) -> int:
        """1 where higher is better; -1 where lower is."""
        return -1 if self.traits.better == LOWER else 1

    @property
    def bounds(self) -> tuple[float, float]:
        """The worst and the best score that a model can have."""
        low, high = self.traits.low, self.traits.high
        return (low, high) if self.sign > 0 else (-high, 0.0 - low)

    def range_on(self, counts: ClassCounts) -> tuple[float, float]:
        """The smallest and the largest value, in its own range, that these labels allow.

        The largest one is infinite for `log_loss`.
        """
        if self.traits.range_on:
            return self.traits.range_on(counts, **self.knobs)
        return self.traits.low, self.traits.high

    @property
    def is_share(self) -> bool:
        """Whether it is between 0 and 1, as a recall is, so that it can be told in percent."""
        return (self.traits.low, self.traits.high) == (0, 1)

    def difference(self, change: float) -> str:
        """A difference of two scores in words: `+2.89 points` of a share, else `+0.0289`."""
        return (
            f"{as_text(100 * change, '+.2f')} points" if self.is_share else as_text(change, "+.4f")
        )

    def value(self, predictions: Predictions | Confusion) -> float | None:
        """The metric in its own range; None where it is undefined.

        Args:
            predictions: a :class:`Confusion` only where it does not need logits.

        Raises:
            ConfigError: a knob names a class that there is not, or costs of another number of
                classes.
        """
        if not self.needs_logits and isinstance(predictions, Predictions):
            predictions = predictions.confusion
        found: float | None = self.part.make(predictions, **self.knobs)
        return found

    def score(self, predictions: Predictions | Confusion) -> float | None:
        """The value as an objective, of which a higher one is always better.

        The score of a metric where lower is better is its negative.
        """
        return self.score_of(self.value(predictions))

    def score_of(self, value: float | None) -> float | None:
        """The score of a value of this metric."""
        return value if value is None or self.sign == 1 else 0.0 - value  # never -0.0

    def chance(self, counts: ClassCounts) -> float | None:
        """The best score of a constant prediction; None where the metric is undefined."""
        return self.score_of(self.traits.chance(counts, **self.knobs))

    @property
    def has_chance_level(self) -> bool:
        """Whether a constant prediction has not the best value of all, as it has of `ece`."""
        return self.traits.has_chance_level

    def setting(self) -> str | dict[str, Any]:
        """As a space file has it: the name, or a mapping of the name and the given knobs."""
        given: dict[str, Any] = {
            name: value.setting() if isinstance(value, Costs) else value
            for name, value in self.given.items()
        }
        return {"name": self.name, **given} if given else self.name

    def text(self) -> str:
        """The setting as a text that `--objective` and YAML read back."""
        setting = self.setting()
        if isinstance(setting, str):
            return setting
        return json.dumps(setting, ensure_ascii=False, allow_nan=False)

    def tells_of(self, classes: int) -> bool:
        """Whether models of so many classes can differ in it: in `top_k` only with fewer k."""
        return not self.tells_nothing(classes)

    def tells_nothing(self, classes: int) -> str:
        """Why it is the same for all models of so many classes; empty where they can differ."""
        return self.traits.tells_nothing(classes, **self.knobs) if self.traits.tells_nothing else ""

    def number(self, knob: str) -> float:
        """The value of a knob that is a number."""
        value = self.knobs[knob]
        assert isinstance(value, int | float), f"{knob} is a number"
        return value

    @property
    def costs(self) -> Costs | None:
        """What errors cost; None for a metric without costs, and where none are given."""
        found = self.knobs.get("costs")
        return found if isinstance(found, Costs) and found else None

    def of_class(self, counts: ClassCounts) -> int | None:
        """The index of the class that it is of; None for a metric of all classes."""
        of_nothing = self.traits.of_nothing
        if of_nothing is None:
            return None
        of = str(self.knobs["of"])
        is_of_one = bool(of) or of_nothing == FEWEST
        is_of_one |= of_nothing == POSITIVE and len(counts.names) == 2
        return counts.index(of) if is_of_one else None

    def named(self, counts: ClassCounts) -> Metric:
        """The same metric that says its class and the classes of its costs by name.

        Args:
            counts: names the classes; a metric may give them by index, or leave the class out.
        """
        own: dict[str, KnobValue] = {}
        if (index := self.of_class(counts)) is not None:
            own["of"] = str(counts.names[index])
        if self.costs:
            own["costs"] = self.costs.named(counts.names)
        return replace(self, knobs={**self.knobs, **own})

    def title(self, counts: ClassCounts) -> str:
        """The same as :meth:`__str__`, with the classes by name."""
        return str(self.named(counts))

    def __str__(self) -> str:
        """The name with all knobs in words: `recall_at_precision (precision ≥ 0.9, of 'fraud')`."""
        return f"{self.name} ({inside})" if (inside := self.knobs_in_words()) else self.name

    @property
    def score_name(self) -> str:
        """What a score is, which is negative where lower is better: `negative log_loss`."""
        return f"negative {self}" if self.sign < 0 else str(self)

    def words(self, of_a_score: bool = True) -> str:
        """The same without underscores in the metric's name, for sentences and axes.

        Args:
            of_a_score: whether it is what a score is; else what a value in its own range is.
        """
        found = self.score_name if of_a_score else str(self)
        return found.replace(self.name, self.name.replace("_", " "), 1)

    def knobs_in_words(self) -> str:
        """All knobs: `precision ≥ 0.9, of 'fraud'`; empty for a metric without knobs."""
        inside = []
        for name, value in self.knobs.items():
            number = isinstance(value, int | float)
            form = self.traits.words.get(name, f"{name} {{:g}}" if number else f"{name} {{}}")
            inside += [form.format(value)] * (value != "")
        return ", ".join(inside)


def metric_from(setting: object, key: str = "metric") -> Metric:
    """The metric of a setting.

    Args:
        setting: a name, or a mapping of `name` and values for the metric's knobs.
        key: what it sets, for messages.

    Raises:
        ConfigError: there is no such metric or knob, or a value is out of its range.
    """
    given = dict(setting) if isinstance(setting, Mapping) else {"name": setting}
    name = given.pop("name", None)
    if name is None:
        raise ConfigError(
            f"{key}: {shown(setting)} has no name: write, for example, "
            "{name: recall_at_precision, precision: 0.9}"
        )
    if not isinstance(name, str) or name not in metrics.names():
        raise unknown(key.replace("objectives", "objective"), name, objectives())
    declared = metrics[name].knobs
    checked: dict[str, KnobValue] = {}
    for knob, value in given.items():
        if knob not in declared:
            if not declared:
                raise ConfigError(f"{key} '{name}' has no knobs: leave out {shown(knob)}")
            raise unknown(f"knob of {name}", knob, declared)
        place = f"{key}: {knob}" if key.startswith("--") else f"{key}.{knob}"
        checked[knob] = declared[knob].check(place, value)
    defaults: dict[str, KnobValue] = {knob: part.default for knob, part in declared.items()}
    return Metric(name, {**defaults, **checked}, checked)


def objective_from(setting: object, key: str = "objective") -> Metric:
    """The metric that a search maximises.

    Args:
        setting: as in :func:`metric_from`.
        key: what it sets, for messages.

    Raises:
        ConfigError: as in :func:`metric_from`; or a metric that many data sets do not have.
    """
    if isinstance(setting, list | tuple):
        raise ConfigError(f"{key}: {shown(setting)} is a list: give `objectives` for several")
    found = metric_from(setting, key)
    if found.name in GROUPS:
        raise ConfigError(
            f"{key}: '{found.name}' cannot be maximised, as data sets without such a class do not "
            "have it: give balanced_accuracy or worst_class"
        )
    return found


def objectives_from(setting: object, key: str = "objectives") -> tuple[Metric, ...]:
    """The metrics of a search, the first one first.

    Args:
        setting: a list of one to MOST_OBJECTIVES metrics, each as in :func:`metric_from`.
        key: what it sets, for messages.

    Raises:
        ConfigError: as in :func:`objective_from`; or another number of metrics, or one of them
            twice: the tables have one column for each.
    """
    if not isinstance(setting, list | tuple) or not setting:
        raise ConfigError(
            f"{key}: {shown(setting)}: give a list of up to {MOST_OBJECTIVES} metrics, such as "
            "[balanced_accuracy, worst_class]"
        )
    if len(setting) > MOST_OBJECTIVES:
        raise ConfigError(
            f"{key}: these are {len(setting)}: give at most {MOST_OBJECTIVES} metrics"
        )
    found = tuple(objective_from(entry, key) for entry in setting)
    check_given_once(found, key)
    return found


def check_given_once(given: Sequence[Metric], key: str) -> None:
    """ConfigError where a metric is given twice: tables have one row or column for each name.

    Args:
        key: what sets them, for the message.
    """
    names = [metric.name for metric in given]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{key}: '{twice[0]}' is given twice: give each metric once")


def objectives_of(content: Mapping[str, object]) -> tuple[Metric, ...]:
    """The metrics of a mapping with `objective` or `objectives`, as a space has them; or none.

    Raises:
        ConfigError: as in :func:`objectives_from`.
    """
    several = content.get("objectives")
    if several:
        return objectives_from(several)
    one = content.get("objective")
    return (objective_from(one),) if one else ()


def objectives() -> list[str]:
    """The names of the metrics that can be an objective."""
    return [name for name in metrics.names() if name not in GROUPS]


def compute(
    predictions: Predictions | Confusion, objectives: Sequence[Metric] = ()
) -> dict[str, float | None]:
    """All metrics by name, each in its own range; None where undefined, or where it tells nothing.

    Those that need logits are left out for a :class:`Confusion`.

    Args:
        objectives: their knobs count for the metrics of their names; all others have their
            defaults.
    """
    has_logits = isinstance(predictions, Predictions)
    classes = len(predictions.counts.names)
    return {
        metric.name: metric.value(predictions) if metric.tells_of(classes) else None
        for metric in all_metrics(objectives)
        if has_logits or not metric.needs_logits
    }


def all_metrics(objectives: Sequence[Metric] = ()) -> list[Metric]:
    """All registered metrics; the knobs of the objectives count for the metrics of their names."""
    given = {metric.name: metric for metric in objectives}
    return [given.get(name) or metric_from(name) for name in metrics.names()]
