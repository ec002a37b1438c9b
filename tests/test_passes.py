"""What a whole run costs, worked out beforehand, against what the loop counts."""

from __future__ import annotations

from typing import Any

import pytest
from short_runs import CHEAP, DATA, make_config

from imbtune.presets import PRESETS, find_preset
from imbtune.training.climb import RungResult, climb
from imbtune.training.passes import run_passes
from imbtune.training.progress import stretches

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


def check(changes: dict[str, Any]) -> None:
    config = make_config(**changes)
    path = stretches("cooldown", [config.epochs], config.schedule.shared)
    (top,) = [r for r in climb([config], DATA, path) if isinstance(r, RungResult)]
    assert run_passes(config, DATA.counts_K) == top.passes
