"""The standard error of a score: how much other images of the same classes would change it.

The images of each class are a sample of a fixed size. A mean of recalls has a closed form: a class
with h hits among n images has recall h/n with variance p(1 - p)/n, where p = (h + ½)/(n + 1) is
the mean of Jeffreys' posterior (Brown, Cai & DasGupta 2001, doi 10.1214/ss/1009213286). So the
error of a recall of 0 or 1 is not 0. All other metrics have the delete-a-group jackknife (Shao & Tu
1995, "The Jackknife and Bootstrap", section 2.3): the images are divided into G groups, each with
its share of every class, and the score is computed again without each of them:

    error² = (G - 1)/G · Σ_g (score without g - mean of these)²

No score between two bounds has a standard error above half of their distance, so neither has this
one. The jackknife needs that: where one image decides, such as a recall at a precision with two
images of the class, its group alone moves the score from 1 to 0, which counts as 0.95.

Training again with another seed adds to the error.

Shapes: N images, K classes, G groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from imbtune.metrics.from_confusion import recall_variance
from imbtune.metrics.metric import Metric
from imbtune.metrics.metric_registry import Spread
from imbtune.metrics.predictions import ClassCounts, Confusion, Floats, Ints, Predictions

JACKKNIFE_GROUPS = 20  # the error of a jackknifed error is then about 16 %
KEPT = -1  # the group of an image that is never left out


def image_groups(labels_N: Ints) -> Ints:
    """The group of each image, 0 … G-1, (N,); the same for all models that predict these images.

    The images of each class are shuffled and dealt to the groups in turn, and the dealing goes on
    from one class to the next, so that groups differ by at most one image. An image that is alone
    in its class is `KEPT`: without it the class would be undefined.
    """
    counts_K = np.bincount(labels_N)
    shuffled_N = np.lexsort((np.random.default_rng(0).random(len(labels_N)), labels_N))
    dealt_N = shuffled_N[counts_K[labels_N[shuffled_N]] > 1]
    groups_N = np.full(len(labels_N), KEPT)
    groups_N[dealt_N] = np.arange(len(dealt_N)) % JACKKNIFE_GROUPS
    return groups_N


def scores_without_groups(objective: Metric, predictions: Predictions) -> list[float]:
    """The score without each group of the images, (G,); empty where nothing can be left out."""
    labels_N = predictions.labels_N.cpu().numpy()
    groups_N = image_groups(labels_N)
    count = int(groups_N.max(initial=KEPT)) + 1
    if count < 2:
        return []
    left_out = _logits if objective.needs_logits else _confusions
    scores = [objective.score(part) for part in left_out(predictions, groups_N, count)]
    assert None not in scores, "every class keeps an image, so the metric stays defined"
    return [score for score in scores if score is not None]


def score_error(
    objective: Metric, predictions: Predictions, without_G: Sequence[float] | None = None
) -> float:
    """The standard error of the objective's score on these images.

    Args:
        objective: defined on these images.
        predictions: of one model.
        without_G: as `scores_without_groups` returns them, if they are known.
    """
    if objective.traits.error:
        return objective.traits.error(predictions.confusion)
    scores_G = np.asarray(
        scores_without_groups(objective, predictions) if without_G is None else without_G
    )
    error = max(jackknife_error(scores_G), least_error(objective, predictions.counts))
    low, high = objective.range_on(predictions.counts)
    return min(error, (high - low) / 2)


def jackknife_error(without_G: Floats) -> float:
    """The jackknife's standard error of the score; 0 with fewer than two groups."""
    groups = len(without_G)
    if groups < 2:
        return 0.0
    return float(math.sqrt((groups - 1) * without_G.var()))


def least_error(objective: Metric, counts: ClassCounts) -> float:
    """The error that a score has at least, where all images are predicted correctly.

    It is that of recalls of 1, by what the metric's error is like; 0 where that is unknown. In an
    AUROC an image on the wrong side is anywhere among those of the other side: it takes away not 1,
    but a uniform share U of it, and a mean of such shares has a third of the variance, as E[U²] is.
    """
    spread = objective.traits.spread
    if spread == Spread.UNKNOWN:
        return 0.0
    n_K = counts.held_out_K[members(objective, counts)]
    if spread in (Spread.CLASSES, Spread.AGREEMENT):
        share = 1 / 3 if objective.traits.is_area else 1.0
        weight_K = class_weights(spread, n_K)
        return math.sqrt(share * float((weight_K**2 * recall_variance(n_K, n_K)).sum()))
    n = int(n_K.sum() if spread == Spread.IMAGES else n_K.min())
    return math.sqrt(float(recall_variance(np.array(n), np.array(n))))


def class_weights(spread: Spread, n_K: Ints) -> Floats:
    """By how much the recall of each class moves the metric near its best value, (K,).

    Cohen's κ is (a - e)/(1 - e) with the accuracy a and the agreement by chance e, which is Σπ² for
    the shares π of the classes; Matthews' correlation is close to it there.

    Args:
        spread: CLASSES, IMAGES or AGREEMENT.
        n_K: images of each class that counts.
    """
    share_K: Floats = n_K / n_K.sum()
    if spread == Spread.CLASSES:
        return np.full(len(n_K), 1 / len(n_K))
    by_chance = float((share_K**2).sum()) if spread == Spread.AGREEMENT and len(n_K) > 1 else 0.0
    return share_K / (1 - by_chance)


def members(metric: Metric, counts: ClassCounts) -> NDArray[np.bool_]:
    """The classes whose images decide the standard error, (K,).

    Of a mean over classes those that it is a mean of; of one class, that class alone, or, where
    they count as much, the others if these are fewer images.

    Args:
        counts: of images on which the metric is defined.
    """
    if (index := metric.of_class(counts)) is not None:
        own_K: NDArray[np.bool_] = np.arange(len(counts.names)) == index
        is_larger = 2 * counts.held_out_K[index] > counts.held_out_K.sum()
        if is_larger and metric.traits.is_area:
            own_K = counts.defined_K & ~own_K
        return own_K
    chosen = metric.traits.members
    return chosen(counts) if chosen else counts.defined_K


def _confusions(predictions: Predictions, groups_N: Ints, count: int) -> Iterator[Confusion]:
    """The confusion matrix without each group."""
    whole = predictions.confusion
    labels_N = predictions.labels_N.cpu().numpy()
    predicted_N = predictions.logits_NK.argmax(1).cpu().numpy()
    for group in range(count):
        inside_N = groups_N == group
        matrix_KK = whole.matrix_KK.copy()
        np.subtract.at(matrix_KK, (labels_N[inside_N], predicted_N[inside_N]), 1)
        yield Confusion.of(matrix_KK, whole.counts.train_K, whole.counts.names)


def _logits(predictions: Predictions, groups_N: Ints, count: int) -> Iterator[Predictions]:
    """The predictions without each group."""
    for group, confusion in enumerate(_confusions(predictions, groups_N, count)):
        kept_N = predictions.labels_N.new_tensor(np.flatnonzero(groups_N != group))
        yield predictions.subset(kept_N, confusion.matrix_KK)
