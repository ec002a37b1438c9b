"""Finals: who is trained again, with which seeds, who wins, and what can be said for it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from imbtune.search.evidence import (
    decide,
    evidence_of,
    interval,
    paired_p,
    scores_by_trial,
)
from imbtune.search.finals import final_runs, finalists, fresh_seeds
from imbtune.search.records import FinalRecord, RungRecord, SearchOutcome, TrialRecord
from imbtune.search.samplers import trial_seed

values = st.floats(0, 1, allow_subnormal=False)


def record(
    number: int, score: float | None, preset: str | None = None, state: str = "COMPLETE"
) -> TrialRecord:
    rungs = [] if score is None else [RungRecord(number, "cooldown", 9, score, 90, {}, "n", 1.0)]
    return TrialRecord(number, number, preset, state, {"epochs": 9, "seed": number}, rungs)


def finals_of(**scores: list[float]) -> list[FinalRecord]:
    """t3=[0.1, 0.2]: trial 3 with seeds 100 and 101."""
    return [
        FinalRecord(int(name[1:]), 100 + i, score)
        for name, found in scores.items()
        for i, score in enumerate(found)
    ]


def outcome(records: list[TrialRecord], finals: list[FinalRecord]) -> SearchOutcome:
    return SearchOutcome("runs/s", records, *decide(records, finals), 1.0, finals)


# ---- figures -----------------------------------------------------------------------------------


@given(st.lists(values, min_size=2, max_size=8))
def test_the_interval_is_students(scores: list[float]) -> None:
    mean, low, high = interval(np.array(scores))
    spread = stats.sem(scores)
    assert mean == pytest.approx(np.mean(scores))
    assume(spread > 1e-9)
    assert (low, high) == pytest.approx(
        stats.t.interval(0.95, len(scores) - 1, np.mean(scores), spread)
    )


@given(st.lists(st.tuples(values, values), min_size=2, max_size=8))
def test_p_is_that_of_the_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    one, other = np.array(pairs).T
    assume((one - other).std() > 1e-9)
    p = paired_p(one - other)
    assert p == pytest.approx(stats.ttest_rel(one, other).pvalue)
    assert paired_p(other - one) == pytest.approx(p)
    assert 0 <= p <= 1


def test_five_pairs_worked_by_hand() -> None:
    """Mean 0.02, standard deviation √0.0002, t = 0.02/√(0.0002/4) = 2√2 with three degrees."""
    differences = np.array([0.01, 0.01, 0.02, 0.04])
    deviation = math.sqrt((0.01**2 * 2 + 0.02**2) / 3)
    half = 3.182446305 * deviation / 2  # t of 97.5 % with three degrees of freedom
    assert interval(differences) == pytest.approx((0.02, 0.02 - half, 0.02 + half))
    t = 0.02 / (deviation / 2)
    assert paired_p(differences) == pytest.approx(2 * stats.t.sf(t, 3))


@pytest.mark.parametrize(("differences", "p"), [([0.0] * 3, 1.0), ([0.25] * 3, 0.0)])
def test_differences_without_spread(differences: list[float], p: float) -> None:
    assert paired_p(np.array(differences)) == p
    assert interval(np.array(differences)) == (differences[0],) * 3


@given(st.floats(-1, 1), st.integers(2, 7))
def test_equal_differences_are_no_evidence_only_where_they_are_none(x: float, n: int) -> None:
    p = paired_p(np.full(n, x))
    assert p == 1 if x == 0 else p < 1e-6


def test_a_single_value_has_a_mean_alone() -> None:
    mean, low, high = interval(np.array([0.5]))
    assert mean == 0.5 and math.isnan(low) and math.isnan(high)
    assert math.isnan(paired_p(np.array([0.5])))


# ---- who wins ----------------------------------------------------------------------------------


def test_scores_are_in_the_order_of_the_seeds_and_of_whole_sets() -> None:
    finals = [
        FinalRecord(4, 12, 0.3), FinalRecord(4, 11, 0.2), FinalRecord(4, 13, 0.4),
        FinalRecord(2, 13, 0.9), FinalRecord(2, 11, 0.8),
    ]  # fmt: skip
    found = scores_by_trial(finals)
    assert {trial: scores.tolist() for trial, scores in found.items()} == {4: [0.2, 0.3, 0.4]}
    assert scores_by_trial([]) == {}


@given(st.permutations(finals_of(t0=[0.1, 0.2], t1=[0.4, 0.3], t2=[0.5])))
def test_the_order_in_which_finals_end_changes_nothing(finals: list[FinalRecord]) -> None:
    found = {trial: scores.tolist() for trial, scores in scores_by_trial(finals).items()}
    assert found == {0: [0.1, 0.2], 1: [0.4, 0.3]}


def test_the_winner_is_the_best_mean_of_the_finals_not_the_best_score() -> None:
    records = [record(0, 0.7, "erm"), record(1, 0.9), record(2, 0.8), record(3, 0.75, "drw")]
    assert decide(records, []) == (records[1], records[3])
    finals = finals_of(t1=[0.6, 0.7], t2=[0.75, 0.75], t0=[0.1, 0.1], t3=[0.7, 0.6])
    assert decide(records, finals) == (records[2], records[3])
    finals = finals_of(t1=[0.6, 0.7], t2=[0.75, 0.75], t0=[0.9, 0.9], t3=[0.7, 0.6])
    assert decide(records, finals) == (records[0], records[0])


@given(st.lists(st.tuples(st.sampled_from(["COMPLETE", "PRUNED", "FAIL", "STOPPED"]), values)))
def test_only_a_finished_trial_wins(drawn: list[tuple[str, float]]) -> None:
    records = [
        record(i, score, "erm" if i % 3 == 0 else None, state)
        for i, (state, score) in enumerate(drawn)
    ]
    winner, baseline = decide(records, [])
    finished = [r for r in records if r.state == "COMPLETE"]
    best = max((r.score or 0 for r in finished), default=None)
    assert winner == next((r for r in finished if r.score == best), None)
    presets = [r for r in finished if r.preset]
    assert baseline == max(presets, key=lambda r: (r.score, -r.number), default=None)
    if winner and baseline:
        assert (winner.score or 0) >= (baseline.score or 0)


def test_of_a_tie_the_first_trial_wins() -> None:
    records = [record(5, 0.8), record(3, 0.8), record(4, 0.8, "erm"), record(2, 0.8, "drw")]
    assert decide(records, []) == (records[3], records[3])
    finals = finals_of(t5=[0.5, 0.7], t3=[0.75, 0.45])
    winner, baseline = decide(records, finals)
    assert winner is records[1] and baseline is None
    assert decide(records, finals[::-1]) == (winner, baseline)


def test_evidence_compares_the_winner_with_the_best_preset_seed_by_seed() -> None:
    records = [record(0, 0.7, "erm"), record(1, 0.9)]
    won, preset = [0.8, 0.9, 0.85], [0.7, 0.85, 0.8]
    found = evidence_of(outcome(records, finals_of(t1=won, t0=preset)))
    assert found is not None
    assert found.seeds == 3 and found.mean == pytest.approx(0.85)
    assert found.preset_mean == pytest.approx(np.mean(preset))
    assert found.lead == pytest.approx(0.2 / 3)
    assert found.p == pytest.approx(stats.ttest_rel(won, preset).pvalue)
    assert found.lead is not None and found.lead_low is not None and found.lead_high is not None
    assert found.lead_low < found.lead < found.lead_high
    assert found.plain()["low"] == found.low


def test_evidence_without_a_preset_to_compare_with() -> None:
    records = [record(0, 0.7, "erm"), record(1, 0.9)]
    assert evidence_of(outcome(records, [])) is None
    assert evidence_of(outcome([], [])) is None
    for alone in (finals_of(t0=[0.9, 0.8], t1=[0.1, 0.2]), finals_of(t1=[0.1, 0.2])):
        found = evidence_of(outcome(records, alone))
        assert found is not None and found.seeds == 2
        assert found.lead is None and found.p is None and found.preset_mean is None


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


def test_fresh_seeds_are_no_trials() -> None:
    for study in (0, 1, 7):
        seeds = fresh_seeds(study, 20)
        assert len(set(seeds)) == 20
        assert not set(seeds) & {trial_seed(study, number) for number in range(10_000)}
        assert fresh_seeds(study, 5) == seeds[:5]
    assert fresh_seeds(0, 3) != fresh_seeds(1, 3)


def runs_of(runs: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(run["number"], run["settings"][0]["seed"]) for run in runs]


def test_every_finalist_has_every_seed_but_for_what_is_done() -> None:
    chosen, seeds = [record(4, 0.9), record(1, 0.8, "erm")], fresh_seeds(3, 3)
    runs = final_runs(chosen, seeds, [])
    assert sorted(runs_of(runs)) == sorted((n, seed) for n in (4, 1) for seed in seeds)
    for run in runs:
        assert run["whole"] and run["trials"] == [run["number"]] and not run["reached"]
        assert run["settings"][0]["epochs"] == 9
    done = [FinalRecord(4, seeds[0], 0.5), FinalRecord(1, seeds[2], 0.5), FinalRecord(1, 8, 0.5)]
    left = {(4, seeds[1]), (4, seeds[2]), (1, seeds[0]), (1, seeds[1])}
    assert set(runs_of(final_runs(chosen, seeds, done))) == left
    everything = [FinalRecord(n, seed, 0.5) for n, seed in runs_of(runs)]
    assert final_runs(chosen, seeds, everything) == []
