"""Metrics of the predicted classes, from the confusion matrix.

Classes without images have no recall and no F-score, so no mean includes them; images that are
predicted as such a class are errors.

Shapes: K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from imbtune.metrics.costs import EVERY_ERROR_1, Costs, costs_from
from imbtune.metrics.metric_registry import (
    CONFUSION,
    LOWER,
    MEAN,
    Spread,
    class_from,
    metrics,
)
from imbtune.metrics.predictions import ClassCounts, Confusion, Floats, Ints
from imbtune.registry import Knob

# many-shot: more than 100 training images, few-shot: fewer than 20 (Liu et al. 2019, 1904.05160)
MANY, FEW = 100, 20
LIU = "arXiv 1904.05160"


def recalls(confusion_KK: Ints) -> Floats:
    """Recall of each class, (K,), in [0, 1]; NaN for a class without images."""
    totals_K = confusion_KK.sum(1)
    with np.errstate(invalid="ignore"):
        recall_K: Floats = np.diag(confusion_KK) / totals_K
    return recall_K


def _defined_recalls(confusion: Confusion) -> Floats:
    recall_K = recalls(confusion.matrix_KK)
    defined: Floats = recall_K[confusion.counts.defined_K]
    return defined


def recall_variance(hits: Floats | Ints, images: Floats | Ints) -> Floats:
    """p(1 - p)/n with p = (h + ½)/(n + 1), the mean of Jeffreys' posterior; at least one image.

    A recall of 0 or 1 has a variance too (Brown, Cai & DasGupta 2001, doi 10.1214/ss/1009213286).
    """
    images_K = np.asarray(images, np.float64)
    p: Floats = (np.asarray(hits, np.float64) + 0.5) / (images_K + 1)
    variance: Floats = p * (1 - p) / images_K
    return variance


def _variances(confusion: Confusion, members_K: NDArray[np.bool_]) -> Floats:
    """The variance of the recall of each of some classes."""
    matrix_KK = confusion.matrix_KK
    return recall_variance(np.diag(matrix_KK)[members_K], matrix_KK.sum(1)[members_K])


def _error_of_the_mean_recall(confusion: Confusion) -> float:
    defined_K = confusion.counts.defined_K
    return float(np.sqrt(_variances(confusion, defined_K).sum()) / defined_K.sum())


def _error_of_the_accuracy(confusion: Confusion) -> float:
    counts = confusion.counts
    prior_K = counts.prior_K[counts.defined_K]
    return float(np.sqrt((prior_K**2 * _variances(confusion, counts.defined_K)).sum()))


def _error_of_the_smallest_recall(confusion: Confusion) -> float:
    """That of the class with the smallest recall; of several, the largest error."""
    variance_K = _variances(confusion, confusion.counts.defined_K)
    recall_K = _defined_recalls(confusion)
    return float(np.sqrt(variance_K[recall_K == recall_K.min()].max()))


def _one_class_only(counts: ClassCounts) -> float:
    """Chance of a metric that is 0 where one class is never recognised."""
    return float(counts.defined_K.sum() == 1)


@metrics.register(
    "balanced_accuracy",
    help="mean recall of the classes",
    needs=CONFUSION,
    chance=lambda counts: float(1 / counts.defined_K.sum()),
    spread=Spread.CLASSES,
    error=_error_of_the_mean_recall,
)
def balanced_accuracy(confusion: Confusion) -> float:
    """The mean recall of the classes."""
    return float(_defined_recalls(confusion).mean())


@metrics.register(
    "accuracy",
    help="share of the images that are classified correctly (top-1)",
    needs=CONFUSION,
    chance=lambda counts: float(counts.prior_K.max()),
    spread=Spread.IMAGES,
    error=_error_of_the_accuracy,
)
def accuracy(confusion: Confusion) -> float:
    """The share of the images that are classified correctly."""
    return float(np.diag(confusion.matrix_KK).sum() / confusion.matrix_KK.sum())


def _f_beta_chance(counts: ClassCounts, beta: float, of: str) -> float | None:
    """A class with share π that is predicted for all images: precision π, recall 1."""
    f_K = (1 + beta**2) * counts.prior_K / (beta**2 * counts.prior_K + 1)
    if of:
        index = counts.index(of)
        return float(f_K[index]) if counts.defined_K[index] else None
    return float(f_K.max() / counts.defined_K.sum())


def _f_scores(matrix_KK: Ints, beta_squared: float) -> Floats:
    """The F-score of each class: (1+β²)·hits / (β²·labelled + predicted); 0 without any."""
    hits_K = np.diag(matrix_KK)
    weighted_K = beta_squared * matrix_KK.sum(1) + matrix_KK.sum(0)
    f_K: Floats = (1 + beta_squared) * hits_K / np.where(weighted_K > 0, weighted_K, 1)
    return f_K


@metrics.register(
    "macro_f1",
    help="mean F1 score of the classes",
    needs=CONFUSION,
    chance=lambda counts: _f_beta_chance(counts, 1.0, ""),
    spread=Spread.CLASSES,
)
def macro_f1(confusion: Confusion) -> float:
    """The mean F1 score of the classes."""
    return float(_f_scores(confusion.matrix_KK, 1)[confusion.counts.defined_K].mean())


@metrics.register(
    "worst_class",
    help="smallest recall of a class",
    needs=CONFUSION,
    chance=_one_class_only,
    spread=Spread.WORST,
    error=_error_of_the_smallest_recall,
)
def worst_class(confusion: Confusion) -> float:
    """The smallest recall of a class."""
    return float(_defined_recalls(confusion).min())


@metrics.register(
    "g_mean",
    help="geometric mean of the recalls",
    source="Kubat & Matwin 1997",
    needs=CONFUSION,
    chance=_one_class_only,
    spread=Spread.WORST,
)
def g_mean(confusion: Confusion) -> float:
    """The K-th root of the product of the recalls; 0 where one is 0."""
    recall_K = _defined_recalls(confusion)
    return float(np.exp(np.log(recall_K).mean())) if recall_K.all() else 0.0


@metrics.register(
    "harmonic_mean",
    help="harmonic mean of the recalls",
    needs=CONFUSION,
    chance=_one_class_only,
    spread=Spread.WORST,
)
def harmonic_mean(confusion: Confusion) -> float:
    """K over the sum of 1 / recall; 0 where one is 0."""
    recall_K = _defined_recalls(confusion)
    return float(1 / (1 / recall_K).mean()) if recall_K.all() else 0.0


@metrics.register(
    "mcc",
    help="Matthews correlation coefficient; for K classes Gorodkin's R_K",
    source="doi 10.1016/j.compbiolchem.2004.09.006",
    needs=CONFUSION,
    chance=lambda _: 0.0,
    low=-1.0,
    spread=Spread.AGREEMENT,
)
def mcc(confusion: Confusion) -> float:
    """Gorodkin's R_K; 0 where all images are of one class, or are predicted as one."""
    matrix_KK = confusion.matrix_KK / confusion.matrix_KK.sum()
    label_K, predicted_K = matrix_KK.sum(1), matrix_KK.sum(0)
    if np.count_nonzero(label_K) == 1 or np.count_nonzero(predicted_K) == 1:
        return 0.0
    covariance = np.trace(matrix_KK) - label_K @ predicted_K
    variances = (1 - label_K @ label_K) * (1 - predicted_K @ predicted_K)
    return float(covariance / np.sqrt(variances))


