"""Choosing the threshold of a two-class model for a metric, with its uncertainty.

Shapes: N images, two classes, G thresholds, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imbtune.errors import ConfigError
from imbtune.inference.decisions.threshold import Condition, Threshold
from imbtune.inference.decisions.threshold_cuts import Bools, Cuts, Floats, Ordered
from imbtune.metrics.intervals import NORMAL, wilson
from imbtune.metrics.metric import Metric, objective_from
from imbtune.metrics.metric_interval import metric_interval
from imbtune.metrics.predictions import ClassCounts, Confusion, Ints

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
    `corrected` is the metric of the mean shares of positive predictions among them; where the
    metric asks for a precision or recall, `condition` has what that is at the same thresholds. Its
    interval comes from its standard error with as many images as these
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
    ordered = Ordered.of(log_odds_N, is_positive_N)
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
        scoring.condition(cuts, best, resampled),
        chosen_on,
        {str(name): int((labels_N == index).sum()) for index, name in enumerate(counts.names)},
    )


@dataclass(frozen=True, eq=False)
class _Resampled:
    """What the resamples say.

    Attributes:
        scores_RG: of each threshold in each resample; −inf where it is not valid.
        left_out_rates: share of the left-out images that are predicted as positive, at the best
            threshold of each resample: the mean over the resamples of positive and other images.
        reached: share of the resamples in which the left-out images have the precision or recall
            that the metric asks for, at the threshold of the resample.
    """

    scores_RG: Floats
    left_out_rates: Floats
    reached: float


def _resample(ordered: Ordered, cuts: Cuts, scoring: _Scoring) -> _Resampled:
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
    rates, left_out = [], []
    for is_kind_N, whole_G in zip(kinds, (cuts.hits, cuts.alarms), strict=True):
        left_RN = (drawn_RN == 0) & is_kind_N
        total_R = left_RN.sum(1)
        positive_R = _sums(left_RN, cuts.above)[rows, best_R]
        left_out.append((positive_R, total_R))
        # A class of one image is never left out: its share on all images counts
        apparent_R = whole_G[best_R] / whole_G[-1]
        rates.append(np.where(total_R > 0, positive_R / np.maximum(total_R, 1), apparent_R).mean())
    (hits_R, own_R), (alarms_R, _) = left_out
    wanted_R = hits_R + alarms_R if scoring.condition_name == "precision" else own_R
    reached_R = (hits_R > 0) & (hits_R >= scoring.wanted * wanted_R)
    return _Resampled(scores_RG, np.array(rates), float(reached_R.mean()))


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
    cuts: Cuts, resampled: _Resampled, scoring: _Scoring, chosen: float
) -> tuple[float, float]:
    """The thresholds that are not worse than the chosen one beyond chance: lowest and highest."""
    if knob := scoring.condition_name:
        wanted = scoring.wanted
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

    @property
    def condition_name(self) -> str:
        """What the metric asks for, `precision` or `recall`; empty for nothing."""
        return AT_A_THRESHOLD.get(self.metric.name, "")

    @property
    def wanted(self) -> float:
        """How much of it; 0 for nothing."""
        return self.metric.number(self.condition_name) if self.condition_name else 0.0

    def best(self, cuts: Cuts) -> tuple[int, float]:
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
        if self.condition_name == "precision":
            return (value if hits > 0 and precision >= self.wanted else -math.inf), precision
        if self.condition_name == "recall":
            return (value if recall >= self.wanted else -math.inf), recall
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
        return self._expected(rates, lambda hits, alarms: self.of_score(self.value(hits, alarms)))

    def condition(self, cuts: Cuts, best: int, resampled: _Resampled) -> Condition | None:
        """What becomes of the precision or recall that the metric asks for."""
        if not (name := self.condition_name):
            return None
        index = {"recall": 0, "precision": 1}[name]
        hits, alarms = int(cuts.hits[best]), int(cuts.alarms[best])
        return Condition(
            name,
            self.wanted,
            self._rates(hits, alarms)[index],
            *self._expected(resampled.left_out_rates, lambda *at: self._rates(*at)[index]),
            resampled.reached,
            hits + alarms if name == "precision" else self.totals[0],
        )

    def _expected(
        self, rates: Floats, value: Callable[[float, float], float]
    ) -> tuple[float, tuple[float, float]]:
        """A value of hits and alarms at their two rates, with its interval."""
        confusion = self._confusion(*(rates * self.totals))

        def of_matrix(drawn: Confusion) -> float:
            own, other = self.positive, 1 - self.positive
            hits, alarms = drawn.matrix_KK[[own, other], own].tolist()
            return value(hits, alarms)

        return of_matrix(confusion), metric_interval(self.metric, confusion, of_matrix, RESAMPLES)

    def _rates(self, hits: float, alarms: float) -> tuple[float, float]:
        return hits / self.totals[0], hits / (hits + alarms) if hits + alarms else 1.0

    def _confusion(self, hits: float, alarms: float) -> Confusion:
        own, other = self.positive, 1 - self.positive
        matrix_22 = np.zeros((2, 2), dtype=np.result_type(type(hits), type(alarms)))
        matrix_22[own, [own, other]] = hits, self.totals[0] - hits
        matrix_22[other, [own, other]] = alarms, self.totals[1] - alarms
        return Confusion.of(matrix_22, self.counts.train_K, self.counts.names)
