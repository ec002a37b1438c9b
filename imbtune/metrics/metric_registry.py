"""The registry of the metrics, and a metric with values for its knobs.

A metric is a registered function. It takes :class:`Predictions`, or, where the predicted classes
are enough, only their :class:`Confusion`, and returns the metric in its own range, or None where it
is undefined:

    @metrics.register("accuracy", help="…", needs=CONFUSION, chance=…)
    def accuracy(confusion): ...

What each registration declares:

- `needs`: `confusion`, or `logits`. A metric of the confusion matrix is computed after every epoch.
- `chance`: a function from :class:`ClassCounts` and the knobs to the best value of a constant
  prediction: the same class, or the same probabilities, for every image. None where the metric is
  undefined, which thus depends on the labels alone, and not on what a model predicts.
- `has_chance_level`: False for `ece`, which a constant prediction has best; its `chance` is the
  worst value, so that any model may win. Default: True.
- `better`: `higher`, the default, or `lower`.
- `low`, `high`: the range of its values; `range_on`: a function from :class:`ClassCounts` and the
  knobs to a narrower range, where the labels or knobs give one.
- `spread`: what its standard error is like before anything is predicted
  (:mod:`imbtune.study.data_size`).
- `members`: a function from :class:`ClassCounts` to the classes whose recalls it is a mean of, (K,)
  booleans; only where these are not all classes with images.
- `of_nothing`: for a metric with a knob `of`, the class that it is of where that is empty: `mean`,
  the default, is the mean of all classes; `positive` is the same, but of two classes the one with
  the fewest training images; `fewest` is always that one.
- `is_area`: True for `auroc`, in which an image of the others counts as much as one of the class,
  and an error by how many of them it passes.
- `error`: a function from :class:`Confusion` to the standard error of the metric; only where it has
  a closed form, others are jackknifed (:mod:`imbtune.metrics.score_error`).

Shapes: K classes.
"""

from __future__ import annotations

from collections.abc import Iterable

from imbtune.errors import ConfigError, shown
from imbtune.registry import Registry

metrics = Registry("metric", "what a model's predictions are worth")

CONFUSION, LOGITS = "confusion", "logits"  # what a metric needs
HIGHER, LOWER = "higher", "lower"
# What the standard error is like: that of a mean over classes, which may be one class alone, of a
# mean over images, of the smallest class; or unknown in advance
CLASSES, IMAGES, WORST, UNKNOWN = "classes", "images", "worst", "unknown"
MEAN, POSITIVE, FEWEST = "mean", "positive", "fewest"  # what an empty `of` is
# Undefined on many data sets, where no class is of that size: no objectives
GROUPS = ("many", "medium", "few")


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
