"""Which settings act only in the cool-down: late ones.

Configurations that differ in late settings alone have the same trunk, to the last bit, so one trunk
serves them all (`late_variants` of a space).
"""

from __future__ import annotations

from collections.abc import Mapping

from imbtune.config.train_config import TrainConfig
from imbtune.registry import Value

COOLDOWN_ONLY_SCHEDULES = {  # with one of these, the slot does nothing on the trunk
    "weights.schedule": ("never", "deferred", "linear", "cosine"),
    "generate.schedule": ("deferred",),
}
_SLOTS, _KNOBS, _NOT = ("schedule", "after"), ("mix.late",), ("schedule.warmup",)


def is_cooldown_only(key: str, settings: Mapping[str, Value]) -> bool:
    """Whether the setting `key` of a complete configuration acts in the cool-down alone."""
    slot = key.partition(".")[0]
    switch = f"{slot}.schedule"
    if switch in COOLDOWN_ONLY_SCHEDULES:
        return settings[slot] == "none" or settings[switch] in COOLDOWN_ONLY_SCHEDULES[switch]
    return key in _KNOBS or (slot in _SLOTS and key not in _NOT)


def can_be_cooldown_only(key: str) -> bool:
    """Whether there are configurations in which `key` acts in the cool-down alone."""
    switch = f"{key.partition('.')[0]}.schedule"
    return switch in COOLDOWN_ONLY_SCHEDULES or is_cooldown_only(key, {})


def trunk_settings(config: TrainConfig) -> dict[str, Value]:
    """The settings that a trunk follows from; equal ones make equal trunks."""
    settings = config.flat()
    return {key: value for key, value in settings.items() if not is_cooldown_only(key, settings)}
