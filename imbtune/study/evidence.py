"""Chooses the winner by the finals, and measures how certain it and its lead are.

The best score of many trials is partly luck: a lucky seed, and validation images that flatter this
trial. So the best few trials and the best preset are trained again with fresh seeds, the same seeds
for all of them. The winner has the best mean over these seeds, and its lead over the best preset is
tested.

Seeds are not all that is random: other images of the same classes would give other scores. So the
variance of a mean and of a lead is that over seeds and images together
(:mod:`imbtune.study.uncertainty.noise`). And the winner was chosen: among all finished trials by
one run each, then among the finalists by the means, always by the same images. The estimates and
the intervals are corrected for these choices (:mod:`imbtune.study.uncertainty.choice`), as they are
for that of the best preset among the presets.

Finals of older studies have no scores by groups of images. Then interval and p count the seeds
alone: the variance is pooled over the finalists, as in a two-way analysis of variance (finalist,
seed) without interaction; with two finalists it is the ordinary paired t-test. They are too sure.

Shapes: F finalists, S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imbtune.metrics.number_text import as_text
from imbtune.study.records import FinalRecord
from imbtune.study.uncertainty.arcsine import ArcsineScale
from imbtune.study.uncertainty.choice import Choice, common_step
from imbtune.study.uncertainty.noise import ROUNDING, no_better, noise_of
from imbtune.study.uncertainty.student import (
    error_of_a_lead,
    error_of_a_mean,
    student_interval,
    student_p,
)

if TYPE_CHECKING:
    from imbtune.metrics.metric import Metric
    from imbtune.study.data_size import ScoreScale

Floats = NDArray[np.float64]

FINALISTS, TRIALS_PER_FINALIST = 5, 10  # finals by default: 5, but at most one of ten trials


def finalists_of(trials: int, finals: int | None, seeds: int) -> int:
    """How many of the best trials are trained again with fresh seeds.

    By default none in a search of fewer than ten trials.

    Args:
        trials: of the search.
        finals: as the user asks for; None for the default.
        seeds: of each finalist.
    """
    default = min(FINALISTS, trials // TRIALS_PER_FINALIST)
    return (default if finals is None else finals) if seeds else 0


@dataclass(frozen=True)
class Evidence:
    """How certain the winner is. Scores are of the objective; confidence intervals are at 95 %.

    Intervals and p are None with a single seed. The fields from `preset_mean` on are None where the
    winner is the best preset, or no preset has finals.

    Attributes:
        seeds: S, fresh seeds per finalist.
        finalists: F, finalists that were trained with all seeds.
        mean: the winner's score, averaged over the seeds.
        low, high: confidence interval of `mean`; of `mean_corrected`, where there is one.
        preset_mean: the best preset's score, averaged over the seeds.
        lead: `mean` - `preset_mean`.
        lead_low, lead_high: confidence interval of `lead`; of `lead_corrected`, where there is one.
        p: two-sided p-value that the true lead is 0.
        images: whether intervals and p count the images and the choice of the winner, too. False
            in older studies, where they count the seeds alone and are too sure.
        mean_corrected: `mean`, corrected for the choice of the winner: the true score is as likely
            above as below it. None unless `images`.
        lead_corrected: the same of `lead`.
        failed_runs: how many runs of finalists score no better than chance, where another run of
            the same finalist does.
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
    images: bool = False
    mean_corrected: float | None = None
    lead_corrected: float | None = None
    failed_runs: int = 0

    def __str__(self) -> str:
        text = f"{as_text(self.mean)}, mean of {self.seeds} fresh seed{'s' * (self.seeds > 1)}"
        if self.mean_corrected is not None:
            text += f", corrected for the choice {as_text(self.mean_corrected)}"
        if self.low is not None:
            text += f" [{as_text(self.low)}, {as_text(self.high)}]"
        if self.lead is not None:
            text += f"; {as_text(self.lead, '+.4f')} over the best preset"
        if self.lead_corrected is not None:
            text += f", corrected {as_text(self.lead_corrected, '+.4f')}"
        if self.lead_low is not None and self.lead_high is not None:
            ends = f"{as_text(self.lead_low, '+.4f')} to {as_text(self.lead_high, '+.4f')}"
            text += f" ({ends}, p = {self.p:.2g})"
        if self.low is not None:
            counted = "seeds, images and the choice of the winner" if self.images else "seeds alone"
            text += f"; intervals count {counted}"
        return text

    @property
    def is_better(self) -> bool:
        """Whether the winner is better than the best preset: its lead's interval is above 0."""
        return self.lead_low is not None and self.lead_low > 0

    def to_dict(self) -> dict[str, object]:
        """The fields by name, as best.yaml holds them."""
        return asdict(self)