@metrics.register(
    "cohen_kappa",
    help="Cohen's κ: agreement of labels and predictions beyond chance",
    source="doi 10.1177/001316446002000104",
    needs=CONFUSION,
    chance=lambda _: 0.0,
    low=-1.0,
    spread=Spread.AGREEMENT,
)
def cohen_kappa(confusion: Confusion) -> float:
    """(observed - expected) / (1 - expected); 0 where all images are rightly of one class."""
    matrix_KK = confusion.matrix_KK / confusion.matrix_KK.sum()
    label_K, predicted_K = matrix_KK.sum(1), matrix_KK.sum(0)
    if np.count_nonzero(label_K) == 1 or np.count_nonzero(predicted_K) == 1:
        return 0.0
    expected = label_K @ predicted_K
    return float((np.trace(matrix_KK) - expected) / (1 - expected))


@metrics.register(
    "f_beta",
    help="F-score with recall β times as important as precision: mean of the classes, or of one",
    source="van Rijsbergen 1979",
    needs=CONFUSION,
    chance=_f_beta_chance,
    spread=Spread.CLASSES,
    of_nothing=MEAN,
    words={"of": "of '{}'"},
)
def f_beta(
    confusion: Confusion,
    *,
    beta: Annotated[float, Knob("weight β of recall against precision", 0.01, 100)] = 2.0,
    of: Annotated[str, Knob("class, by name or index; empty: all", read=class_from)] = "",
) -> float | None:
    """(1+β²)·P·R / (β²·P + R): the mean of the classes, or that of one."""
    f_K, counts = _f_scores(confusion.matrix_KK, beta**2), confusion.counts
    if of:
        index = counts.index(of)
        return float(f_K[index]) if counts.defined_K[index] else None
    return float(f_K[counts.defined_K].mean())


