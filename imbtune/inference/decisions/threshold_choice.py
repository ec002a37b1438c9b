"""Choosing the threshold of a two-class model for a metric, with its uncertainty.

Shapes: N images, two classes, G thresholds, R resamples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imbtune.errors import ConfigError
from imbtune.inference.decisions.threshold import Threshold
from imbtune.metrics.intervals import NORMAL, wilson
from imbtune.metrics.metric import Metric, objective_from
from imbtune.metrics.metric_interval import metric_interval
from imbtune.metrics.predictions import ClassCounts, Confusion, Ints

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

RESAMPLES = 500
MOST_CANDIDATES, RESAMPLED_CANDIDATES = 2000, 100
# Metrics of the ranking that are reached at one threshold, and the knob that must hold there
AT_A_THRESHOLD = {"recall_at_precision": "precision", "precision_at_recall": "recall"}


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

    Of thresholds that are equally good the middle one is taken.

    `corrected` is what the metric is expected to be on other images. In each of 500 resamples of
    the images of each class a threshold is chosen, and used for the images that the resample leaves
    out (the leave-one-out bootstrap: Efron & Tibshirani 1997, doi 10.1080/01621459.1997.10474007).
    `corrected` is the metric of the mean shares of positive predictions among them. Its interval
    comes from its standard error with as many images as these
    (:func:`imbtune.metrics.metric_interval.metric_interval`), so a sample without an error does not
    make it short. For the cost of a few images it is conservative.

    The threshold's interval has all thresholds that are not worse than the chosen one beyond
    chance: by the paired differences in the resamples, or, where a precision or recall is asked
    for, those whose precision or recall cannot be told from it. An end is infinite where no
    threshold on that side is worse.

    Args:
        log_odds_N: log(p / (1 - p)) of the positive class, for images that training did not see.
        labels_N: the index of each image's class.
        counts: names, training images and these images of the classes.
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
    ordered = _Ordered.of(log_odds_N, is_positive_N)
    cuts = ordered.cuts(MOST_CANDIDATES)
    best, score = scoring.best(cuts)
    if score == -math.inf:
        raise ConfigError(f"no threshold reaches {metric} in {chosen_on}: ask for less")
    fewer = ordered.cuts(RESAMPLED_CANDIDATES, also=float(cuts.log_odds[best]))
    resampled = _resample(ordered, fewer, scoring)
    at_zero = ordered.counts_at(0.0)
    return Threshold(
        str(counts.names[positive]),
        float(cuts.log_odds[best]),
        _threshold_interval(fewer, resampled, scoring, float(cuts.log_odds[best])),
        metric.setting(),
        scoring.of_score(score),
        *scoring.expected(resampled.left_out_rates),
        None
        if scoring.score(*at_zero)[0] == -math.inf
        else scoring.of_score(scoring.value(*at_zero)),
        scoring.constant(),
        chosen_on,
        {str(name): int((labels_N == index).sum()) for index, name in enumerate(counts.names)},
    )


@dataclass(frozen=True, eq=False)
class _Cuts:
    """Thresholds in descending order, and what is at or above each; all of one length.

    Attributes:
        log_odds: the thresholds.
        hits: positive images.
        alarms: other images.
        above: images of both kinds, which are the first ones in the order of the images.
    """

    log_odds: Floats
    hits: Ints
    alarms: Ints
    above: Ints


@dataclass(frozen=True, eq=False)
class _Ordered:
    """The images by descending log-odds."""

    log_odds_N: Floats
    is_positive_N: Bools

    @classmethod
    def of(cls, log_odds_N: Floats, is_positive_N: Bools) -> _Ordered:
        order = np.argsort(-log_odds_N, kind="stable")
        return cls(log_odds_N[order], is_positive_N[order])

    def counts_at(self, log_odds: float) -> tuple[int, int]:
        """The positive and the other images at or above a threshold."""
        above_N = self.log_odds_N >= log_odds
        return int((above_N & self.is_positive_N).sum()), int((above_N & ~self.is_positive_N).sum())

    def cuts(self, most: int, also: float | None = None) -> _Cuts:
        """The thresholds that can be best: all, none, and those below a positive image.

        Between two images that are next to each other the threshold is in the middle. At the same
        number of hits fewer alarms are better, so a threshold below a negative image is not best.

        Args:
            most: of the thresholds; evenly chosen where there are more.
            also: one that stays.
        """
        z_N, hit_N = self.log_odds_N, self.is_positive_N
        last_N = np.append(z_N[1:] != z_N[:-1], True)  # of images with equal log-odds
        z_G = z_N[last_N]
        above_G = np.flatnonzero(last_N) + 1
        hits_G = np.cumsum(hit_N)[last_N]
        below_G = np.append((z_G[:-1] + z_G[1:]) / 2, z_G[-1] - 1)
        has_hit_G = np.diff(hits_G, prepend=0) > 0
        has_hit_G[-1] = True
        chosen = np.flatnonzero(has_hit_G)
        if len(chosen) > most:
            kept = chosen[np.linspace(0, len(chosen) - 1, most).round().astype(np.int64)]
            chosen = np.unique(np.append(kept, chosen[below_G[chosen] == also]))
        above = np.concatenate([[0], above_G[chosen]])
        hits = np.concatenate([[0], hits_G[chosen]])
        return _Cuts(np.concatenate([[z_G[0] + 1], below_G[chosen]]), hits, above - hits, above)


@dataclass(frozen=True, eq=False)
class _Resampled:
    """What the resamples say.

    Attributes:
        scores_RG: of each threshold in each resample; −inf where it is not valid.
        left_out_rates: share of the left-out images that are predicted as positive, at the best
            threshold of each resample: the mean over the resamples of positive and other images.
    """

    scores_RG: Floats
    left_out_rates: Floats


def _resample(ordered: _Ordered, cuts: _Cuts, scoring: _Scoring) -> _Resampled:
    """Resample the images of each class, and choose a threshold in each resample."""
    rng = np.random.default_rng(0)
    kinds = (ordered.is_positive_N, ~ordered.is_positive_N)
    drawn_RN = np.zeros((RESAMPLES, len(ordered.log_odds_N)), dtype=np.int64)
    for is_kind_N in kinds:
        count = int(is_kind_N.sum())
        shares = np.full(count, 1 / count)
        drawn_RN[:, is_kind_N] = rng.multinomial(count, shares, size=RESAMPLES)
    hits_RG, alarms_RG = (_sums(drawn_RN * is_kind_N, cuts.above) for is_kind_N in kinds)
    scores_RG, ties_RG = scoring.scores(hits_RG, alarms_RG)
    best_R = _middle_of_best(scores_RG, ties_RG)
    rows = np.arange(RESAMPLES)
    # Where no threshold reaches what the metric asks for, none of the images is predicted positive
    best_R[scores_RG[rows, best_R] == -math.inf] = 0
    rates = []
    for is_kind_N, whole_G in zip(kinds, (cuts.hits, cuts.alarms), strict=True):
        left_RN = (drawn_RN == 0) & is_kind_N
        total_R = left_RN.sum(1)
        positive_R = _sums(left_RN, cuts.above)[rows, best_R]
        # A class of one image is never left out: its share on all images counts
        apparent_R = whole_G[best_R] / whole_G[-1]
        rates.append(np.where(total_R > 0, positive_R / np.maximum(total_R, 1), apparent_R).mean())
    return _Resampled(scores_RG, np.array(rates))


def _sums(values_RN: NDArray[np.int64] | Bools, above_G: Ints) -> Ints:
    """The sum of the first `above` values, for each threshold (R, G)."""
    sums_RN = np.cumsum(values_RN, axis=1)
    found: Ints = np.concatenate([np.zeros((len(sums_RN), 1), np.int64), sums_RN], 1)[:, above_G]
    return found


def _middle_of_best(scores_RG: Floats, ties_RG: Floats) -> Ints:
    """The index of the middle one of the best thresholds of each row, (R,)."""
    is_best_RG = scores_RG == scores_RG.max(1, keepdims=True)
    ties_RG = np.where(is_best_RG, ties_RG, -math.inf)
    is_best_RG &= ties_RG == ties_RG.max(1, keepdims=True)
    rank_RG = is_best_RG.cumsum(1)
    middle: Ints = (rank_RG > rank_RG[:, -1:] // 2).argmax(1)
    return middle


def _threshold_interval(
    cuts: _Cuts, resampled: _Resampled, scoring: _Scoring, chosen: float
) -> tuple[float, float]:
    """The thresholds that are not worse than the chosen one beyond chance: lowest and highest."""
    if knob := AT_A_THRESHOLD.get(scoring.metric.name):
        wanted = float(scoring.metric.knobs[knob])
        of_G = cuts.above if knob == "precision" else np.full(len(cuts.above), scoring.totals[0])
        kept_G = np.zeros(len(of_G), dtype=bool)
        for index, (hits, images) in enumerate(zip(cuts.hits.tolist(), of_G.tolist(), strict=True)):
            low, high = wilson(hits, images)
            kept_G[index] = low is None or high is None or low <= wanted <= high
    else:
        best = int(np.argmin(np.abs(cuts.log_odds - chosen)))
        scores_RG = resampled.scores_RG
        own_G, _ = scoring.scores(cuts.hits, cuts.alarms)
        error_G = (scores_RG[:, [best]] - scores_RG).std(axis=0, ddof=1)
        kept_G = own_G[best] - own_G <= NORMAL * error_G
    kept_G |= cuts.log_odds == chosen
    first, last = np.flatnonzero(kept_G)[[0, -1]]
    # The images say nothing of thresholds beyond them, and nothing of those between two of them
    high = math.inf if first == 0 else max(chosen, float(cuts.log_odds[first - 1]))
    low = -math.inf if last == len(kept_G) - 1 else min(chosen, float(cuts.log_odds[last + 1]))
    return low, high


@dataclass(frozen=True)
class _Scoring:
    """Scores thresholds: a higher one is better."""

    metric: Metric
    counts: ClassCounts
    positive: int
    totals: tuple[int, int]
    known: dict[tuple[int, int], tuple[float, float]] = field(default_factory=dict)

    def best(self, cuts: _Cuts) -> tuple[int, float]:
        """The index of the middle one of the best thresholds, and its score; −inf if not valid."""
        scores_G, ties_G = self.scores(cuts.hits, cuts.alarms)
        index = int(_middle_of_best(scores_G[None], ties_G[None])[0])
        return index, float(scores_G[index])

    def scores(self, hits: Ints, alarms: Ints) -> tuple[Floats, Floats]:
        """The scores, and what decides between equal ones; both of the shape of the arguments."""
        pairs, places = np.unique(
            hits.ravel() * (self.totals[1] + 1) + alarms.ravel(), return_inverse=True
        )
        found = [self.score(*divmod(pair, self.totals[1] + 1)) for pair in pairs.tolist()]
        table = np.array(found, dtype=np.float64)[places]
        return table[:, 0].reshape(hits.shape), table[:, 1].reshape(hits.shape)

    def score(self, hits: int, alarms: int) -> tuple[float, float]:
        """The score, and what decides between equal ones; −inf where it is not valid."""
        found = self.known.get((hits, alarms))
        if found is None:  # resamples have the same counts again and again
            found = self.known[hits, alarms] = self._score(hits, alarms)
        return found

    def _score(self, hits: int, alarms: int) -> tuple[float, float]:
        value = self.value(hits, alarms)
        recall, precision = self._rates(hits, alarms)
        if self.metric.name == "recall_at_precision":
            enough = hits > 0 and precision >= float(self.metric.knobs["precision"])
            return (value if enough else -math.inf), precision
        if self.metric.name == "precision_at_recall":
            enough = recall >= float(self.metric.knobs["recall"])
            return (value if enough else -math.inf), recall
        return value, 0.0

    def value(self, hits: float, alarms: float) -> float:
        """The score of so many hits and alarms, whether it is valid or not."""
        recall, precision = self._rates(hits, alarms)
        if self.metric.name == "recall_at_precision":
            return recall
        if self.metric.name == "precision_at_recall":
            return precision
        score = self.metric.score(self._confusion(hits, alarms))
        return -math.inf if score is None else score

    def constant(self) -> tuple[str, float] | None:
        """The class that is best predicted for every image, and the metric's value."""
        names = self.counts.names
        scores = [
            (self.score(*self.totals)[0], str(names[self.positive])),
            (self.score(0, 0)[0], str(names[1 - self.positive])),
        ]
        score, name = max(scores, key=lambda one: one[0])
        return None if score == -math.inf else (name, self.of_score(score))

    def of_score(self, score: float) -> float:
        """The metric's value, which the score of a metric to minimise negates."""
        return score if self.metric.sign == 1 else 0.0 - score  # never -0.0

    def expected(self, rates: Floats) -> tuple[float, tuple[float, float]]:
        """The metric at two rates, of hits and of alarms, with its interval."""
        confusion = self._confusion(*(rates * self.totals))

        def value(drawn: Confusion) -> float:
            own, other = self.positive, 1 - self.positive
            hits, alarms = drawn.matrix_KK[[own, other], own].tolist()
            return self.of_score(self.value(hits, alarms))

        return value(confusion), metric_interval(self.metric, confusion, value, RESAMPLES)

    def _rates(self, hits: float, alarms: float) -> tuple[float, float]:
        return hits / self.totals[0], hits / (hits + alarms) if hits + alarms else 1.0

    def _confusion(self, hits: float, alarms: float) -> Confusion:
        own, other = self.positive, 1 - self.positive
        matrix_22 = np.zeros((2, 2), dtype=np.result_type(type(hits), type(alarms)))
        matrix_22[own, [own, other]] = hits, self.totals[0] - hits
        matrix_22[other, [own, other]] = alarms, self.totals[1] - alarms
        return Confusion.of(matrix_22, self.counts.train_K, self.counts.names)
