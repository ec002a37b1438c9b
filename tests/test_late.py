"""What acts in the cool-down alone: equal trunks, and searches with several trials on each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from short_runs import CHEAP, DATA, everything, same

from imbtune.config import TrainConfig, active
from imbtune.late import acts_late, may_act_late, trunk_settings
from imbtune.search.space import KnobRange
from imbtune.search.space_file import list_spaces, load_space
from imbtune.training.loop import TrainState, train_epoch
from imbtune.training.progress import trunk

SMALL = {"model": "small_cnn", "model.width": 2, "batch_size": 30, "precision": "float32"}

KNOBS: dict[
    str, KnobRange
] = {}  # every choice of every shipped space; the widest list where spaces differ
for _name in list_spaces():
    for _knob in load_space(_name).knobs:
        if len(_knob.choices) >= len(KNOBS.get(_knob.key, _knob).choices):
            KNOBS[_knob.key] = _knob


def values_of(key: str) -> st.SearchStrategy[Any]:
    """What the shipped spaces search a knob among."""
    knob = KNOBS[key]
    if knob.choices:
        return st.sampled_from(knob.choices)
    whole = knob.type is int
    return st.integers(int(knob.low), int(knob.high)) if whole else st.floats(knob.low, knob.high)


def drawn(draw: st.DrawFn, keys: list[str]) -> dict[str, Any]:
    return {key: draw(values_of(key), key) for key in keys}


def slot_of(key: str) -> str:
    return key.partition(".")[0]


@st.composite
def late_settings(draw: st.DrawFn) -> dict[str, Any]:
    """Settings of which none acts before the cool-down, chosen by hand from what they do."""
    keys = [key for key in KNOBS if slot_of(key) in ("schedule", "after", "weights")]
    late = drawn(draw, [*keys, "mix.late"])
    late["schedule.drop"] = draw(st.sampled_from([0.01, 0.3]))
    late["weights.schedule"] = draw(st.sampled_from(["never", "deferred", "linear", "cosine"]))
    late["weights.reduction"] = draw(st.sampled_from(["weighted_mean", "mean"]))
    late["generate"] = draw(st.sampled_from(["none", "deepsmote", "m2m"]))
    return {**late, "generate.schedule": "deferred", **CHEAP.get(late["generate"], {})}


@st.composite
def trunk_choices(draw: st.DrawFn) -> dict[str, Any]:
    slots = ("mix", "loss", "sampler", "optimizer")
    keys = [k for k in KNOBS if slot_of(k) in slots and k != "mix.late"]
    return drawn(draw, keys) | {"seed": draw(st.integers(0, 3)), "epochs": 6, **SMALL}


def config_of(settings: Mapping[str, Any]) -> TrainConfig:
    """A configuration without the knobs that its parts do not have."""
    return TrainConfig.from_settings(active(settings))


def trunk_of(config: TrainConfig, epochs: int) -> tuple[Any, int, list[torch.Tensor]]:
    state = TrainState(config, DATA)
    losses = [
        train_epoch(state, DATA, epoch)
        for epoch in trunk(0, epochs, config.epochs, config.schedule.shared)
    ]
    return losses, state.passes, everything(state)


@settings(max_examples=60)
@given(trunk_choices(), late_settings(), late_settings())
def test_trunks_are_equal_to_the_bit_where_late_settings_alone_differ(
    shared: dict[str, Any], one: dict[str, Any], other: dict[str, Any]
) -> None:
    configs = [config_of({**shared, **late}) for late in (one, other)]
    assert trunk_settings(configs[0]) == trunk_settings(configs[1])
    epochs = min(3, *(config.schedule.shared.trunk_epochs(6) for config in configs))
    (losses, passes, kept), (others, other_passes, also) = (trunk_of(c, epochs) for c in configs)
    assert losses == others and passes == other_passes
    assert same(kept, also)


@given(trunk_choices(), late_settings())
def test_what_is_late_is_what_the_trunk_settings_leave_out(
    shared: dict[str, Any], late: dict[str, Any]
) -> None:
    config = config_of({**shared, **late})
    flat = config.flat()
    left_out = {key for key in flat if key not in trunk_settings(config)}
    assert left_out == {
        key
        for key in flat
        if slot_of(key) in ("weights", "generate", "schedule", "after") or key == "mix.late"
    } - {"schedule.warmup"}
    assert all(may_act_late(key) and acts_late(key, flat) for key in left_out)


BASE = {"mix": "mixup", "weights": "inverse", "generate": "none", **SMALL}


@pytest.mark.parametrize(
    "change",
    [
        {"weights.schedule": "always"},
        {"weights.schedule": "cumulative"},
        {"mix": "cutmix"},
        {"mix.alpha": 0.5},
        {"mix.early": "wait"},
        {"loss": "ldam"},
        {"optimizer.lr": 0.05},
        {"optimizer": "sam"},
        {"sampler": "class_balanced"},
        {"schedule.warmup": 0.3},
        {"generate": "m2m", "generate.schedule": "always", **CHEAP["m2m"]},
        {"model.width": 3},
        {"seed": 1},
        {"batch_size": 60},
    ],
    ids=lambda change: " ".join(change),
)
def test_what_acts_on_the_trunk_tells_trunks_apart(change: dict[str, Any]) -> None:
    """In the trunk's settings, and in what is trained."""
    one, other = config_of(BASE), config_of({**BASE, **change})
    assert trunk_settings(one) != trunk_settings(other)
    assert not same(trunk_of(one, 2)[-1], trunk_of(other, 2)[-1])


def test_weights_that_act_on_the_trunk_are_part_of_it() -> None:
    for schedule in ("always", "cumulative"):
        always = {**BASE, "weights.schedule": schedule}
        one, other = (config_of({**always, "weights.power": power}) for power in (0.5, 1.0))
        assert trunk_settings(one) != trunk_settings(other)
        assert trunk_settings(one) != trunk_settings(config_of({**always, "weights": "none"}))


def test_a_knob_that_no_configuration_has_in_the_cooldown_alone() -> None:
    assert not any(
        map(may_act_late, ("mix", "mix.alpha", "loss", "optimizer.lr", "schedule.warmup", "seed"))
    )
    assert all(map(may_act_late, ("weights", "weights.beta", "generate.epochs", "after.tau")))
