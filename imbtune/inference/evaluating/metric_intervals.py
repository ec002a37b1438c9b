"""Every metric of a model on labelled images, with a 95 % interval.

The intervals are those of other images, as many of each class as the data. What another draw of the
counts would add is not in them, nor is the chance in training (other seeds). Each comes from the
metric's standard error and stays within its bounds (:mod:`imbtune.metrics.metric_interval`):

- Metrics of the predicted classes: the recall of a single class, such as `few` with one class, has
  Wilson's interval, as the row of the class; for others, confusion matrices are drawn that other
  images would give.
- Metrics of the probabilities: a bootstrap over the images, stratified by class. Of n images of a
  class n - 1 are drawn, which gives the variance of a mean without bias (Rao & Wu 1988, doi
  10.1080/01621459.1988.10478591). The error is at least that without any error of ranking.

A recall at a precision is a maximum over thresholds, which a few images make too high. Its lower
end is at most what is certain: the lower end of the recall at the thresholds whose precision is
above the wanted one with its whole interval. So its interval is conservative. The ECE of few images
is too high as well: the middle of its interval is without what calibrated probabilities would have.

Shapes: N images, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbtune.metrics.class_scores import class_scores
from imbtune.metrics.intervals import wilson
from imbtune.metrics.metric import Metric, all_metrics
from imbtune.metrics.metric_interval import interval_of, other_images, spread_of
from imbtune.metrics.metric_registry import GROUPS
from imbtune.metrics.predictions import Confusion, Floats, Predictions
from imbtune.metrics.score_error import members

# Resamples, by the number of values of all logits: the more images, the slower is one
RESAMPLES = ((10**5, 200), (10**6, 100), (10**7, 40))
FEWEST = 20
CALIBRATED = 20  # draws of labels for the ECE of calibrated probabilities


@dataclass(frozen=True)
class MetricInterval:
    """One metric.

    Attributes:
        name: of the metric.
        title: the name with the metric's knobs in words.
        value: in its own range.
        low: lower end of the 95 % interval; None without resamples.
        high: upper end.
    """

    name: str
    title: str
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
    predictions: Predictions, resamples: int, objectives: Sequence[Metric] = ()
) -> list[MetricInterval]:
    """Every metric that is defined and tells something, with its interval.

    Args:
        predictions: whose confusion matrix a threshold may have decided.
        resamples: how many are drawn; fewer than two for no intervals.
        objectives: their knobs count for the metrics of their names.

    Raises:
        DivergenceError: a logit is not finite.
    """
    counts = predictions.counts
    telling = [m for m in all_metrics(objectives) if m.tells_of(len(counts.names))]
    values = {m.name: v for m in telling if (v := m.value(predictions)) is not None}
    telling = [metric for metric in telling if metric.name in values]
    drawn: dict[str, list[float]] = {name: [] for name in values}
    if resamples > 1:
        for of_logits in (False, True):
            chosen = [metric for metric in telling if metric.needs_logits == of_logits]
            others = _resamples if of_logits else _other_confusions
            for other in others(predictions, resamples):
                for metric in chosen:
                    if (number := metric.value(other)) is not None:
                        drawn[metric.name].append(number)
    found = []
    for metric in telling:
        value, of_others = values[metric.name], drawn[metric.name]
        low, high = None, None
        if len(of_others) > 1:
            low, high = _ends(metric, predictions, value, spread_of(of_others))
        found.append(MetricInterval(metric.name, metric.title(counts), value, low, high))
    return found


def _other_confusions(predictions: Predictions, count: int) -> Iterator[Confusion]:
    return other_images(predictions.confusion, count)


def _resamples(predictions: Predictions, count: int) -> Iterator[Predictions]:
    """The predictions of images that are drawn of each class with replacement."""
    rng = np.random.default_rng(0)
    labels_N = predictions.labels_N.cpu().numpy()
    of_class = [np.flatnonzero(labels_N == k) for k in np.unique(labels_N)]
    for _ in range(count):
        rows = np.concatenate([rng.choice(images, max(1, len(images) - 1)) for images in of_class])
        kept_N = predictions.labels_N.new_tensor(rows)
        # None of the metrics of probabilities reads the predicted classes, but the counts of labels
        matrix_KK = np.diag(np.bincount(labels_N[rows], minlength=len(predictions.names)))
        yield predictions.subset(kept_N, matrix_KK)


def _ends(
    metric: Metric, predictions: Predictions, value: float, error: float
) -> tuple[float, float]:
    """The ends of the interval of one metric."""
    counts = predictions.counts
    if metric.name in GROUPS and (members_K := members(metric, counts)).sum() == 1:
        images = int(counts.held_out_K[members_K][0])  # the recall of one class, as in its row
        low, high = wilson(value * images, images)
        assert low is not None and high is not None, "it has images"
        return low, high
    if metric.name == "ece":
        by_chance = _of_calibrated(metric, predictions)
        value = math.sqrt(max(value**2 - by_chance**2, 0.0))
    low, high = interval_of(metric, counts, value, error)
    if metric.name == "recall_at_precision":
        index = counts.index(str(metric.knobs["of"]))
        low = min(low, _certain_recall(predictions, index, metric.number("precision")))
    return low, high


def _certain_recall(predictions: Predictions, index: int, precision: float) -> float:
    """The lower end of the recall at thresholds that have the precision for certain; 0 if none."""
    ranking = predictions.ranking(slice(index, index + 1))
    hits_N, alarms_N = ranking.hits_NB[:, 0].tolist(), ranking.alarms_NB[:, 0].tolist()
    certain = [
        hits
        for hits, alarms in zip(hits_N, alarms_N, strict=True)
        if hits / (hits + alarms) > precision
        and (low := wilson(hits, hits + alarms)[0]) is not None
        and low > precision
    ]
    return wilson(max(certain), predictions.counts.held_out_K[index])[0] or 0.0 if certain else 0.0


def _of_calibrated(metric: Metric, predictions: Predictions) -> float:
    """The mean ECE of these probabilities for labels that are drawn from them."""
    rng = torch.Generator().manual_seed(0)
    p_NK = torch.cat(
        [predictions.log_probabilities(rows).exp().cpu() for rows in predictions.row_blocks()]
    )
    found = []
    for _ in range(CALIBRATED):
        labels_N = torch.multinomial(p_NK, 1, generator=rng)[:, 0].to(predictions.labels_N.device)
        value = metric.value(replace(predictions, labels_N=labels_N))
        assert value is not None, "it is defined for any labels"
        found.append(value)
    return float(np.mean(found))


def class_rows(predictions: Predictions) -> list[ClassRow]:
    """Every class against the others."""
    matrix_KK = predictions.confusion.matrix_KK
    names, train_K = predictions.names, predictions.train_K
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
