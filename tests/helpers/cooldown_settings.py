"""Settings at random of which some act in the cool-down alone, and trunks with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from hypothesis import strategies as st
from short_runs import CHEAP, DATA, everything

from imbtune.config.train_config import TrainConfig, active
from imbtune.spaces.searched_knob import SearchedKnob
from imbtune.spaces.space_file import list_spaces, load_space
from imbtune.training.loop import train_epoch
from imbtune.training.phases import trunk
from imbtune.training.state import TrainState

SMALL = {"model": "small_cnn", "model.width": 2, "batch_size": 30, "precision": "float32"}


KNOBS: dict[
    str, SearchedKnob
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
    epochs_left = trunk(0, epochs, config.epochs, config.schedule.shared)
    logs = [train_epoch(state, DATA, epoch) for epoch in epochs_left]
    return [(log.lr, log.loss) for log in logs], state.passes, everything(state)
