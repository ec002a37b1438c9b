"""Whole runs through rungs: with every preset, on shared trunks, and from every rung on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from rung_runs import RESUMED, VARIANTS, configs_of, phases_of, rungs_on, score_of
from short_runs import DATA, make_config, preset_config, trained

from imbtune.config.train_config import TrainConfig
from imbtune.spaces.presets import PRESETS
from imbtune.training.phases import RUNG_KINDS, remaining_segments, rung_segments
from imbtune.training.rungs import Diverged, EpochResult, RungResult, train_through_rungs
from imbtune.training.state import TrainState


def climbed(config: TrainConfig, kind: str, budgets: list[int]) -> list[EpochResult | RungResult]:
    path = rung_segments(kind, budgets, config.schedule.shared)
    results = train_through_rungs([config], DATA, path)
    return [result for result in results if not isinstance(result, Diverged)]


def last_epochs(results: list[EpochResult | RungResult], count: int) -> list[tuple[Any, ...]]:
    epochs = [r for r in results if isinstance(r, EpochResult)][-count:]
    return [(r.epoch, r.lr, r.loss, r.confusion_KK.tolist()) for r in epochs]


@pytest.mark.parametrize("mix", ["none", "cutmix"])
def test_all_kinds_of_rungs_end_in_the_same_run(mix: str) -> None:
    """Whatever was tried below it, the top rung is the run of that budget, to the last bit."""
    config = make_config(mix=mix, epochs=9, weights="effective_number", schedule__cooldown=0.4)
    alone = climbed(config, "compressed", [9])
    assert last_epochs(climbed(config, "cooldown", [9]), 9) == last_epochs(alone, 9)
    for kind in ("cooldown", "compressed", "prefix"):
        results = climbed(config, kind, [1, 3, 9])
        assert last_epochs(results, 4) == last_epochs(alone, 4)
        top = results[-1]
        assert isinstance(top, RungResult) and top.segment.budget == 9
        state = trained(config)
        assert np.array_equal(top.confusion_KK, state.evaluate(DATA))


def fingerprint(result: EpochResult | RungResult) -> list[list[float]]:
    """Of the model at the top: its margins, float for float, and its confusion."""
    assert isinstance(result, RungResult) and result.margins is not None
    return [*(mean_K.tolist() for mean_K in result.margins), *result.confusion_KK.tolist()]


@pytest.mark.parametrize("kind", RUNG_KINDS)
@pytest.mark.parametrize("preset", PRESETS)
def test_rungs_below_leave_no_trace_in_the_top_ones_model(preset: str, kind: str) -> None:
    config = preset_config(preset, epochs=4, model__width=2, batch_size=60)
    alone = climbed(config, "compressed", [4])
    results = climbed(config, kind, [2, 4])
    assert fingerprint(results[-1]) == fingerprint(alone[-1])
    assert isinstance(results[-1], RungResult) and results[-1].segment.budget == 4
    below = next(r for r in results if isinstance(r, RungResult))
    assert below.segment.budget == 2 and below.margins is None


@pytest.mark.parametrize("kind", ["cooldown", "compressed"])
@pytest.mark.parametrize("variants", VARIANTS.values(), ids=VARIANTS)
def test_variants_score_on_a_shared_trunk_as_they_do_alone(
    variants: list[dict[str, Any]], kind: str
) -> None:
    configs = configs_of(variants)
    together = rungs_on(configs, rung_segments(kind, [3, 9], *phases_of(configs)))
    assert sorted((r.segment.budget, r.segment.variant) for r in together) == [
        (budget, variant) for budget in (3, 9) for variant in range(3)
    ]
    for variant, config in enumerate(configs):
        alone = rungs_on([config], rung_segments(kind, [3, 9], config.schedule.shared))
        mine = [r for r in together if r.segment.variant == variant]
        assert [score_of(r) for r in mine] == [score_of(r) for r in alone]
        assert [r.branch_passes for r in mine] == [r.branch_passes for r in alone]
        assert mine[-1].margins is not None and mine[0].margins is None


def test_variants_differ_in_what_they_score() -> None:
    """Else the test above would say nothing."""
    configs = configs_of(VARIANTS["lengths"])
    results = rungs_on(configs, rung_segments("cooldown", [3, 9], *phases_of(configs)))
    top = [str(score_of(r)) for r in results if r.segment.budget == 9]
    assert len(set(top)) == 3


@pytest.mark.parametrize("kept", [True, False], ids=["checkpoint", "anew"])
@pytest.mark.parametrize("kind", RUNG_KINDS)
@pytest.mark.parametrize("changes", RESUMED.values(), ids=RESUMED)
def test_a_climb_goes_on_from_any_rung_to_the_same_scores(
    changes: dict[str, Any], kind: str, kept: bool
) -> None:
    """From a checkpoint in a new state, where the trunk goes on; or from new weights."""
    (config,) = configs_of([changes])
    path = rung_segments(kind, [1, 3, 9], config.schedule.shared)
    whole, trained = [], 0
    for result in train_through_rungs([config], DATA, path):
        if isinstance(result, EpochResult) and result.epoch not in result.segment.branch:
            trained = result.epoch.index + 1
        if isinstance(result, RungResult):
            snapshot = result.state.snapshot() if kept and kind != "compressed" else None
            whole.append((result, trained if snapshot else 0, clone(snapshot)))
    for i, (reached, epochs, snapshot) in enumerate(whole[:-1]):
        state = None
        if snapshot and epochs:
            state = TrainState(config, DATA)
            state.restore(snapshot)
        left = remaining_segments(path, reached.segment.budget, epochs)
        assert sum(s.cost for s in left) <= sum(s.cost for s in path)
        again = rungs_on([config], left, state)
        assert [score_of(r) for r in again] == [score_of(r) for r, *_ in whole[i + 1 :]]
        if state and kind != "compressed":
            assert [r.passes for r in again] == [r.passes for r, *_ in whole[i + 1 :]]


def clone(snapshot: Any) -> Any:
    """Tensors apart from those that are trained on, as a checkpoint's are."""
    if isinstance(snapshot, torch.Tensor):
        return snapshot.clone()
    if isinstance(snapshot, dict):
        return {key: clone(value) for key, value in snapshot.items()}
    return [clone(value) for value in snapshot] if isinstance(snapshot, list) else snapshot
