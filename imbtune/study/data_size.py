"""What the number of images means for a search: the score of chance, and how exact a score is.

Shapes: K classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbtune.errors import ConfigError
from imbtune.metrics.metric import Metric, objective_from
from imbtune.metrics.metric_registry import Spread
from imbtune.metrics.number_text import as_text
from imbtune.metrics.predictions import ClassCounts
from imbtune.metrics.score_error import class_weights, members
from imbtune.training.phases import steps_per_epoch

Ints = NDArray[np.int64]
LISTED = 10  # classes whose counts are listed one by one
# A data set is small where one of these is passed
MAX_STEP, MAX_ERROR, MIN_STEPS = 0.02, 0.05, 4
MIN_IMAGES = 30  # validation images of a class, for metrics whose error is known only afterwards


@dataclass(frozen=True)
class ScoreScale:
    """How a score on the validation images is to be read.

    Attributes:
        chance: the best score of a model that predicts the same for every image.
        step: by how much one validation image of class `coarsest` moves the score; None where
            unknown.
        error: standard error of one score, if half of each class is predicted correctly (which is
            where it is largest); training again with another seed adds to it. None where unknown.
        coarsest: index of the class with the fewest validation images of those that count.
        smallest_of: of how many recalls the score is the smallest; 1 for all other scores. The
            smallest of noisy recalls is too low by up to the largest of so many errors.
        one_hit: by how much an image that becomes a hit moves a mean over classes or images, or
            an agreement: the root of the mean square over the classes. 0 for all other scores.
    """

    chance: float
    step: float | None
    error: float | None
    coarsest: int
    smallest_of: int = 1
    one_hit: float = 0.0


def score_scale(objective: Metric, counts: ClassCounts) -> ScoreScale | None:
    """The scale of an objective's scores; None where it is undefined on these images.

    A class has recall h/n with h hits among its n validation images. One image moves it by 1/n, and
    its variance is at most 1/(4n), that of a binomial share of one half. `balanced_accuracy` is
    the mean recall, `worst_class` the smallest and `accuracy` the mean weighted by n. Metrics that
    weigh the classes equally, such as `macro_f1`, have step and error of `balanced_accuracy`, and
    `mcc` and `cohen_kappa` those of `accuracy`, divided by the disagreement that chance leaves; the
    means of recalls that one class decides, such as `g_mean`, its step and the error of
    `worst_class`; those of one class, such as `f_beta` of it, have its recall's. The errors of
    costs, and of metrics of the probabilities, such as `average_precision`, have no such bound.

    Args:
        objective: the metric.
        counts: validation images of each class; classes without any do not count.

    Raises:
        ConfigError: the objective names a class that there is not.
    """
    chance = objective.chance(counts)
    if chance is None:
        return None
    counts_K = counts.held_out_K
    members_K = members(objective, counts)
    n_K = counts_K[members_K]
    least = int(n_K.min())
    coarsest = int(np.flatnonzero(members_K & (counts_K == least))[0])
    is_smallest = objective.name == "worst_class"
    spread = objective.traits.spread
    step, error, one_hit = None, None, 0.0
    if spread == Spread.WORST:
        step, error = 1 / least / (1 if is_smallest else len(n_K)), 0.5 / least**0.5
    elif spread != Spread.UNKNOWN:
        weight_K = class_weights(spread, n_K)
        moved_K = weight_K / n_K  # by one image of each class
        step, one_hit = float(moved_K.max()), float(np.sqrt((moved_K**2).mean()))
        error = float(np.sqrt((np.minimum(weight_K, 1) ** 2 * 0.25 / n_K).sum()))
    if objective.needs_logits:
        error, one_hit = None, 0.0
    smallest_of = len(n_K) if is_smallest else 1
    return ScoreScale(chance, step, error, coarsest, smallest_of, one_hit)


def data_size_lines(
    objective: Metric,
    classes: Sequence[str],
    train_K: Sequence[int] | Ints,
    validation_K: Sequence[int] | Ints,
    batch_size: int,
) -> list[str]:
    """What a user should know of a data set's size: one line, and a warning where it is small.

    Args:
        objective: as in `score_scale`.
        classes: names, in the order of the labels.
        train_K: training images of each class.
        validation_K: validation images of each class.
        batch_size: of a training step.
    """
    counts = class_counts(classes, train_K, validation_K)
    scale = score_scale(objective, counts)
    assert scale, "checked before: the objective is defined"
    lines = [
        f"Images per class: {_counts(train_K)} for training, {_counts(validation_K)} for "
        f"validation{_about_chance(objective, scale.chance)}"
    ]
    if objective.costs:
        lines[0] += f"\nCosts: {objective.costs.in_words(classes)}"
    warnings = []
    one_decides = objective.traits.spread == Spread.WORST and scale.smallest_of == 1
    at_least = "at least " if one_decides else ""  # more where a recall is near 0
    if scale.step and scale.error and (scale.step > MAX_STEP or scale.error > MAX_ERROR):
        warnings.append(
            f"one validation image of class '{classes[scale.coarsest]}' moves the score by "
            f"{at_least}{scale.step:.2g}, and one score has a standard error of up to "
            f"{scale.error:.2g}: trials that differ by less cannot be told apart"
        )
    least = int(validation_K[scale.coarsest])
    if scale.error is None and least < MIN_IMAGES:
        warnings.append(
            f"class '{classes[scale.coarsest]}' has {least} validation image{'s' * (least != 1)}, "
            f"so scores of {objective.name} are uncertain; `score_error` in the tables says by how "
            "much, for each trial"
        )
    steps, batch = steps_per_epoch(int(np.sum(train_K)), batch_size)
    if steps < MIN_STEPS:
        warnings.append(
            f"an epoch has {steps} step{'s' * (steps > 1)} of {batch} images: give more epochs or "
            "a smaller batch_size"
        )
    return lines + ([f"Small data set: {'; '.join(warnings)}"] if warnings else [])


def _about_chance(objective: Metric, chance: float) -> str:
    """What a constant prediction has, in the metric's own sign; empty where that says nothing."""
    if not objective.has_chance_level:
        return ""
    constant = "; a model that predicts the same for every image"
    if objective.sign > 0:
        return f"{constant} scores {as_text(chance, '.3g')}"
    name = objective.name.replace("_", " ")
    return f"{constant} has a {name} of {as_text(-chance, '.3g')} at best"


