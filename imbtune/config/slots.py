"""All slots by name. Only this module knows every registry."""

from __future__ import annotations

from collections.abc import Mapping

from imbtune.data.load import datasets
from imbtune.errors import ConfigError, unknown
from imbtune.methods.class_sampling import samplers
from imbtune.methods.class_weights import weights
from imbtune.methods.image_generation import generators
from imbtune.methods.losses import losses
from imbtune.methods.lr_schedules import schedules
from imbtune.methods.mixing.mix import mixes
from imbtune.methods.optimizers import optimizers
from imbtune.methods.posthoc import posthoc_methods
from imbtune.models.networks import models
from imbtune.registry import DeclaredKnob, Registry

SLOTS: dict[str, Registry] = {
    registry.slot: registry
    for registry in (
        datasets,
        models,
        mixes,
        generators,
        losses,
        weights,
        samplers,
        optimizers,
        schedules,
        posthoc_methods,
    )
}


def registries() -> list[Registry]:
    """Every registry: those of the slots, and those of the components of a mix."""
    return [registry for slot in SLOTS.values() for registry in (slot, *slot.components)]


def find_knob(key: str, chosen: Mapping[str, object] | None = None) -> DeclaredKnob:
    """The knob `slot.name`.

    Parts of a slot may declare the same knob with different defaults and search ranges.

    Args:
        chosen: the chosen part's name for each slot. Its declaration is preferred; otherwise the
            first part that has the knob counts.

    Raises:
        ConfigError: no part of any slot has such a knob; the message suggests a similar one.
    """
    slot, _, name = key.partition(".")
    if chosen and slot in chosen and name in (own := SLOTS[slot][chosen[slot]].knobs):
        return own[name]
    if slot in SLOTS and name in (declared := SLOTS[slot].knobs()):
        return declared[name]
    raise unknown("knob", key, all_knobs())


def all_knobs() -> list[str]:
    """Every knob of every registered part, as `slot.name`."""
    return [f"{slot}.{name}" for slot, registry in SLOTS.items() for name in registry.knobs()]


def check_knob(slot: str, part: str, name: str) -> DeclaredKnob:
    """The knob `name` of one part.

    Raises:
        ConfigError: no part has such a knob, or only other parts have it.
    """
    declared = SLOTS[slot][part].knobs
    if name in declared:
        return declared[name]
    find_knob(f"{slot}.{name}")
    others = ", ".join(other.name for other in SLOTS[slot].parts_with(name))
    raise ConfigError(f"{slot} '{part}' has no knob '{name}': it belongs to {others}")
