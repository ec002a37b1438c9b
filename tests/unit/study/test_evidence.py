"""Finals: who is trained again, with which seeds, who wins, and what can be said for it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scripted import rung_record

from imbtune.seeds import trial_seed
from imbtune.study.data_size import ScoreScale
from imbtune.study.evidence import (
    Evidence,
    decide,
    evidence_of,
    failed_runs,
    scores_by_trial,
)
from imbtune.study.records import FinalRecord, TrialRecord
from imbtune.study.uncertainty.noise import noise_of
from imbtune.study.uncertainty.student import (
    error_of_a_lead,
    error_of_a_mean,
    student_interval,
    student_p,
)
from imbtune.tuning.finals import final_runs, finalists, fresh_seeds
from imbtune.tuning.messages import TrialSpec

Floats = Any
values = st.floats(0, 1, allow_subnormal=False)


def test_evidence_in_words() -> None:
    """Without an interval, without a lead, and with both."""
    assert str(Evidence(1, 3, mean=0.5, low=None, high=None)) == "0.5000, mean of 1 fresh seed"
    alone = Evidence(3, 3, mean=0.5, low=0.4, high=0.6)
    told = "0.5000, mean of 3 fresh seeds [0.4000, 0.6000]"
    assert str(alone) == f"{told}; intervals count seeds alone"
    assert str(replace(alone, images=True)) == (
        f"{told}; intervals count seeds, images and the choice of the winner"
    )
    ahead = replace(alone, lead=0.02, lead_low=-0.01, lead_high=0.05, p=0.123)
    assert str(ahead) == (
        "0.5000, mean of 3 fresh seeds [0.4000, 0.6000]; +0.0200 over the best preset "
        "(−0.0100 to +0.0500, p = 0.12); intervals count seeds alone"
    )
    corrected = replace(ahead, mean_corrected=0.48, lead_corrected=-0.01)
    assert str(corrected).startswith(
        "0.5000, mean of 3 fresh seeds, corrected for the choice 0.4800 [0.4000, 0.6000]; "
        "+0.0200 over the best preset, corrected −0.0100 (−0.0100 to +0.0500, p = 0.12)"
    )


def record(
    number: int, score: float | None, preset: str | None = None, state: str = "COMPLETE"
) -> TrialRecord:
    rungs = [] if score is None else [rung_record(number, 9, score)]
    return TrialRecord(number, number, preset, state, {"epochs": 9, "seed": number}, rungs)


def finals_of(**scores: list[float]) -> list[FinalRecord]:
    """t3=[0.1, 0.2]: trial 3 with seeds 100 and 101."""
    return [
        FinalRecord(int(name[1:]), 100 + i, score)
        for name, found in scores.items()
        for i, score in enumerate(found)
    ]


def decided(
    records: list[TrialRecord], finals: list[FinalRecord]
) -> tuple[TrialRecord | None, TrialRecord | None]:
    """The winner and the best preset, as a search chooses them."""
    finished = {r.number: r for r in records if r.state == "COMPLETE"}
    scores = {number: record.score or 0.0 for number, record in finished.items()}
    presets = [number for number, record in finished.items() if record.preset]
    winner, baseline = decide(scores, presets, finals)
    return (
        None if winner is None else finished[winner],
        None if baseline is None else finished[baseline],
    )


def evidence(records: list[TrialRecord], finals: list[FinalRecord]) -> Evidence | None:
    winner, baseline = decided(records, finals)
    return evidence_of(
        finals, winner.number if winner else None, baseline.number if baseline else None
    )


# ---- chance ------------------------------------------------------------------------------------


def test_a_winner_is_better_than_chance() -> None:
    """Of models that predict the same for every image none wins; the best preset is still named."""
    tied = {0: 0.25, 1: 0.25, 2: 0.2}
    assert decide(tied, [0], [], chance=0.25) == (None, 0)
    assert decide(tied, [0], []) == (0, 0)
    assert decide({**tied, 3: 0.26}, [0], [], chance=0.25) == (3, 0)


def test_fresh_seeds_decide_whether_a_winner_is_better_than_chance() -> None:
    finals = finals_of(t1=[0.1, 0.1, 0.1], t2=[0.1, 0.1, 0.09])
    third = (0.1 + 0.1 + 0.1) / 3  # rounding is not better than chance
    assert decide({1: 0.4, 2: 0.3}, [], finals, chance=third) == (None, None)
    assert decide({1: 0.1, 2: 0.1}, [], finals_of(t1=[0.1, 0.2]), chance=0.1) == (1, None)


def test_where_nothing_finished_nothing_wins() -> None:
    assert decide({}, [], [], chance=0.1) == (None, None)


# ---- figures -----------------------------------------------------------------------------------


tables = hnp.arrays(float, st.tuples(st.integers(1, 5), st.integers(2, 6)), elements=values)


@given(tables)
def test_the_error_of_a_mean_is_pooled_over_the_finalists(scores: Floats) -> None:
    """Root of the mean variance over √S; of a single finalist it is the standard error."""
    error, freedom = error_of_a_mean(scores)
    count, seeds = scores.shape
    assert freedom == count * (seeds - 1)
    assert error == pytest.approx(math.sqrt(scores.var(1, ddof=1).mean() / seeds), abs=1e-12)
    alone, _ = error_of_a_mean(scores[:1])
    assert alone == pytest.approx(stats.sem(scores[0]), abs=1e-12)


@given(hnp.arrays(float, st.tuples(st.just(2), st.integers(2, 6)), elements=values))
def test_two_finalists_make_the_paired_t_test(scores: Floats) -> None:
    one, other = scores
    assume((one - other).std() > 1e-9)
    error, freedom = error_of_a_lead(scores)
    lead = (one - other).mean()
    test = stats.ttest_rel(one, other)
    assert student_p(lead, error, freedom) == pytest.approx(test.pvalue)
    ends = test.confidence_interval()
    assert student_interval(lead, error, freedom) == pytest.approx((ends.low, ends.high))


@given(tables, st.floats(-1, 1), st.integers(0, 4))
def test_what_a_seed_does_to_all_changes_no_lead(scores: Floats, shift: float, at: int) -> None:
    moved = scores.copy()
    moved[:, at % scores.shape[1]] += shift
    assert error_of_a_lead(moved) == pytest.approx(error_of_a_lead(scores), abs=1e-9)


def test_a_table_worked_by_hand() -> None:
    """Rows 1 2 3, 1 2 3 and 0 4 5: means 2, 2, 3; columns 2/3, 8/3, 11/3; what is left of
    the scores is (2, -1, -1)/3 twice and (-4, 2, 2)/3, squares 4, over 4 degrees of freedom."""
    scores = np.array([[1.0, 2, 3], [1, 2, 3], [0, 4, 5]])
    assert error_of_a_lead(scores) == pytest.approx((math.sqrt(4 / 4 * 2 / 3), 4))
    assert error_of_a_mean(scores) == pytest.approx((math.sqrt((2 + 2 + 14) / 6 / 3), 6))


def test_no_spread_is_evidence_only_of_a_lead() -> None:
    assert student_p(0.0, 0.0, 3) == 1 and student_p(0.25, 0.0, 3) == 0
    assert student_interval(0.25, 0.0, 3) == (0.25, 0.25)


def test_a_single_seed_has_no_interval() -> None:
    for error in (error_of_a_lead, error_of_a_mean):
        assert error(np.array([[0.5], [0.7]])) == (0.0, 0)
    assert student_interval(0.5, 0.0, 0) == (None, None) and student_p(0.5, 0.0, 0) is None


# ---- who wins ----------------------------------------------------------------------------------


def test_scores_are_in_the_order_of_the_seeds_and_of_whole_sets() -> None:
    finals = [
        FinalRecord(4, 12, 0.3), FinalRecord(4, 11, 0.2), FinalRecord(4, 13, 0.4),
        FinalRecord(2, 13, 0.9), FinalRecord(2, 11, 0.8),
    ]  # fmt: skip
    found = scores_by_trial(finals)
    assert {trial: scores.tolist() for trial, scores in found.items()} == {4: [0.2, 0.3, 0.4]}
    assert scores_by_trial([]) == {}


FINALS = finals_of(
    t0=[0.83, 0.91, 0.87],
    t2=[0.85, 0.9, 0.8],
    t4=[0.77, 0.81, 0.86],
    t7=[0.9, 0.82, 0.88],
    t9=[0.5],
)


@given(st.permutations(FINALS))
def test_the_order_in_which_finals_end_changes_no_bit(finals: list[FinalRecord]) -> None:
    records = [record(number, 0.8, "erm" if number == 2 else None) for number in (0, 2, 4, 7, 9)]
    assert decided(records, finals) == decided(records, FINALS)
    assert evidence(records, finals) == evidence(records, FINALS)


def test_the_winner_is_the_best_mean_of_the_finals_not_the_best_score() -> None:
    records = [record(0, 0.7, "erm"), record(1, 0.9), record(2, 0.8), record(3, 0.75, "drw")]
    assert decided(records, []) == (records[1], records[3])
    finals = finals_of(t1=[0.6, 0.7], t2=[0.75, 0.75], t0=[0.1, 0.1], t3=[0.7, 0.6])
    assert decided(records, finals) == (records[2], records[3])
    finals = finals_of(t1=[0.6, 0.7], t2=[0.75, 0.75], t0=[0.9, 0.9], t3=[0.7, 0.6])
    assert decided(records, finals) == (records[0], records[0])


@given(st.lists(st.tuples(st.sampled_from(["COMPLETE", "PRUNED", "FAIL", "STOPPED"]), values)))
def test_only_a_finished_trial_wins(drawn: list[tuple[str, float]]) -> None:
    records = [
        record(i, score, "erm" if i % 3 == 0 else None, state)
        for i, (state, score) in enumerate(drawn)
    ]
    winner, baseline = decided(records, [])
    finished = [r for r in records if r.state == "COMPLETE"]
    best = max((r.score or 0 for r in finished), default=None)
    assert winner == next((r for r in finished if r.score == best), None)
    presets = [r for r in finished if r.preset]
    assert baseline == max(presets, key=lambda r: (r.score, -r.number), default=None)
    if winner and baseline:
        assert (winner.score or 0) >= (baseline.score or 0)


def test_of_a_tie_the_first_trial_wins() -> None:
    records = [record(5, 0.8), record(3, 0.8), record(4, 0.8, "erm"), record(2, 0.8, "drw")]
    assert decided(records, []) == (records[3], records[3])
    finals = finals_of(t5=[0.5, 0.7], t3=[0.75, 0.45])
    winner, baseline = decided(records, finals)
    assert winner is records[1] and baseline is None
    assert decided(records, finals[::-1]) == (winner, baseline)


def test_evidence_compares_the_winner_with_the_best_preset_seed_by_seed() -> None:
    records = [record(0, 0.7, "erm"), record(1, 0.9)]
    won, preset = [0.8, 0.9, 0.85], [0.7, 0.85, 0.8]
    found = evidence(records, finals_of(t1=won, t0=preset))
    assert found is not None
    assert found.seeds == 3 and found.mean == pytest.approx(0.85)
    assert found.preset_mean == pytest.approx(np.mean(preset))
    assert found.lead == pytest.approx(0.2 / 3)
    assert found.p == pytest.approx(stats.ttest_rel(won, preset).pvalue)
    assert found.lead is not None and found.lead_low is not None and found.lead_high is not None
    assert found.lead_low < found.lead < found.lead_high
    assert found.to_dict()["low"] == found.low
    others = finals_of(t1=won, t0=preset, t2=[0.5, 0.6, 0.1], t3=[0.4, 0.5, 0.5])
    noisy = evidence([*records, record(2, 0.6), record(3, 0.5)], others)
    assert noisy is not None and noisy.lead == found.lead and noisy.finalists == 4
    assert noisy.p is not None and found.p is not None and noisy.p > found.p
    assert noisy.high == 1.0 and noisy.low is not None and noisy.low >= 0  # scores are shares


def test_evidence_of_a_single_seed_is_a_mean_alone() -> None:
    records = [record(0, 0.7, "erm"), record(1, 0.9)]
    found = evidence(records, finals_of(t1=[0.8], t0=[0.7]))
    assert found is not None and found.to_dict() == {
        "seeds": 1, "finalists": 2, "mean": 0.8, "low": None, "high": None, "preset_mean": 0.7,
        "lead": pytest.approx(0.1), "lead_low": None, "lead_high": None, "p": None,
        "images": False, "mean_corrected": None, "lead_corrected": None, "failed_runs": 0,
    }  # fmt: skip


def test_evidence_without_a_preset_to_compare_with() -> None:
    records = [record(0, 0.7, "erm"), record(1, 0.9)]
    assert evidence(records, []) is None
    assert evidence([], []) is None
    for alone in (finals_of(t0=[0.9, 0.8], t1=[0.1, 0.2]), finals_of(t1=[0.1, 0.2])):
        found = evidence(records, alone)
        assert found is not None and found.seeds == 2
        assert found.lead is None and found.p is None and found.preset_mean is None


# ---- images --------------------------------------------------------------------------------------


def with_images(finals: list[FinalRecord], spread: float, seed: int = 0) -> list[FinalRecord]:
    """Scores without each of 20 groups, with noise of the images; each run has its own."""
    rng = np.random.default_rng(seed)
    return [
        replace(f, scores_without_groups=(f.score + spread * rng.standard_normal(20)).tolist())
        for f in finals
    ]


WON = finals_of(t1=[0.80, 0.81, 0.82], t0=[0.70, 0.72, 0.71], t2=[0.6, 0.62, 0.6])
THREE = {0: 0.7, 1: 0.9, 2: 0.6}


def test_evidence_counts_the_images() -> None:
    """With noise of the images the interval is longer than by the seeds alone, and p larger."""
    alone = evidence_of(WON, 1, 0, finished=THREE, presets=[0])
    both = evidence_of(with_images(WON, 0.01), 1, 0, finished=THREE, presets=[0])
    assert alone and both and both.images and not alone.images
    assert (both.mean, both.lead, both.preset_mean) == (alone.mean, alone.lead, alone.preset_mean)
    assert alone.low and alone.high and both.low and both.high
    assert both.low < alone.low and alone.high < both.high
    assert alone.p is not None and both.p is not None and alone.p < both.p
    assert both.mean_corrected is not None and both.lead_corrected is not None
    assert both.low < both.mean_corrected <= both.high


def test_a_run_without_scores_by_groups_makes_it_evidence_by_seeds_alone() -> None:
    """As after a resume of an older study, which has trained some of the finals again."""
    mixed = [*with_images(WON[:-1], 0.01), WON[-1]]
    assert evidence_of(mixed, 1, 0) == evidence_of(WON, 1, 0)
    one_seed = [final for final in with_images(WON, 0.01) if final.seed == 100]
    found = evidence_of(one_seed, 1, 0)
    assert found and not found.images and found.low is None


def test_a_close_winner_is_corrected_and_a_clear_one_hardly() -> None:
    """Of two finalists that tie, the winner's mean is pulled down."""
    rivals = finals_of(t1=[0.8, 0.8, 0.8], t2=[0.8, 0.8, 0.799], t0=[0.4, 0.4, 0.4])
    clear = finals_of(t1=[0.8, 0.8, 0.8], t2=[0.6, 0.6, 0.599], t0=[0.4, 0.4, 0.4])
    corrected = []
    for finals in (rivals, clear):
        found = evidence_of(with_images(finals, 0.004), 1, 0, finished=THREE, presets=[0])
        assert found and found.mean_corrected is not None
        corrected.append(found.mean - found.mean_corrected)
    assert corrected[0] > 0.005 and corrected[1] == pytest.approx(0, abs=1e-3)


