"""The choice of the winner among scores that move in steps."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from imbtune.metrics.score_error import image_groups
from imbtune.study.data_size import ScoreScale
from imbtune.study.evidence import Evidence, decide, evidence_of
from imbtune.study.records import FinalRecord
from imbtune.study.uncertainty.choice import common_step


@given(st.lists(st.integers(0, 300), min_size=2, max_size=30), st.sampled_from([7, 60, 300]))
def test_the_step_is_the_greatest_common_divisor(hits: list[int], images: int) -> None:
    divisor = np.gcd.reduce(np.diff(sorted(hits)))
    found = common_step([h / images for h in hits])
    assert found == pytest.approx(float(Fraction(int(divisor), images)), abs=1e-9)


def test_scores_of_any_amount_have_no_step() -> None:
    assert common_step(np.random.default_rng(0).random(30).tolist()) == 0
    assert common_step([]) == common_step([0.5]) == common_step([0.5, 0.5]) == 0
    # recalls of 7 and 11 images, by rounding in another order
    assert common_step([3 / 7, 1 - 4 / 7, 5 / 11]) == pytest.approx(2 / 77)


Bools = NDArray[np.bool_]
CLASSES, IMAGES, TRIALS, PRESETS, SEEDS = 10, 30, 60, 7, 3


def search(rng: np.random.Generator) -> Evidence:
    """A search whose trials are all equal: a share of the images is difficult for all of them.

    A validation set of 300 images is drawn, all trials and finals are scored on it, and the true
    lead of the winner is 0.
    """
    labels_M = np.repeat(np.arange(CLASSES), IMAGES)
    common_M = rng.standard_normal(len(labels_M)) * 0.5**0.5
    own_TM = rng.standard_normal((TRIALS, len(labels_M))) * 0.5

    def hits_of(trial: int) -> Bools:
        noise_M = 0.5 * rng.standard_normal(len(labels_M))
        return np.asarray(1 + common_M + own_TM[trial] + noise_M > 0)

    def recall(hits_M: Bools, kept_M: Bools) -> float:
        hit, all_ = np.bincount(labels_M[hits_M & kept_M]), np.bincount(labels_M[kept_M])
        return float((hit / all_).mean())

    everything_M = np.ones(len(labels_M), bool)
    finished = {trial: recall(hits_of(trial), everything_M) for trial in range(TRIALS)}
    ranked = sorted(finished, key=lambda trial: (-finished[trial], trial))
    finalists = {*ranked[:5], next(trial for trial in ranked if trial < PRESETS)}
    groups_M = image_groups(labels_M)
    finals = []
    for trial in sorted(finalists):
        for seed in range(SEEDS):
            hits_M = hits_of(trial)
            without = [recall(hits_M, groups_M != group) for group in range(20)]
            score = recall(hits_M, everything_M)
            finals.append(FinalRecord(trial, seed, score, scores_without_groups=without))
    winner, baseline = decide(finished, range(PRESETS), finals)
    scale = ScoreScale(0.1, 1 / 300, None, 0)
    found = evidence_of(finals, winner, baseline, (0, 1), finished, range(PRESETS), scale)
    assert found is not None
    return found


def test_intervals_hold_the_lead_of_equal_trials_95_times_in_100() -> None:
    """With scores that move in steps of one image and often tie.

    A continuity correction with the wrong sign, or none, makes it 98 or 87.
    """
    rng = np.random.default_rng(5)
    found = [search(rng) for _ in range(400)]
    leads = [evidence for evidence in found if evidence.lead is not None]
    assert len(leads) > 250
    assert all(e.lead_low is not None and e.lead_high is not None for e in leads)
    held = [(e.lead_low or 0) <= 0 <= (e.lead_high or 0) for e in leads]
    assert 0.93 <= np.mean(held) <= 0.97
    assert np.mean([evidence.is_better for evidence in found]) <= 0.05
