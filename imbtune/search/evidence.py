"""Who wins by the finals, and what can be said for it.

The best score of many is partly luck: of the seed, and of a validation set that hundreds of trials
have looked at. So the best few, and the best preset, are trained again with seeds that no trial
had, the same ones for all of them; the winner is the best mean, and its lead over the best preset
comes with a paired test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from imbtune.search.records import COMPLETE, FinalRecord, SearchOutcome, TrialRecord

CONFIDENCE = 0.95
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """What speaks for a winner; confidence intervals at 95 %, of the mean over `seeds` seeds.

    mean, low, high: of the winner's score. preset_mean: of the best preset's. lead, lead_low,
    lead_high, p: of the paired differences, seed by seed; None where the winner is that preset, or
    none finished. p is two-sided, of Student's t-test.
    """

    seeds: int
    mean: float
    low: float
    high: float
    preset_mean: float | None = None
    lead: float | None = None
    lead_low: float | None = None
    lead_high: float | None = None
    p: float | None = None

    def plain(self) -> dict[str, Any]:
        """As YAML can hold it."""
        return asdict(self)


def scores_by_trial(finals: Sequence[FinalRecord]) -> dict[int, Floats]:
    """Scores of each finalist in the order of the seeds; of those that have all seeds."""
    seeds = sorted({final.seed for final in finals})
    found: dict[int, dict[int, float]] = {}
    for final in finals:
        found.setdefault(final.trial, {})[final.seed] = final.score
    return {
        trial: np.array([scores[seed] for seed in seeds])
        for trial, scores in found.items()
        if len(scores) == len(seeds)
    }


def decide(
    records: Sequence[TrialRecord], finals: Sequence[FinalRecord]
) -> tuple[TrialRecord | None, TrialRecord | None]:
    """The winner and the best preset: by the mean of the finals, or without any by their score."""
    by_number = {record.number: record for record in records if record.state == COMPLETE}
    scores = scores_by_trial(finals)
    worth: Mapping[int, float] = {number: float(s.mean()) for number, s in scores.items()}
    worth = worth or {number: record.score or 0.0 for number, record in by_number.items()}
    ranked = sorted(worth, key=lambda number: (-worth[number], number))
    presets = [number for number in ranked if by_number[number].preset]
    return (
        by_number[ranked[0]] if ranked else None,
        by_number[presets[0]] if presets else None,
    )


def evidence_of(outcome: SearchOutcome) -> Evidence | None:
    """What the finals say of the winner; None without finals."""
    scores = scores_by_trial(outcome.finals)
    if not outcome.winner or outcome.winner.number not in scores:
        return None
    won = scores[outcome.winner.number]
    mean, low, high = interval(won)
    if not outcome.baseline or outcome.baseline is outcome.winner:
        return Evidence(len(won), mean, low, high)
    preset = scores[outcome.baseline.number]
    lead, lead_low, lead_high = interval(won - preset)
    p = paired_p(won - preset)
    return Evidence(len(won), mean, low, high, float(preset.mean()), lead, lead_low, lead_high, p)


def interval(values: Floats) -> tuple[float, float, float]:
    """Mean, and the ends of its confidence interval by Student's t; NaN ends for one value."""
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return mean, float("nan"), float("nan")
    half = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * values.std(ddof=1) / count**0.5
    return mean, mean - float(half), mean + float(half)


def paired_p(differences: Floats) -> float:
    """Two-sided p of a paired t-test; NaN for a single pair. 1 where all differences are 0, 0 where
    they are equal and not 0."""
    if len(differences) < 2:
        return float("nan")
    spread = differences.std(ddof=1) / len(differences) ** 0.5
    if spread == 0:
        return float(differences[0] == 0)
    t = abs(differences.mean()) / spread
    return float(2 * stats.t.sf(t, len(differences) - 1))