def scores_by_trial(finals: Sequence[FinalRecord]) -> dict[int, Floats]:
    """The scores (S,) of each finalist that was trained with all seeds, in the order of the seeds.

    The dictionary is sorted by trial number: summing in another order would change the last bit of
    the results.
    """
    seeds = sorted({final.seed for final in finals})
    by_trial: dict[int, dict[int, float]] = {}
    for final in finals:
        by_trial.setdefault(final.trial, {})[final.seed] = final.score
    return {
        trial: np.array([scores[seed] for seed in seeds])
        for trial, scores in sorted(by_trial.items())
        if len(scores) == len(seeds)
    }


def objective_means(
    finals: Sequence[FinalRecord], objectives: Sequence[Metric]
) -> dict[int, tuple[float, ...]]:
    """The mean of each objective over the seeds of each finalist that was trained with all."""
    runs = {trial: [f for f in finals if f.trial == trial] for trial in scores_by_trial(finals)}
    return {
        trial: tuple(np.mean([final.scores(objectives) for final in own], axis=0).tolist())
        for trial, own in runs.items()
    }


def decide(
    finished: Mapping[int, float],
    presets: Collection[int],
    finals: Sequence[FinalRecord],
    chance: float | None = None,
) -> tuple[int | None, int | None]:
    """Choose the winner and the best preset: by their mean over the finals, or without finals by
    the score of the trial itself.

    Args:
        finished: the score of each finished trial, by trial number.
        presets: numbers of the trials that are presets.
        chance: the score of a model that predicts the same for every image; a winner has a better
            one. None where any score may win.

    Returns:
        The trial numbers of the winner and of the best preset; None where there is none.
    """
    means = {number: float(scores.mean()) for number, scores in scores_by_trial(finals).items()}
    means = means or dict(finished)
    ranked = sorted(means, key=lambda number: (-means[number], number))
    best_presets = [number for number in ranked if number in presets]
    has_winner = bool(ranked) and (chance is None or is_above(means[ranked[0]], chance))
    return (ranked[0] if has_winner else None), (best_presets[0] if best_presets else None)


def is_above(score: float, chance: float) -> bool:
    """Whether a score is better than chance, by more than the rounding of a mean."""
    return score > chance + ROUNDING


