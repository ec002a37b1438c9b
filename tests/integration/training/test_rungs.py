"""Whole runs of every preset: what is trained for lower rungs leaves no trace in the top one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from short_runs import DATA, make_config, preset_config, trained

from imbtune.config.train_config import TrainConfig
from imbtune.spaces.presets import PRESETS
from imbtune.training.phases import RUNG_KINDS, rung_segments
from imbtune.training.rungs import EpochResult, RungResult, train_through_rungs


def climbed(config: TrainConfig, kind: str, budgets: list[int]) -> list[EpochResult | RungResult]:
    return list(
        train_through_rungs([config], DATA, rung_segments(kind, budgets, config.schedule.shared))
    )


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