def test_the_smallest_of_many_recalls_may_be_higher() -> None:
    """The interval of `worst_class` ends higher by the largest of ten normal errors, 1.55."""
    finals = with_images(WON, 0.004)
    plain = evidence_of(finals, 1, 0, finished=THREE, scale=ScoreScale(0.1, 0.01, None, 0))
    smallest = evidence_of(finals, 1, 0, finished=THREE, scale=ScoreScale(0.1, 0.01, None, 0, 10))
    assert plain and smallest and plain.high and smallest.high
    assert smallest.high > plain.high + 1.5 * 0.01  # an error is at least what one image moves
    assert replace(smallest, high=plain.high) == plain


def test_models_that_agree_on_every_image_are_not_certain() -> None:
    """No difference between seeds or images: the error is what one image moves the score by."""
    finals = with_images(finals_of(t1=[1.0] * 3, t0=[0.99] * 3), 0.0)
    found = evidence_of(finals, 1, 0, finished={0: 0.9, 1: 1}, scale=ScoreScale(0.1, 0.01, None, 0))
    assert found and found.low is not None and found.lead_low is not None
    assert found.low < 0.99 and found.high == 1 and found.lead_low < 0
    assert found.p is not None and found.p > 0.05


def test_a_lead_has_the_variance_of_one_more_hit() -> None:
    """As far from other trials as here, the interval of a lead is Student's, by Agresti and Min's
    variance: that of images and seeds, and the square of what one hit moves the score by."""
    finals = with_images(WON, 0.004)
    scale = ScoreScale(0.1, 0.0, None, 0)
    plain, larger = (
        evidence_of(finals, 1, 0, finished=THREE, scale=replace(scale, one_hit=one_hit))
        for one_hit in (0.0, 0.01)
    )
    assert plain and larger and plain.lead_low and plain.lead_high
    assert larger.lead_low is not None and larger.lead_high is not None
    ratio = (larger.lead_high - larger.lead_low) / (plain.lead_high - plain.lead_low)
    noise = noise_of(
        np.array([[f.score for f in finals if f.trial == n] for n in (0, 1, 2)]),
        np.array([[f.scores_without_groups for f in finals if f.trial == n] for n in (0, 1, 2)]),
    )
    error, _ = noise.error(np.array([-1.0, 1.0, 0.0]))
    assert ratio == pytest.approx((error**2 + 0.01**2) ** 0.5 / error, rel=1e-4)
    assert (plain.low, plain.high) == (larger.low, larger.high)  # a mean's is not changed


