"""Trunks with settings at random that act in the cool-down alone are equal to the last bit."""

from __future__ import annotations

from typing import Any

import hypothesis
from cooldown_settings import config_of, late_settings, trunk_choices, trunk_of
from short_runs import same

from imbtune.config.cooldown_only import trunk_settings


@hypothesis.settings(max_examples=60)
@hypothesis.given(trunk_choices(), late_settings(), late_settings())
def test_trunks_are_equal_to_the_bit_where_late_settings_alone_differ(
    shared: dict[str, Any], one: dict[str, Any], other: dict[str, Any]
) -> None:
    configs = [config_of({**shared, **late}) for late in (one, other)]
    assert trunk_settings(configs[0]) == trunk_settings(configs[1])
    epochs = min(3, *(config.schedule.shared.trunk_epochs(6) for config in configs))
    (losses, passes, kept), (others, other_passes, also) = (trunk_of(c, epochs) for c in configs)
    assert losses == others and passes == other_passes
    assert same(kept, also)
