"""Every metric of a model on labelled images, with a 95 % interval.

The intervals come from a bootstrap over the images, stratified by class: each resample has as many
images of each class as the data. So they are of data with these class counts; what another draw of
the counts would add is not in them, nor is the chance in training (other seeds). Their ends are
those of the bias-corrected percentile method (Efron 1981, doi 10.2307/3314608): a resample has
images twice, which shifts average precision and ECE.

Shapes: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

from imbtune.metrics.class_scores import class_scores
from imbtune.metrics.intervals import NORMAL, wilson
from imbtune.metrics.metric import compute
from imbtune.metrics.predictions import Floats, Ints, Predictions

# Resamples, by the number of values of all logits: the more images, the slower is one, and the
# closer is the interval to that of a normal distribution, which needs fewer
RESAMPLES = ((10**5, 400), (10**6, 100))
FEWEST = 40
PERCENTILES_FROM = 200  # resamples; with fewer, the interval is ±1.96 standard deviations of them


@dataclass(frozen=True)
class MetricInterval:
    """One metric.

    Attributes:
        name: of the metric.
        value: in its own range.
        low: lower end of the 95 % interval; None where every resample has the same value, as it has
            without a single error, so that resampling tells nothing.
        high: upper end.
    """

    name: str
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ClassRow:
    """One class against the others.

    Attributes:
        name: of the class.
        train: its training images.
        images: labelled with it.
        predicted: predicted as it.
        recall: share of its images that are predicted as it; None without images.
        recall_low: lower end of the recall's 95 % interval (Wilson).
        recall_high: upper end.
        precision: share of the images predicted as it that are of it; None where there are none.
        f1: harmonic mean of both; 0 where nothing is right; None without images.
        auroc: area under the ROC curve; None where undefined.
        average_precision: None without images.
    """

    name: str
    train: int
    images: int
    predicted: int
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    precision: float | None
    f1: float | None
    auroc: float | None
    average_precision: float | None


def default_resamples(logits_NK: Tensor) -> int:
    """How many resamples are drawn unless the user gives a number."""
    for most, count in RESAMPLES:
        if logits_NK.numel() <= most:
            return count
    return FEWEST


def metric_intervals(
    logits_NK: Tensor,
    labels_N: Tensor,
    predicted_N: Tensor,
    names: Sequence[str],
    train_K: Ints,
    resamples: int,
) -> list[MetricInterval]:
    """Every metric that is defined, with its interval.

    Args:
        logits_NK: whose softmax are the probabilities.
        labels_N: the true classes.
        predicted_N: the predicted ones, which a threshold may decide.
        names: of the classes.
        train_K: training images of each class.
        resamples: how many are drawn.

    Raises:
        DivergenceError: a logit is not finite.
    """

    def values(rows: Tensor | slice) -> dict[str, float | None]:
        matrix_KK = confusion(labels_N[rows], predicted_N[rows], len(names))
        return compute(Predictions(logits_NK[rows], labels_N[rows], names, train_K, matrix_KK))

    found = {name: value for name, value in values(slice(None)).items() if value is not None}
    rng = np.random.default_rng(0)
    labels = labels_N.cpu().numpy()
    of_class = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    drawn: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(resamples):
        rows = np.concatenate([rng.choice(members, len(members)) for members in of_class])
        for name, value in values(torch.from_numpy(rows).to(labels_N.device)).items():
            if name in drawn and value is not None:
                drawn[name].append(value)
    return [
        MetricInterval(name, value, *_ends(value, drawn[name])) for name, value in found.items()
    ]


def _ends(value: float, drawn: Sequence[float]) -> tuple[float | None, float | None]:
    """The ends of the interval; both None where the resamples do not differ."""
    if len(drawn) < 2 or min(drawn) == max(drawn):
        return None, None
    values = np.array(drawn)
    if len(drawn) >= PERCENTILES_FROM:
        below = float((values < value).mean() + (values == value).mean() / 2)
        bias = norm.ppf(np.clip(below, 1 / len(drawn), 1 - 1 / len(drawn)))
        tails = norm.cdf([2 * bias - NORMAL, 2 * bias + NORMAL])
        low, high = np.quantile(values, tails)
        return float(low), float(high)
    spread = NORMAL * float(values.std(ddof=1))
    # no further than any resample: metrics have bounds
    return max(value - spread, min(drawn)), min(value + spread, max(drawn))


def confusion(labels_N: Tensor, predicted_N: Tensor, classes: int) -> Ints:
    """The confusion matrix: images of class i (row) that are predicted as class j (column)."""
    flat: Ints = (labels_N * classes + predicted_N).bincount(minlength=classes**2).cpu().numpy()
    return flat.reshape(classes, classes)


def class_rows(
    logits_NK: Tensor,
    labels_N: Tensor,
    predicted_N: Tensor,
    names: Sequence[str],
    train_K: Ints,
) -> list[ClassRow]:
    """Every class against the others. The arguments are those of :func:`metric_intervals`."""
    matrix_KK = confusion(labels_N, predicted_N, len(names))
    predictions = Predictions(logits_NK, labels_N, names, train_K, matrix_KK)
    auroc_K, average_K = predictions.by_class
    recall_K, precision_K, f1_K = class_scores(matrix_KK)
    hits_K, images_K, predicted_K = np.diag(matrix_KK), matrix_KK.sum(1), matrix_KK.sum(0)
    return [
        ClassRow(
            str(name),
            int(train_K[k]),
            int(images_K[k]),
            int(predicted_K[k]),
            _defined(recall_K[k]),
            *wilson(int(hits_K[k]), int(images_K[k])),
            _defined(precision_K[k]),
            _defined(f1_K[k]),
            _defined(auroc_K[k]),
            _defined(average_K[k]),
        )
        for k, name in enumerate(names)
    ]


def _defined(value: Floats | NDArray[np.float64] | float) -> float | None:
    number = float(value)
    return None if np.isnan(number) else number
