"""What a whole run costs, worked out beforehand, against what the loop counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from short_runs import CHEAP, DATA, make_config

from imbtune.spaces.presets import PRESETS, find_preset
from imbtune.training.cost.image_passes import run_passes, segment_passes, whole_run_segments
from imbtune.training.phases import rung_segments
from imbtune.training.rungs import RungResult, train_through_rungs

OTHERS: list[dict[str, Any]] = [
    {"generate": "m2m", "generate__schedule": "always", "optimizer": "sam", **{
        knob.replace(".", "__"): value for knob, value in CHEAP["m2m"].items()}},
    {"generate": "m2m", "generate__share": 2.0, "generate__steps": 3, "epochs": 7},
    {"generate": "deepsmote", "after": "crt", "optimizer": "imbsam", **{
        knob.replace(".", "__"): value for knob, value in CHEAP["deepsmote"].items()}},
    {"after": "lws", "after__share": 0.6, "batch_size": 500},
    {"schedule__cooldown": 1.0, "batch_size": 7},
]  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_a_presets_whole_run_costs_what_is_said(name: str) -> None:
    settings = find_preset(name).settings
    generator = str(settings.get("generate", "none"))
    changes = {**settings, **CHEAP.get(generator, {})}
    check({knob.replace(".", "__"): value for knob, value in changes.items()})


@pytest.mark.parametrize("changes", OTHERS, ids=str)
def test_a_whole_run_costs_what_is_said(changes: dict[str, Any]) -> None:
    check(changes)


@pytest.mark.parametrize("kind", ["cooldown", "compressed"])
@pytest.mark.parametrize("name", ["deepsmote", "m2m", "crt", "sam_drw"])
def test_each_rung_costs_what_is_said(name: str, kind: str) -> None:
    """With a late variant of it; generated images are charged once a trunk."""
    first = {**find_preset(name).settings, **CHEAP.get(name, {}), "epochs": 9}
    second = {**first, "schedule.cooldown": 0.6, "after": "logit_adjustment"}
    variants = [
        make_config(**{k.replace(".", "__"): v for k, v in s.items()}) for s in (first, second)
    ]
    path = rung_segments(kind, [3, 9], *(config.schedule.shared for config in variants))
    rungs = [
        r.passes for r in train_through_rungs(variants, DATA, path) if isinstance(r, RungResult)
    ]
    assert np.diff([0, *rungs]).tolist() == segment_passes(variants, DATA.counts_K, path)


def check(changes: dict[str, Any]) -> None:
    config = make_config(**changes)
    (top,) = [
        r
        for r in train_through_rungs([config], DATA, whole_run_segments(config))
        if isinstance(r, RungResult)
    ]
    assert run_passes(config, DATA.counts_K) == top.passes
