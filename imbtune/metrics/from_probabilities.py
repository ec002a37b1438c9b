"""Metrics of the predicted probabilities, which are the softmax of the logits.

Rankings go by the logarithms of the probabilities in double precision. Images whose probabilities
are equal there are on the same side of every threshold, as in scikit-learn.

Shapes: N images, K classes, B images or classes of a block.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from imbtune.metrics.metric_registry import (
    FEWEST,
    LOGITS,
    LOWER,
    POSITIVE,
    Spread,
    class_from,
    metrics,
)
from imbtune.metrics.predictions import ClassCounts, Floats, Predictions
from imbtune.registry import Knob

_OF_ALL = Knob(
    "class against the others, by name or index; empty: the mean of all classes, or of two the one "
    "with fewer training images",
    read=class_from,
)
_OF_ONE = Knob(
    "class, by name or index; empty: the one with the fewest training images", read=class_from
)
_OF_WORDS = {"of": "of '{}'"}


def _chosen(values_K: Floats, counts: ClassCounts, of: str) -> float | None:
    """The value of a class, or the mean of the defined ones; None where there is none."""
    if of or len(values_K) == 2:
        values_K = values_K[[counts.index(of)]]
    defined = values_K[~np.isnan(values_K)]
    return float(defined.mean()) if len(defined) else None


def _auroc_chance(counts: ClassCounts, of: str) -> float | None:
    """A constant prediction does not rank: 1/2 for every class with images, but not with all."""
    defined_K = counts.defined_K & (counts.prior_K < 1)
    return _chosen(np.where(defined_K, 0.5, np.nan), counts, of)


def _precision_chance(counts: ClassCounts, of: str) -> float | None:
    """A constant prediction: the precision is the share of the class at every recall."""
    return _chosen(np.where(counts.defined_K, counts.prior_K, np.nan), counts, of)


@metrics.register(
    "auroc",
    help="area under the ROC curve, one class against the others",
    source="doi 10.1016/j.patrec.2005.10.010 (Fawcett 2006)",
    needs=LOGITS,
    chance=_auroc_chance,
    spread=Spread.CLASSES,
    of_nothing=POSITIVE,
    words=_OF_WORDS,
    is_area=True,
)
def auroc(predictions: Predictions, *, of: Annotated[str, _OF_ALL] = "") -> float | None:
    """The chance that an image of the class has a larger probability than another; ties: 1/2."""
    return _chosen(predictions.by_class[0], predictions.counts, of)


@metrics.register(
    "average_precision",
    help="average precision over the recalls, one class against the others",
    source="scikit-learn",
    needs=LOGITS,
    chance=_precision_chance,
    spread=Spread.CLASSES,
    of_nothing=POSITIVE,
    words=_OF_WORDS,
)
def average_precision(
    predictions: Predictions, *, of: Annotated[str, _OF_ALL] = ""
) -> float | None:
    """Σ (R_n - R_{n-1})·P_n over the thresholds, without interpolation."""
    return _chosen(predictions.by_class[1], predictions.counts, of)


def _reached_recall(counts: ClassCounts, precision: float, of: str) -> float | None:
    index = counts.index(of)
    if not counts.defined_K[index]:
        return None
    return float(counts.prior_K[index] >= precision)


def _reached_precision(counts: ClassCounts, recall: float, of: str) -> float | None:
    index = counts.index(of)
    return float(counts.prior_K[index]) if counts.defined_K[index] else None


@metrics.register(
    "recall_at_precision",
    help="largest recall of a class at a threshold with at least this precision; 0 if none has it",
    needs=LOGITS,
    chance=_reached_recall,
    spread=Spread.CLASSES,
    of_nothing=FEWEST,
    words={"precision": "precision ≥ {:g}", **_OF_WORDS},
)
def recall_at_precision(
    predictions: Predictions,
    *,
    precision: Annotated[float, Knob("the least precision", 0, 1)] = 0.9,
    of: Annotated[str, _OF_ONE] = "",
) -> float | None:
    """The largest recall with at least the precision; None for a class without images."""
    index = predictions.counts.index(of)
    if not predictions.counts.defined_K[index]:
        return None
    ranking = predictions.ranking(slice(index, index + 1))
    hits_N = ranking.hits_NB.where(ranking.precision_NB >= precision, 0)
    return float(hits_N.max()) / int(predictions.counts.held_out_K[index])


@metrics.register(
    "precision_at_recall",
    help="largest precision of a class at a threshold with at least this recall",
    needs=LOGITS,
    chance=_reached_precision,
    spread=Spread.CLASSES,
    of_nothing=FEWEST,
    words={"recall": "recall ≥ {:g}", **_OF_WORDS},
)
def precision_at_recall(
    predictions: Predictions,
    *,
    recall: Annotated[float, Knob("the least recall", 0, 1)] = 0.9,
    of: Annotated[str, _OF_ONE] = "",
) -> float | None:
    """The largest precision with at least the recall; None for a class without images."""
    index = predictions.counts.index(of)
    images = int(predictions.counts.held_out_K[index])
    if not images:
        return None
    if recall == 0:
        return 1.0  # of the threshold above all probabilities
    ranking = predictions.ranking(slice(index, index + 1))
    enough_N = ranking.hits_NB / images >= recall
    return float(ranking.precision_NB.where(enough_N, 0).max())


def _entropy(counts: ClassCounts) -> float:
    prior_K = counts.prior_K[counts.defined_K]
    return float(-(prior_K * np.log(prior_K)).sum())


@metrics.register(
    "log_loss",
    help="mean of -log p of the true class, in nats",
    needs=LOGITS,
    better=LOWER,
    chance=_entropy,
    high=np.inf,
    spread=Spread.UNKNOWN,
)
def log_loss(predictions: Predictions) -> float:
    """The mean negative logarithm of the true class's probability; nothing is clipped."""
    total = 0.0
    for rows in predictions.row_blocks():
        log_p_BK = predictions.log_probabilities(rows)
        total -= float(log_p_BK.gather(1, predictions.labels_N[rows][:, None]).sum())
    return total / len(predictions.labels_N)


