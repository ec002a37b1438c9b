"""The path of a trial: late settings on one trunk, paths cut by a kill, every kind at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rung_runs import RESUMED, VARIANTS, configs_of, phases_of, rungs_on, score_of
from short_runs import CHEAP, DATA

from imbtune.methods.lr_schedules import Phases
from imbtune.training.loop import train_epoch
from imbtune.training.phases import (
    RUNG_KINDS,
    Epoch,
    Segment,
    calibration_segments,
    remaining_segments,
    rung_segments,
    trunk,
)
from imbtune.training.rungs import EpochResult, RungResult, train_through_rungs
from imbtune.training.state import TrainState

# ---- several late settings on one trunk ---------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "epochs"),
    [  # cool-downs of 0.6, 0.2 and 0.4: 2, 1, 1 of 3 epochs and 5, 2, 4 of 9
        ("cooldown", 7 + (2 + 1 + 1) + (5 + 2 + 4)),
        ("compressed", 2 + (2 + 1 + 1) + 7 + (5 + 2 + 4)),
    ],
)
def test_the_trunk_is_counted_once(kind: str, epochs: int) -> None:
    configs = configs_of(VARIANTS["lengths"])
    path = rung_segments(kind, [3, 9], *phases_of(configs))
    results = list(train_through_rungs(configs, DATA, path))
    assert sum(isinstance(r, EpochResult) for r in results) == epochs
    assert isinstance(results[-1], RungResult)
    assert results[-1].passes == 60 * epochs  # 87 images: one step of 60
    tops = [r for r in results if isinstance(r, RungResult) and r.segment.budget == 9]
    assert {r.segment.variant: r.branch_passes for r in tops} == {0: 300, 1: 120, 2: 240}


def test_variants_with_images_of_their_own_are_each_charged_for_them() -> None:
    """Two sets of DeepSMOTE are two sets; the same set twice is one."""
    few = {"generate": "deepsmote", "generate.schedule": "deferred", **CHEAP["deepsmote"]}
    many = {**few, "generate.epochs": 3}

    def passes(*variants: dict[str, Any]) -> int:
        configs = configs_of(({}, *variants))
        return rungs_on(configs, rung_segments("cooldown", [9], *phases_of(configs)))[-1].passes

    plain = 7 * 60 + 2 * 60  # the trunk and the first variant's cool-down
    cooled = 2 * 4 * 60  # 60 images of each class
    assert passes(few) == plain + cooled + 2 * 87
    assert passes(few, few) == plain + 2 * cooled + 2 * 87
    assert passes(few, many) == plain + 2 * cooled + 2 * 87 + 2 * 3 * 87


# ---- paths that go on after a kill --------------------------------------------------------------


def test_variants_go_on_from_a_checkpoint_between_rungs() -> None:
    """The shorter cool-down of the reached rung lies behind; the next rung's may begin before."""
    configs = configs_of(VARIANTS["lengths"])
    path = rung_segments("cooldown", [3, 9], *phases_of(configs))
    results = list(train_through_rungs(configs, DATA, path))
    expected = {r.segment.variant: score_of(r) for r in rungs_on(configs, path)[3:]}
    assert len(results) and len(expected) == 3
    for trained in range(4):
        state = TrainState(configs[0], DATA)
        for epoch in trunk(0, trained, 9, configs[0].schedule.shared):
            train_epoch(state, DATA, epoch)
        again = rungs_on(configs, remaining_segments(path, 3, trained), state if trained else None)
        assert {r.segment.variant: score_of(r) for r in again} == expected


rungs = st.lists(st.integers(1, 60), min_size=1, max_size=5, unique=True).map(sorted)
phases = st.builds(Phases, warmup=st.just(0.1), cooldown=st.floats(0.02, 1))


def scored(path: list[Segment], variant: int, trained: Sequence[Epoch] = ()) -> list[Any]:
    """The budgets and the epochs behind each scored model of a variant.

    Args:
        trained: what is behind the state that a path begins with which does not begin afresh.
    """
    behind, found = list(trained), []
    for s in path:
        behind = ([] if s.fresh else behind) + list(s.epochs)
        found += [(s.budget, [*behind, *s.branch])] if s.variant == variant else []
    return found


@pytest.mark.parametrize("kind", ["cooldown", "compressed"])
@given(budgets=rungs, variants=st.lists(phases, min_size=1, max_size=4))
def test_every_variants_rungs_are_those_of_its_own_path(
    kind: str, budgets: list[int], variants: list[Phases]
) -> None:
    """The epochs behind each scored model, warm-up included, are what they are alone."""
    path = rung_segments(kind, budgets, *variants)
    assert [s.budget for s in path if s.variant == 0] == budgets
    for v, one in enumerate(variants):
        assert scored(path, v) == scored(rung_segments(kind, budgets, one), 0)
    assert sum(s.fresh for s in path) == (1 if kind == "cooldown" else len(budgets))
    once = [e.index for s in path for e in s.epochs]
    assert all(b in (a + 1, 0) for a, b in pairwise(once))


@pytest.mark.parametrize("kind", RUNG_KINDS)
@given(budgets=rungs, variants=st.lists(phases, min_size=1, max_size=4), data=st.data())
def test_what_is_left_of_a_path_scores_the_rest_of_it(
    kind: str, budgets: list[int], variants: list[Phases], data: st.DataObject
) -> None:
    """Begun afresh, or from any epoch of the trunk up to the first cool-down that is left."""
    variants = variants[:1] if kind == "prefix" else variants
    path = rung_segments(kind, budgets, *variants)
    reached = data.draw(st.sampled_from([0, *budgets[:-1]]))
    turns = [len(scored([*path[: i + 1]], s.variant)[-1][1]) - len(s.branch)
             for i, s in enumerate(path) if s.budget > reached]  # fmt: skip
    shared = 0 if kind == "compressed" else min(turns)
    trained = data.draw(st.integers(0, shared))
    left = remaining_segments(path, reached, trained)
    behind = [e for s in path for e in s.epochs][:trained]
    assert left[0].fresh == (not trained)
    for v in range(len(variants)):
        whole = [row for row in scored(path, v) if row[0] > reached]
        assert scored(left, v, behind) == whole


@pytest.mark.parametrize("changes", RESUMED.values(), ids=RESUMED)
def test_one_path_scores_every_kind_as_that_kinds_own_path(changes: dict[str, Any]) -> None:
    (config,) = configs_of([changes])
    budgets, shared = [1, 3, 9], config.schedule.shared
    every = {
        (r.segment.kind, r.segment.budget): r
        for r in rungs_on([config], calibration_segments(budgets, shared))
    }
    assert len(every) == 3 * 2 + 1
    for kind in RUNG_KINDS:
        for alone in rungs_on([config], rung_segments(kind, budgets, shared)):
            budget = alone.segment.budget
            mine = every["cooldown" if budget == 9 else kind, budget]
            assert np.array_equal(mine.confusion_KK, alone.confusion_KK)
            assert score_of(mine) == score_of(alone)