def evidence_of(
    finals: Sequence[FinalRecord],
    winner: int | None,
    baseline: int | None,
    bounds: tuple[float, float] = (0.0, 1.0),
    finished: Mapping[int, float] | None = None,
    presets: Collection[int] = (),
    scale: ScoreScale | None = None,
) -> Evidence | None:
    """How certain the winner is by the finals; None without finals.

    Args:
        winner: its trial number, as `decide` returns it.
        baseline: trial number of the best preset, as `decide` returns it.
        bounds: the lowest and the highest score that there can be; the interval ends there.
        finished: as in `decide`: the trials among which the finalists were chosen.
        presets: as in `decide`.
        scale: how a score on these images is to be read. Standard errors are at least as large as
            what one image moves the score by.
    """
    scores = scores_by_trial(finals)
    if winner is None or winner not in scores:
        return None
    scores_FS = np.stack(list(scores.values()))
    finalists, seeds = scores_FS.shape
    mean = float(scores[winner].mean())
    without_FSG = _without_groups(finals, scores)
    is_led = baseline is not None and baseline != winner
    preset = float(scores[baseline].mean()) if is_led and baseline is not None else None
    lead = None if preset is None else mean - preset
    if without_FSG is None or seeds == 1:
        low, high = student_interval(mean, *error_of_a_mean(scores_FS))
        if low is not None and high is not None:
            low, high = max(bounds[0], low), min(bounds[1], high)
        if lead is None:
            return Evidence(seeds, finalists, mean, low, high)
        error = error_of_a_lead(scores_FS)
        ends, p = student_interval(lead, *error), student_p(lead, *error)
        return Evidence(seeds, finalists, mean, low, high, preset, lead, *ends, p)
    chance = scale.chance if scale else -math.inf
    choice = Choice(
        means=dict(zip(scores, scores_FS.mean(1).tolist(), strict=True)),
        noise=noise_of(scores_FS, without_FSG, chance),
        finished=dict(finished or {}),
        presets=frozenset(presets),
        seeds=seeds,
        least=(scale.step if scale else None) or 0.0,
        one_hit=scale.one_hit if scale else 0.0,
        step=common_step([*(finished or {}).values(), *scores_FS.ravel().tolist()]),
        scale=ArcsineScale(*bounds),
        smallest_of=scale.smallest_of if scale else 1,
    )
    own = choice.inference(winner, None)
    high = min(bounds[1], own.high)
    alone = Evidence(
        seeds,
        finalists,
        mean,
        own.low,
        high,
        images=True,
        mean_corrected=own.median,
        failed_runs=failed_runs(scores_FS, chance),
    )
    if lead is None:
        return alone
    found = choice.inference(winner, baseline)
    widest = bounds[1] - bounds[0]
    low, high, middle = (
        min(widest, max(-widest, value)) for value in (found.low, found.high, found.median)
    )
    return replace(
        alone,
        preset_mean=preset,
        lead=lead,
        lead_low=low,
        lead_high=high,
        p=found.p,
        lead_corrected=middle,
    )


def failed_runs(scores_FS: Floats, chance: float) -> int:
    """How many runs are no better than chance, of finalists that have others that are."""
    failed_FS = no_better(scores_FS, chance)
    return int(failed_FS[~failed_FS.all(1)].sum())


def mean_intervals(
    finals: Sequence[FinalRecord], bounds: tuple[float, float] = (0.0, 1.0)
) -> dict[int, tuple[float | None, float | None]]:
    """The 95 % confidence interval of each finalist's mean, by trial number.

    It counts seeds and images, in older studies seeds alone, and no choice: it is that of a trial
    that was named beforehand. None with a single seed.

    Args:
        bounds: the lowest and the highest score that there can be; the intervals are within them.
    """
    scores = scores_by_trial(finals)
    if not scores:
        return {}
    scores_FS = np.stack(list(scores.values()))
    without_FSG = _without_groups(finals, scores)
    errors: list[tuple[float, float]] = [error_of_a_mean(scores_FS)] * len(scores)
    if without_FSG is not None and scores_FS.shape[1] > 1:
        noise = noise_of(scores_FS, without_FSG)
        errors = [noise.error(unit_F) for unit_F in np.eye(len(scores))]
    scale = ArcsineScale(*bounds)
    intervals = {}
    for (trial, own_S), (error, freedom) in zip(scores.items(), errors, strict=True):
        mean = scale.inside(float(own_S.mean()), step=0.0)
        low, high = student_interval(scale.forward(mean), error * scale.slope(mean), freedom)
        intervals[trial] = (
            None if low is None else scale.back(low),
            None if high is None else scale.back(high),
        )
    return intervals


def _without_groups(finals: Sequence[FinalRecord], trials: Collection[int]) -> Floats | None:
    """The scores without each group of images (F, S, G); None where a run lacks them."""
    runs = sorted((f for f in finals if f.trial in trials), key=lambda f: (f.trial, f.seed))
    found = [final.scores_without_groups for final in runs]
    groups = {len(scores) if scores else 0 for scores in found}
    if len(groups) > 1 or groups <= {0, 1}:
        return None
    without_FSG: Floats = np.array(found, dtype=np.float64).reshape(len(trials), -1, groups.pop())
    return without_FSG