def test_runs_that_fail_are_those_at_chance_beside_better_ones() -> None:
    assert failed_runs(np.array([[0.0, 0.7, 0.0], [0.7, 0.7, 0.7], [0.0, 0.0, 0.0]]), 0.0) == 2
    assert failed_runs(np.array([[0.1, 0.7], [0.100001, 0.7]]), 0.1) == 1
    finals = with_images(finals_of(t1=[0.8, 0.81, 0.82], t0=[0.7, 0.1, 0.71]), 0.01)
    scale = ScoreScale(0.1, 0.01, None, 0)
    found = evidence_of(finals, 1, 0, finished=THREE, scale=scale)
    assert found and found.failed_runs == 1


def test_a_preset_of_the_worst_score_has_no_luck() -> None:
    """All presets have a `g_mean` of 0 with every seed: the best one was not chosen by noise, so
    the lead over it is the winner's mean, and has its interval. As g_mean 0.667 on digits-lt, whose
    lead was corrected from 66.7 to 87 points."""
    varied = with_images(finals_of(t9=[0.66, 0.68, 0.66]), 0.004)
    groups = len(varied[0].scores_without_groups or ())
    fixed = [
        replace(final, scores_without_groups=[0.0] * groups)
        for final in finals_of(t0=[0.0, 0.0, 0.0])
    ]
    finished = dict.fromkeys(range(9), 0.0) | {9: 0.7}
    scale = ScoreScale(0.0, None, None, 0)
    found = evidence_of([*varied, *fixed], 9, 0, (0, 1), finished, range(7), scale)
    assert found and found.mean_corrected is not None and found.lead_corrected is not None
    assert found.lead == pytest.approx(found.mean) and found.low is not None
    assert found.lead_corrected == pytest.approx(found.mean_corrected, abs=1e-3)
    assert found.lead_low is not None and found.lead_low == pytest.approx(found.low, abs=0.005)
    assert found.is_better
    alone = evidence_of(
        varied, 9, None, (0, 1), finished, (), scale
    )  # the other has no part in the variance
    assert alone and (alone.low, alone.high) == pytest.approx((found.low, found.high), abs=1e-6)


