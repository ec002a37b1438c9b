"""Who wins by the finals, and what can be said for it.

The best score of many is partly luck: of the seed, and of a validation set that hundreds of trials
have looked at. So the best few, and the best preset, are trained again with seeds that no trial
had, the same ones for all of them; the winner is the best mean, and its lead over the best preset
comes with a paired test.

Few seeds know little of their own spread, so it is taken of all F finalists at once, as a two-way
analysis of variance (finalist, seed) without interaction does: with 6 finalists and 3 seeds that
is a t of 10 degrees of freedom instead of 2. Two finalists make it the ordinary paired t-test. It
takes the finalists to vary alike. Nothing is corrected for the winner being the best of F by these
same runs: where they are close, its mean is a little too good, and p too small.

Shapes: F finalists, S seeds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from imbtune.study.records import FinalRecord

CONFIDENCE = 0.95
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """What speaks for a winner; confidence intervals at 95 %, of the mean over `seeds` seeds.

    mean, low, high: of the winner's score, in [0, 1]. preset_mean: of the best preset's. lead,
    lead_low, lead_high, p: of the differences, seed by seed; None where the winner is that preset,
    or none finished. p is two-sided. Intervals and p are None with a single seed.
    """

    seeds: int
    finalists: int
    mean: float
    low: float | None
    high: float | None
    preset_mean: float | None = None
    lead: float | None = None
    lead_low: float | None = None
    lead_high: float | None = None
    p: float | None = None

    def to_dict(self) -> dict[str, object]:
        """As YAML can hold it."""
        return asdict(self)


def scores_by_trial(finals: Sequence[FinalRecord]) -> dict[int, Floats]:
    """Scores of each finalist in the order of the seeds; of those that have all seeds.

    In the order of the trials, whichever run ended first: sums of another order differ in the last
    bit.
    """
    seeds = sorted({final.seed for final in finals})
    found: dict[int, dict[int, float]] = {}
    for final in finals:
        found.setdefault(final.trial, {})[final.seed] = final.score
    return {
        trial: np.array([scores[seed] for seed in seeds])
        for trial, scores in sorted(found.items())
        if len(scores) == len(seeds)
    }


def decide(
    finished: Mapping[int, float], presets: Collection[int], finals: Sequence[FinalRecord]
) -> tuple[int | None, int | None]:
    """The numbers of the winner and of the best preset.

    By the mean of the finals; without finals, by the scores of the finished trials.

    Args:
        finished: the score of each finished trial by its number.
        presets: numbers of the trials that are presets.
    """
    means = {number: float(scores.mean()) for number, scores in scores_by_trial(finals).items()}
    means = means or dict(finished)
    ranked = sorted(means, key=lambda number: (-means[number], number))
    best_presets = [number for number in ranked if number in presets]
    return (ranked[0] if ranked else None), (best_presets[0] if best_presets else None)


def evidence_of(
    finals: Sequence[FinalRecord], winner: int | None, baseline: int | None
) -> Evidence | None:
    """What the finals say of the winner; None without finals.

    Args:
        winner, baseline: trial numbers, as `decide` gives them.
    """
    scores = scores_by_trial(finals)
    if winner is None or winner not in scores:
        return None
    scores_FS = np.stack(list(scores.values()))
    finalists, seeds = scores_FS.shape
    mean = float(scores[winner].mean())
    low, high = student_interval(mean, *error_of_a_mean(scores_FS))
    if low is not None and high is not None:
        low, high = max(0.0, low), min(1.0, high)
    if baseline is None or baseline == winner:
        return Evidence(seeds, finalists, mean, low, high)
    preset = float(scores[baseline].mean())
    error = error_of_a_lead(scores_FS)
    ends = student_interval(mean - preset, *error)
    p = student_p(mean - preset, *error)
    return Evidence(seeds, finalists, mean, low, high, preset, mean - preset, *ends, p)


def error_of_a_mean(scores_FS: Floats) -> tuple[float, int]:
    """Standard error of a finalist's mean over the seeds, and its degrees of freedom F(S - 1)."""
    finalists, seeds = scores_FS.shape
    rest_FS = scores_FS - scores_FS.mean(1, keepdims=True)
    return _error(rest_FS, finalists * (seeds - 1), 1 / seeds)


def error_of_a_lead(scores_FS: Floats) -> tuple[float, int]:
    """Standard error of the difference of two finalists' means, and its degrees of freedom
    (F - 1)(S - 1); what a seed does to all finalists alike is taken out."""
    finalists, seeds = scores_FS.shape
    rest_FS = scores_FS - scores_FS.mean(1, keepdims=True) - scores_FS.mean(0) + scores_FS.mean()
    return _error(rest_FS, (finalists - 1) * (seeds - 1), 2 / seeds)


def student_interval(mean: float, error: float, freedom: int) -> tuple[float | None, float | None]:
    """The ends of the confidence interval; None without a degree of freedom."""
    if not freedom:
        return None, None
    from scipy import stats  # here: it takes a second to import, and a search starts without it

    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return mean - half, mean + half


def student_p(mean: float, error: float, freedom: int) -> float | None:
    """Two-sided p of a mean being 0; None without a degree of freedom. With no error at all it is 1
    for a mean of 0, and 0 for another."""
    if not freedom:
        return None
    from scipy import stats

    return float(2 * stats.t.sf(abs(mean) / error, freedom)) if error else float(mean == 0)


def _error(rest_FS: Floats, freedom: int, share: float) -> tuple[float, int]:
    """From what is left of the scores: the root of their variance times `share`."""
    return (float(np.sqrt((rest_FS**2).sum() / freedom * share)) if freedom else 0.0), freedom
