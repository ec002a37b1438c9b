"""The benchmark of searches, on a small made-up table."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pandas as pd
import pytest
import recorded
import replay
from contenders import ALL, MAIN, PLAIN, RANDOM, OptunaHyperband, ours_pruning_all
from recorded import Recorded
from recorded_table import BUDGETS, PHASES, N, write_table

from imbtune.training.phases import rung_segments
from imbtune.tuning.forecast.simulate import simulate


@pytest.fixture
def table(tmp_path: Path) -> Recorded:
    write_table(tmp_path)
    return recorded.read(tmp_path, "made-up")


def test_the_table_as_it_was_recorded(tmp_path: Path, table: Recorded) -> None:
    rows = pd.read_parquet(tmp_path / "made-up-rungs.parquet")
    assert recorded.names(tmp_path) == ["made-up", "made-up, better half"]
    assert table.budgets == BUDGETS
    assert len(table.own_N) == N - 1  # the first configuration lacks a seed
    for i, n in enumerate(range(1, N)):
        mine = rows[rows["config"] == n].set_index(["seed", "kind", "budget"])["score"]
        for kind in ("prefix", "compressed", "cooldown"):
            seen = [mine[0, kind, b] for b in BUDGETS[:-1]] + [mine[0, "cooldown", 27]]
            assert table.scores[kind][i].tolist() == seen
        others = [mine[seed, "cooldown", 27] for seed in (1, 2)]
        assert table.other_N[i] == pytest.approx(sum(others) / 2)
        assert table.truth_N[i] == pytest.approx((mine[0, "cooldown", 27] + sum(others)) / 3)
    assert table.curve_NT.shape == (N - 1, 27)
    assert (table.curve_NT[:, -1] == table.own_N).all()


def test_the_better_half_has_the_best_truths(tmp_path: Path, table: Recorded) -> None:
    half = recorded.read(tmp_path, "made-up, better half")
    assert sorted(half.truth_N) == sorted(table.truth_N)[-((N - 1) // 2) :]
    assert set(half.own_N) <= set(table.own_N)


def test_costs_are_those_of_the_trials_path(table: Recorded) -> None:
    for kind in ("prefix", "compressed", "cooldown"):
        expected = [s.cost for s in rung_segments(kind, [3, 27], PHASES)]
        assert table.costs(kind, [1, 3]).tolist() == [expected] * (N - 1)
    assert table.costs("prefix", [0, 1, 2, 3]).sum() == 27 * (N - 1)
    assert table.costs("compressed", [0, 1, 2, 3]).sum() == (1 + 3 + 9 + 27) * (N - 1)


def test_random_search_has_the_literal_regret(table: Recorded) -> None:
    """After k full runs: the best truth less that of the best score among the first k drawn."""
    population, trials = replay.draws(len(table.own_N), 5)
    drawn = list(islice(trials, 40))
    assert len(population) == len(table.own_N) and set(drawn) <= set(population)
    searched = replay.replay(
        ALL[RANDOM].scheduler(table, 5), ALL[RANDOM].paths(table), table, 1, population, drawn
    )
    best = max(table.truth_N[p] for p in population)
    for compute, regret in zip(replay.grid(1), searched.regret_G, strict=True):
        done = drawn[: int(compute)]
        chosen = max(done, key=lambda n: table.own_N[n]) if done else None
        mean = sum(table.truth_N[p] for p in population) / len(population)
        expected = best - (mean if chosen is None else table.truth_N[chosen])
        assert regret == pytest.approx(expected)
    assert (searched.started, searched.finished, searched.spent) == (40, 40, 40)


@pytest.mark.parametrize("label", ALL)
def test_every_contender_searches(table: Recorded, label: str) -> None:
    """Whatever stops trials trains less than all of them would, and every finish was trained."""
    population, trials = replay.draws(len(table.own_N), 1)
    paths = ALL[label].paths(table)
    drawn = list(islice(trials, 60))
    done = replay.replay(ALL[label].scheduler(table, 1), paths, table, 8, population, drawn)
    assert done.started == 60 and 0 < done.finished <= 60
    assert done.spent <= sum(cost for n in drawn for cost, _ in paths[n]) / 27 + 1e-9
    assert (done.finished == 60) == (label == RANDOM)
    assert (done.regret_G >= 0).all() and (done.regret_at_time >= 0).all()


def test_plain_asha_sees_epochs_and_ours_rungs_alike(table: Recorded) -> None:
    """On prefix rungs, without rescue, they are the same search."""
    population, trials = replay.draws(len(table.own_N), 2)
    drawn = list(islice(trials, 100))
    paths = ALL[PLAIN].paths(table)
    ours = ours_pruning_all(BUDGETS, 3, 0)
    plain = ALL[PLAIN].scheduler(table, 0)
    found = [replay.replay(s, paths, table, 8, population, drawn) for s in (plain, ours)]
    assert (found[0].regret_G == found[1].regret_G).all() and found[0].spent == found[1].spent


def test_optuna_is_asked_and_told(table: Recorded) -> None:
    """Its study has every trial, pruned or complete, with the scores that it was given."""
    scheduler = OptunaHyperband(BUDGETS, 3, 0)
    configs = [{"number": i, "config": i % (N - 1)} for i in range(50)]
    paths = MAIN["Optuna's Hyperband"].paths(table)
    events = list(simulate(scheduler, configs, lambda c: paths[c["config"]], 4))
    states = [trial.state.name for trial in scheduler._study.trials]
    assert set(states) == {"PRUNED", "COMPLETE"} and len(states) == 50
    for i, trial in enumerate(scheduler._study.trials):
        mine = [e.result for e in events if e.trial == i]
        assert trial.intermediate_values == {r["epoch"]: r["score"] for r in mine}
        assert (trial.state.name == "COMPLETE") == (mine[-1]["epoch"] == 27)