def test_a_lead_that_the_choice_explains_is_not_better() -> None:
    """p is small, but because the corrected lead is far below 0: the preset is the better one."""
    finals = with_images(finals_of(t1=[0.8, 0.8, 0.8001], t0=[0.8, 0.8, 0.8]), 0.02)
    found = evidence_of(finals, 1, 0, finished={0: 0.7, 1: 0.9}, presets=[0])
    assert found and found.p is not None and found.lead_corrected is not None
    assert found.lead and found.lead > 0 > found.lead_corrected
    assert found.p < 0.05 and not found.is_better
    clear = evidence_of(with_images(WON, 0.004), 1, 0, finished=THREE, presets=[0])
    assert clear and clear.p is not None and clear.p < 0.05 and clear.is_better


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=9, max_size=9), st.floats(0, 0.3))
def test_intervals_are_within_what_scores_can_be(scores: list[float], spread: float) -> None:
    finals = with_images(finals_of(t0=scores[:3], t1=scores[3:6], t2=scores[6:]), spread)
    winner, baseline = decide({}, [0], finals)
    found = evidence_of(finals, winner, baseline, finished=THREE, presets=[0])
    assert found and found.low is not None and found.high is not None
    assert found.mean_corrected is not None
    assert 0 <= found.low <= found.mean_corrected <= found.high <= 1
    if found.lead_low is not None and found.lead_high is not None:
        assert found.lead_corrected is not None
        assert -1 <= found.lead_low <= found.lead_corrected <= found.lead_high <= 1


