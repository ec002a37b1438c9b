"""Which settings act only in the cool-down: late ones.

Configurations that differ in late settings alone have the same trunk, to the last bit, so one trunk
serves them all (`late_variants` of a space).
"""

from __future__ import annotations

from collections.abc import Mapping

from imbtune.config import TrainConfig
from imbtune.registry import Value

LATE_SCHEDULES = ("never", "deferred", "linear", "cosine")  # of class weights: 0 on the trunk
LATE_KNOBS = ("mix.late",)
LATE_SLOTS = ("schedule", "after")
TRUNK_KNOBS = ("schedule.warmup",)


def acts_late(key: str, settings: Mapping[str, Value]) -> bool:
    """Whether the setting `key` of a complete configuration acts in the cool-down alone."""
    slot = key.partition(".")[0]
    if key in TRUNK_KNOBS:
        return False
    if slot == "weights":
        return settings["weights"] == "none" or settings["weights.schedule"] in LATE_SCHEDULES
    if slot == "generate":
        return settings["generate"] == "none" or settings["generate.schedule"] != "always"
    return key in LATE_KNOBS or slot in LATE_SLOTS


def trunk_settings(config: TrainConfig) -> dict[str, Value]:
    """The settings that a trunk follows from; equal ones make equal trunks."""
    settings = config.flat()
    return {key: value for key, value in settings.items() if not acts_late(key, settings)}
