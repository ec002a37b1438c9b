"""Whether a metric has a value on given images, and why not: known before anything is predicted.

Shapes: K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from imbtune.errors import ConfigError
from imbtune.metrics.metric import Metric
from imbtune.metrics.metric_registry import GROUPS
from imbtune.metrics.predictions import ClassCounts


def why_undefined(metric: Metric, counts: ClassCounts, images: str) -> str:
    """Why a metric has no value on these images; empty where it has one.

    Args:
        metric: none of the groups of classes by size, which the data may lack.
        counts: of the images.
        images: which ones they are, such as `test images`.

    Raises:
        ConfigError: the metric names a class that there is not.
    """
    if metric.chance(counts) is not None:
        return ""
    index = metric.of_class(counts)
    if index is not None and not counts.defined_K[index]:
        return f"class '{counts.names[index]}' has no {images}"
    return f"all {images} are of one class"


def undefined_lines(metrics: Iterable[Metric], counts: ClassCounts, images: str) -> list[str]:
    """Which metrics have no value on these images, a line for each reason.

    The groups of classes by size are left out: most data sets lack one of them.

    Args:
        images: as in :func:`why_undefined`.
    """
    titles: dict[str, list[str]] = {}
    for metric in metrics:
        if metric.name not in GROUPS and (why := why_undefined(metric, counts, images)):
            titles.setdefault(why, []).append(metric.title(counts))
    return [f"undefined, as {why}: {', '.join(listed)}" for why, listed in titles.items()]


def check_telling(metric: Metric, classes: int, key: str) -> None:
    """ConfigError for a metric that is the same for every model of so many classes.

    Args:
        key: what set it, for the message.
    """
    if why := metric.tells_nothing(classes):
        raise ConfigError(f"{key} {metric.text()}: {why}")


def check_defined(objectives: Sequence[Metric], counts: ClassCounts, images: str) -> None:
    """Check, before anything is trained, that the images tell models apart by each objective.

    Args:
        images: as in :func:`why_undefined`.

    Raises:
        ConfigError: one is undefined on these images, or a constant prediction has its best value;
            or it names a class that there is not.
    """
    for objective in objectives:
        if why := why_undefined(objective, counts, images):
            raise ConfigError(
                f"the objective {objective.title(counts)} is undefined, as {why}: give another "
                "objective, or data with such images"
            )
        chance = objective.chance(counts)
        if chance is not None and chance >= objective.bounds[1]:
            raise ConfigError(
                f"the objective {objective.title(counts)} tells nothing on the {images}: a "
                "constant prediction has its best value: give another objective, or other knobs"
            )