@given(st.permutations(with_images(FINALS, 0.01)))
def test_the_order_of_finals_with_images_changes_no_bit(finals: list[FinalRecord]) -> None:
    finished, ordered = dict.fromkeys((0, 2, 4, 7, 9, 11), 0.8), with_images(FINALS, 0.01)
    assert evidence_of(finals, 0, 2, finished=finished) == evidence_of(
        ordered, 0, 2, finished=finished
    )


# ---- who is trained again ----------------------------------------------------------------------


def test_finalists_are_the_best_and_the_best_preset() -> None:
    records = [
        record(0, 0.5, "erm"), record(1, 0.6, "drw"), record(2, 0.9), record(3, 0.7),
        record(4, 0.99, None, "PRUNED"), record(5, 0.98, "cb", "STOPPED"), record(6, 0.7),
        record(7, None, None, "FAIL"),
    ]  # fmt: skip
    numbers = {count: [r.number for r in finalists(records, count)] for count in (0, 1, 2, 3, 4, 9)}
    assert numbers == {
        0: [], 1: [2, 1], 2: [2, 3, 1], 3: [2, 3, 6, 1], 4: [2, 3, 6, 1], 9: [2, 3, 6, 1, 0],
    }  # fmt: skip
    assert finalists(records[2:5], 1) == [records[2]]
    assert finalists([], 3) == []