def class_counts(
    names: Sequence[str], train_K: Sequence[int] | Ints, validation_K: Sequence[int] | Ints
) -> ClassCounts:
    """Images of each class, of arrays or of lists in a study's files."""
    return ClassCounts(names, np.asarray(train_K, np.int64), np.asarray(validation_K, np.int64))


def recorded_chance(objective: object, data: Mapping[str, Any]) -> float:
    """The score of chance by a study's file; below all scores where that does not say it.

    Args:
        objective: its setting; None in old studies.
        data: what the file says of the images.
    """
    if not objective or not data.get("validation_counts"):
        return -math.inf
    counts = class_counts(data["classes"], data["counts"], data["validation_counts"])
    scale = score_scale(objective_from(objective), counts)
    return scale.chance if scale else -math.inf


def named(objectives: Iterable[Metric], data: Mapping[str, Any]) -> list[Metric]:
    """Metrics that say their classes by name, as far as a study's file has the classes.

    Args:
        data: what the file says of the images.
    """
    if not data.get("classes") or not data.get("counts"):
        return list(objectives)
    counts = class_counts(data["classes"], data["counts"], data["counts"])
    found = list(objectives)
    try:
        return [metric.named(counts) for metric in found]
    except ConfigError:  # a file that was edited; its words stay as they are
        return found


def _counts(counts_K: Sequence[int] | Ints) -> str:
    """The counts one by one where there are few classes, else their range."""
    values = [int(count) for count in counts_K]
    low, high = min(values), max(values)
    if low == high:
        return str(low)
    return " ".join(map(str, values)) if len(values) <= LISTED else f"{low} to {high}"