def _least_cost(counts: ClassCounts, costs: Costs) -> float:
    """The cost of predicting the class that is cheapest for all images."""
    return float((counts.prior_K @ costs.matrix(counts.names)).min())


def _costs_between(counts: ClassCounts, costs: Costs) -> tuple[float, float]:
    """The costs of predicting each class as the cheapest one, and as the most expensive one."""
    costs_KK = costs.matrix(counts.names)
    return float(counts.prior_K @ costs_KK.min(1)), float(counts.prior_K @ costs_KK.max(1))


@metrics.register(
    "expected_cost",
    help="mean cost of an image, by its class (row) and the predicted one (column)",
    source="doi 10.5555/1642194.1642224 (Elkan 2001)",
    needs=CONFUSION,
    better=LOWER,
    chance=_least_cost,
    high=np.inf,
    range_on=_costs_between,
    words={"costs": "{}"},
    spread=Spread.UNKNOWN,
)
def expected_cost(
    confusion: Confusion,
    *,
    costs: Annotated[
        Costs,
        Knob(
            "by class names, such as {fraud: {normal: 20}}, others 1; or a row for each class, "
            "such as [[0, 1], [10, 0]]; empty: 1",
            read=costs_from,
        ),
    ] = EVERY_ERROR_1,
) -> float:
    """The mean over the images of the cost of predicting its class as another one."""
    matrix_KK = confusion.matrix_KK
    costs_KK = costs.matrix(confusion.counts.names)
    return float((matrix_KK * costs_KK).sum() / matrix_KK.sum())


def _group(name: str, help: str, is_member: Callable[[Ints], NDArray[np.bool_]]) -> None:
    """Register the mean recall of the classes of a size."""

    def members(counts: ClassCounts) -> NDArray[np.bool_]:
        return is_member(counts.train_K) & counts.defined_K

    def chance(counts: ClassCounts) -> float | None:
        found = int(members(counts).sum())
        return 1 / found if found else None

    def mean_recall(confusion: Confusion) -> float | None:
        members_K = members(confusion.counts)
        return float(recalls(confusion.matrix_KK)[members_K].mean()) if members_K.any() else None

    metrics.register(
        name,
        help=help,
        source=LIU,
        needs=CONFUSION,
        chance=chance,
        spread=Spread.CLASSES,
        members=members,
    )(mean_recall)


_group(
    "many",
    f"mean recall of the classes with more than {MANY} training images",
    lambda train_K: train_K > MANY,
)
_group(
    "medium",
    f"mean recall of the classes with {FEW} to {MANY} training images",
    lambda train_K: (train_K >= FEW) & (train_K <= MANY),
)
_group(
    "few",
    f"mean recall of the classes with fewer than {FEW} training images",
    lambda train_K: train_K < FEW,
)