@metrics.register(
    "brier",
    help="Brier score: mean squared error of the probabilities; for two classes half of it, 0 to 1",
    source="Brier 1950",
    needs=LOGITS,
    better=LOWER,
    chance=lambda counts: float((1 - (counts.prior_K**2).sum()) / (1 + (len(counts.prior_K) == 2))),
    high=2.0,
    range_on=lambda counts: (0.0, 1.0 if len(counts.prior_K) == 2 else 2.0),
    spread=Spread.UNKNOWN,
)
def brier(predictions: Predictions) -> float:
    """The mean over the images of Σ_k (p_k - y_k)², half of it for two classes."""
    total = 0.0
    for rows in predictions.row_blocks():
        p_BK = predictions.log_probabilities(rows).exp()
        label_B1 = predictions.labels_N[rows][:, None]
        error_BK = p_BK.scatter(1, label_B1, 1 - p_BK.gather(1, label_B1))
        total += float((error_BK**2).sum())
    halves = 2 if predictions.logits_NK.shape[1] == 2 else 1
    return total / len(predictions.labels_N) / halves


@metrics.register(
    "ece",
    help="expected calibration error of the predicted class, in bins of equal width",
    source="arXiv 1706.04599",
    needs=LOGITS,
    better=LOWER,
    chance=lambda _, **__: 1.0,  # the worst: a constant prediction is calibrated, so any may win
    has_chance_level=False,
    spread=Spread.UNKNOWN,
)
def ece(
    predictions: Predictions,
    *,
    bins: Annotated[int, Knob("number of bins of equal width in (0, 1]", 1, 1000)] = 15,
) -> float:
    """Σ over the bins (lower, upper] of their share of images · |accuracy - mean confidence|."""
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    confidences, hits = [], []
    for rows in predictions.row_blocks():
        top_B, predicted_B = predictions.log_probabilities(rows).max(1)
        confidences.append(top_B.exp().cpu().numpy())
        hits.append((predicted_B == predictions.labels_N[rows]).cpu().numpy())
    confidence_N, hit_N = np.concatenate(confidences), np.concatenate(hits)
    bin_N = np.searchsorted(inner, confidence_N, side="left")
    gaps = np.bincount(bin_N, weights=hit_N - confidence_N, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence_N))


def _same_for_all(classes: int, k: int) -> str:
    if k < classes:
        return ""
    return f"it is 1 for every model of {classes} classes: give a k of at most {classes - 1}"


@metrics.register(
    "top_k",
    help="share of the images with their class among the k most probable ones",
    needs=LOGITS,
    chance=lambda counts, k: float(np.sort(counts.prior_K)[-k:].sum()),
    spread=Spread.IMAGES,
    tells_nothing=_same_for_all,
)
def top_k(
    predictions: Predictions,
    *,
    k: Annotated[int, Knob("how many of the most probable classes count", 1, 10**6)] = 5,
) -> float:
    """The share of the images with their class among the k largest logits.

    Of classes with equal logits the one with the larger index comes first, as in scikit-learn.
    """
    hits = 0
    for rows in predictions.row_blocks():
        logits_BK, label_B1 = predictions.logits_NK[rows], predictions.labels_N[rows][:, None]
        own_B1 = logits_BK.gather(1, label_B1)
        index_BK = (logits_BK == logits_BK).long().cumsum(1) - 1
        before_BK = (logits_BK > own_B1) | ((logits_BK == own_B1) & (index_BK > label_B1))
        hits += int((before_BK.sum(1) < k).sum())
    return hits / len(predictions.labels_N)