def test_at_most_two_finalists_are_of_a_trunk() -> None:
    """But for the best preset, which is one in any case."""
    trunk = [replace(record(n, 0.9 - n / 100), trunk=0) for n in range(4)]
    others = [record(4, 0.5), record(5, 0.4)]
    assert [r.number for r in finalists([*trunk, *others], 3)] == [0, 1, 4]
    preset = replace(trunk[3], preset="drw")
    assert [r.number for r in finalists([*trunk[:3], preset, *others], 3)] == [0, 1, 4, 3]


def test_fresh_seeds_are_no_trials() -> None:
    for study in (0, 1, 7):
        seeds = fresh_seeds(study, 20)
        assert len(set(seeds)) == 20
        assert not set(seeds) & {trial_seed(study, number) for number in range(10_000)}
        assert fresh_seeds(study, 5) == seeds[:5]
    assert fresh_seeds(0, 3) != fresh_seeds(1, 3)


def runs_of(runs: list[TrialSpec]) -> list[tuple[int, int]]:
    return [(run.number, int(run.settings[0]["seed"])) for run in runs]


def test_every_finalist_has_every_seed_but_for_what_is_done() -> None:
    chosen, seeds = [record(4, 0.9), record(1, 0.8, "erm")], fresh_seeds(3, 3)
    runs = final_runs(chosen, seeds, [])
    assert sorted(runs_of(runs)) == sorted((n, seed) for n in (4, 1) for seed in seeds)
    for run in runs:
        assert run.without_rungs and run.trials == [run.number] and not run.reached_budget
        assert run.settings[0]["epochs"] == 9
    done = [FinalRecord(4, seeds[0], 0.5), FinalRecord(1, seeds[2], 0.5), FinalRecord(1, 8, 0.5)]
    left = {(4, seeds[1]), (4, seeds[2]), (1, seeds[0]), (1, seeds[1])}
    assert set(runs_of(final_runs(chosen, seeds, done))) == left
    everything = [FinalRecord(n, seed, 0.5) for n, seed in runs_of(runs)]
    assert final_runs(chosen, seeds, everything) == []
