"""Choosing the threshold of a two-class model for a metric, with its uncertainty.

Shapes: N images, two classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imbtune.errors import ConfigError
from imbtune.inference.decisions.threshold import Threshold
from imbtune.metrics.metric import Metric, objective_from
from imbtune.metrics.predictions import ClassCounts, Confusion, Ints

Floats = NDArray[np.float64]

RESAMPLES = 500
COVERAGE = 0.95
MOST_CANDIDATES, RESAMPLED_CANDIDATES = 2000, 200
# Metrics of the ranking that are reached at one threshold: what is best there, and what must hold
AT_A_THRESHOLD = ("recall_at_precision", "precision_at_recall")


def threshold_metric(setting: object, key: str = "--metric") -> Metric:
    """A metric for which a threshold can be chosen.

    Raises:
        ConfigError: there is no such metric, or it is the same at every threshold.
    """
    metric = objective_from(setting, key)
    if metric.needs_logits and metric.name not in AT_A_THRESHOLD:
        raise ConfigError(
            f"{key} {metric.name} is the same at every threshold: give one of the predicted "
            "classes, such as f_beta, balanced_accuracy, expected_cost or recall_at_precision"
        )
    return metric


def choose_threshold(
    log_odds_N: Floats,
    labels_N: Ints,
    counts: ClassCounts,
    metric: Metric,
    positive: int,
    chosen_on: str,
) -> Threshold:
    """The threshold with the best score of a metric.

    Of thresholds that are equally good the middle one is taken. Uncertainty is that of 500
    resamples of the images of each class. In each of them a threshold is chosen; their spread is
    the threshold's interval. `corrected` is the mean metric of these thresholds on the images that
    their resamples leave out (the leave-one-out bootstrap: Efron & Tibshirani 1997, doi
    10.1080/01621459.1997.10474007). The interval around it has the spread of the chosen threshold's
    metric in the resamples.

    Args:
        log_odds_N: log(p / (1 - p)) of the positive class, for images that training did not see.
        labels_N: the index of each image's class.
        counts: names and training images of the classes.
        metric: of :func:`threshold_metric`.
        positive: index of the positive class.
        chosen_on: which images these are, for the file.

    Raises:
        ConfigError: a class has no image, or no threshold reaches what the metric asks for.
    """
    is_positive_N = labels_N == positive
    totals = (int(is_positive_N.sum()), int((~is_positive_N).sum()))
    if not all(totals):
        missing = counts.names[positive if not totals[0] else 1 - positive]
        raise ConfigError(
            f"no image of class '{missing}' in {chosen_on}: a threshold needs images of both"
        )
    scoring = _Scoring(metric, counts, positive, totals)
    cuts = _candidates(log_odds_N, is_positive_N, MOST_CANDIDATES)
    best, score = scoring.best(cuts)
    if score == -math.inf:
        raise ConfigError(f"no threshold reaches {metric} in {chosen_on}: ask for less")
    rows = [np.flatnonzero(is_positive_N), np.flatnonzero(~is_positive_N)]
    rng = np.random.default_rng(0)
    thresholds, values, left_out = list[float](), list[float](), list[float]()
    for _ in range(RESAMPLES):
        drawn = [rng.choice(of_class, len(of_class)) for of_class in rows]
        every = np.concatenate(drawn)
        z_N, hit_N = log_odds_N[every], is_positive_N[every]
        values.append(scoring.at(best, z_N, hit_N))
        again, apparent = scoring.best(_candidates(z_N, hit_N, RESAMPLED_CANDIDATES))
        if apparent == -math.inf:
            continue
        thresholds.append(again)
        others = [np.setdiff1d(of_class, some) for of_class, some in zip(rows, drawn, strict=True)]
        if all(map(len, others)):
            rest = np.concatenate(others)
            fewer = _Scoring(metric, counts, positive, (len(others[0]), len(others[1])))
            left_out.append(fewer.at(again, log_odds_N[rest], is_positive_N[rest]))
    return Threshold(
        str(counts.names[positive]),
        best,
        _interval(thresholds),
        metric.setting(),
        metric.sign * score,
        *_corrected(metric, score, values, left_out),
        metric.sign * scoring.at(0.0, log_odds_N, is_positive_N),
        chosen_on,
        {str(name): int((labels_N == index).sum()) for index, name in enumerate(counts.names)},
    )


def _corrected(
    metric: Metric, score: float, values: list[float], left_out: list[float]
) -> tuple[float, tuple[float, float]]:
    """The metric without its optimism, and its interval."""
    optimism = score - float(np.mean(left_out)) if left_out else 0.0
    worst, best = metric.bounds
    low, high = (min(max(bound - optimism, worst), best) for bound in _interval(values))
    ends = sorted((metric.sign * low, metric.sign * high))
    return metric.sign * min(max(score - optimism, worst), best), (ends[0], ends[1])


@dataclass(frozen=True)
class _Cuts:
    """Thresholds, and how many images of each kind are at or above each; all of one length."""

    log_odds: Floats
    hits: Ints
    alarms: Ints


@dataclass(frozen=True)
class _Scoring:
    """Scores thresholds: a higher one is better."""

    metric: Metric
    counts: ClassCounts
    positive: int
    totals: tuple[int, int]
    known: dict[tuple[int, int], tuple[float, float]] = field(default_factory=dict)

    def best(self, cuts: _Cuts) -> tuple[float, float]:
        """The threshold in the middle of the best ones, and its score; −inf where none is valid."""
        pairs = zip(cuts.hits.tolist(), cuts.alarms.tolist(), strict=True)
        scores = [self.score(hits, alarms) for hits, alarms in pairs]
        top = max(scores)
        equal = [index for index, score in enumerate(scores) if score == top]
        return float(cuts.log_odds[equal[len(equal) // 2]]), top[0]

    def at(self, log_odds: float, log_odds_N: Floats, is_positive_N: NDArray[np.bool_]) -> float:
        """The score at a threshold.

        For a recall at a precision it is the recall, whether the precision is reached or not.
        """
        predicted_N = log_odds_N >= log_odds
        hits = int((predicted_N & is_positive_N).sum())
        alarms = int((predicted_N & ~is_positive_N).sum())
        recall, precision = self._rates(hits, alarms)
        if self.metric.name == "recall_at_precision":
            return recall
        if self.metric.name == "precision_at_recall":
            return precision
        return self.score(hits, alarms)[0]

    def _rates(self, hits: int, alarms: int) -> tuple[float, float]:
        return hits / self.totals[0], hits / (hits + alarms) if hits + alarms else 1.0

    def score(self, hits: int, alarms: int) -> tuple[float, float]:
        """The score, and what decides between equal ones."""
        found = self.known.get((hits, alarms))
        if found is None:  # resamples have the same counts again and again
            found = self.known[hits, alarms] = self._score(hits, alarms)
        return found

    def _score(self, hits: int, alarms: int) -> tuple[float, float]:
        recall, precision = self._rates(hits, alarms)
        if self.metric.name == "recall_at_precision":
            enough = hits > 0 and precision >= float(self.metric.knobs["precision"])
            return (recall if enough else -math.inf), precision
        if self.metric.name == "precision_at_recall":
            enough = recall >= float(self.metric.knobs["recall"])
            return (precision if enough else -math.inf), recall
        matrix_22 = np.empty((2, 2), dtype=np.int64)
        own, other = self.positive, 1 - self.positive
        matrix_22[own, [own, other]] = hits, self.totals[0] - hits
        matrix_22[other, [own, other]] = alarms, self.totals[1] - alarms
        found = Confusion.of(matrix_22, self.counts.train_K, self.counts.names)
        score = self.metric.score(found)
        return (-math.inf if score is None else score), 0.0


def _candidates(log_odds_N: Floats, is_positive_N: NDArray[np.bool_], most: int) -> _Cuts:
    """The thresholds that can be best: all, none, and those below a positive image.

    Between two images that are next to each other the threshold is in the middle. At the same
    number of hits fewer alarms are better, so a threshold below a negative image is not best.
    """
    order = np.argsort(-log_odds_N, kind="stable")
    z_N, hit_N = log_odds_N[order], is_positive_N[order]
    last_N = np.append(z_N[1:] != z_N[:-1], True)  # of images with equal log-odds
    z_G = z_N[last_N]
    hits_G, seen_G = np.cumsum(hit_N)[last_N], np.flatnonzero(last_N) + 1
    alarms_G = seen_G - hits_G
    has_hit_G = np.diff(hits_G, prepend=0) > 0
    has_hit_G[-1] = True
    chosen = np.flatnonzero(has_hit_G)
    if len(chosen) > most:
        chosen = chosen[np.linspace(0, len(chosen) - 1, most).round().astype(np.int64)]
    below_G = np.append((z_G[:-1] + z_G[1:]) / 2, z_G[-1] - 1)
    return _Cuts(
        np.concatenate([[z_G[0] + 1], below_G[chosen]]),
        np.concatenate([[0], hits_G[chosen]]),
        np.concatenate([[0], alarms_G[chosen]]),
    )


def _interval(values: Sequence[float]) -> tuple[float, float]:
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(values, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)
