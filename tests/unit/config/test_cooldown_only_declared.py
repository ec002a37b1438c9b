"""Knobs and registries say which settings act only in the cool-down, for plugins as well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import pytest
from torch import Tensor

from imbtune.config.cooldown_only import (
    COOLDOWN_ONLY_SCHEDULES,
    can_be_cooldown_only,
    is_cooldown_only,
    trunk_settings,
)
from imbtune.config.slots import SLOTS
from imbtune.config.train_config import TrainConfig
from imbtune.methods.class_weights import weights
from imbtune.methods.lr_schedules import schedules
from imbtune.methods.posthoc import posthoc_methods
from imbtune.registry import Knob


def test_the_order_of_the_switches_is_that_of_a_searchs_random_draws() -> None:
    assert list(COOLDOWN_ONLY_SCHEDULES.items()) == [
        ("weights.schedule", ("never", "deferred", "linear", "cosine")),
        ("generate.schedule", ("deferred",)),
    ]


def test_cooldown_only_choices_are_choices() -> None:
    for registry in SLOTS.values():
        for declared in registry.shared_knobs.values():
            knob = declared.knob
            assert {*knob.cooldown_only_choices, *knob.off_choices} <= set(knob.choices)


@pytest.fixture
def plugins() -> Iterator[None]:
    """An `after`, a schedule and a weighting that do not come with imbtune."""

    @posthoc_methods.register("mine", help="for this test")
    def after(
        counts_K: Tensor,
        norms_K: Tensor,
        scale: Tensor,
        *,
        bite: Annotated[float, Knob("teeth", 0, 1)] = 0.5,
    ) -> None: ...

    @schedules.register("mine", help="for this test")
    def schedule(cooldown: float, *, bend: Annotated[float, Knob("how much", 0, 1)] = 0.5) -> float:
        return 1 - bend * cooldown

    @weights.register("mine", help="for this test", bare=True)
    def no_schedule(counts_K: Tensor) -> Tensor:
        return counts_K / counts_K.mean()

    yield
    for registry in (posthoc_methods, schedules, weights):
        registry.remove("mine")


@pytest.mark.usefixtures("plugins")
def test_a_plugins_post_hoc_method_and_schedule_act_only_in_the_cool_down() -> None:
    settings = {"after": "mine", "schedule": "mine", "weights": "mine"}
    config = TrainConfig.from_settings(settings)
    flat = config.flat()
    for key in ("after", "after.bite", "schedule", "schedule.bend", "schedule.cooldown", "weights"):
        assert is_cooldown_only(key, flat), key
        assert can_be_cooldown_only(key), key
    assert not is_cooldown_only("schedule.warmup", flat)
    assert trunk_settings(config) == trunk_settings(TrainConfig.from_settings({}))
