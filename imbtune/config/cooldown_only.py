"""Which settings act only in the cool-down.

Configurations that differ in such settings alone have the same trunk, to the last bit, so a search
trains that trunk once for all of them (`late_variants` in a space). The knobs and registries
declare which settings these are (:class:`imbtune.registry.Knob`); this module only reads them.
"""

from __future__ import annotations

from collections.abc import Mapping

from imbtune.config.slots import SLOTS, find_knob
from imbtune.config.train_config import TrainConfig
from imbtune.registry import Value

# The knobs that decide whether their whole slot acts only in the cool-down, as `slot.knob`, each
# with the values for which it does. Searches draw random numbers in this order: keep it.
COOLDOWN_ONLY_SCHEDULES = {
    f"{slot}.{name}": declared.knob.cooldown_only_choices
    for slot, registry in sorted(SLOTS.items(), reverse=True)
    for name, declared in registry.shared_knobs.items()
    if declared.knob.cooldown_only_choices
}


def is_cooldown_only(key: str, settings: Mapping[str, Value]) -> bool:
    """Whether the setting `key` has no effect before the cool-down.

    Args:
        key: a setting as `slot`, `slot.knob`, or outside of the slots (`epochs`).
        settings: a complete configuration (:meth:`TrainConfig.flat`).
    """
    slot = key.partition(".")[0]
    if switch := _switch_of(slot):
        # `none` does not have the switch; then its default counts
        value = settings.get(switch, find_knob(switch).default)
        return value in COOLDOWN_ONLY_SCHEDULES[switch]
    return slot in SLOTS and _is_declared_cooldown_only(key, settings)


def can_be_cooldown_only(key: str) -> bool:
    """Whether there are configurations in which `key` has no effect before the cool-down."""
    slot = key.partition(".")[0]
    return bool(_switch_of(slot)) or (slot in SLOTS and _is_declared_cooldown_only(key, {}))


def trunk_settings(config: TrainConfig) -> dict[str, Value]:
    """The settings that determine the trunk: two configurations with equal ones share it."""
    settings = config.flat()
    return {key: value for key, value in settings.items() if not is_cooldown_only(key, settings)}


def _switch_of(slot: str) -> str | None:
    """The key in `COOLDOWN_ONLY_SCHEDULES` that decides over the slot."""
    return next((key for key in COOLDOWN_ONLY_SCHEDULES if key.partition(".")[0] == slot), None)


def _is_declared_cooldown_only(key: str, settings: Mapping[str, Value]) -> bool:
    """Whether the knob declares it or, for a slot or a part's own knob, the registry."""
    slot, _, name = key.partition(".")
    registry = SLOTS[slot]
    if name and find_knob(key, settings).knob.cooldown_only:
        return True
    return registry.cooldown_only and name not in registry.shared_knobs
