"""All slots by name: the one place that knows every registry."""

from __future__ import annotations

from collections.abc import Mapping

from imbtune.data.datasets import datasets
from imbtune.errors import ConfigError, unknown
from imbtune.methods.finishing import finishers
from imbtune.methods.generating import generators
from imbtune.methods.losses import losses
from imbtune.methods.mixing import mixes
from imbtune.methods.optimizers import optimizers
from imbtune.methods.sampling import samplers
from imbtune.methods.schedules import schedules
from imbtune.methods.weighting import weights
from imbtune.models.networks import models
from imbtune.registry import Parameter, Registry

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
        finishers,
    )
}


def registries() -> list[Registry]:
    """Every registry: the slots', and those of the parts that mixes are made of."""
    return [part for slot in SLOTS.values() for part in (slot, *slot.components)]


def find_parameter(key: str, chosen: Mapping[str, object] | None = None) -> Parameter:
    """The knob `slot.name`: that of the slot's `chosen` part, else of the first that has it.

    Raises:
        ConfigError: no part of any slot has such a knob, with the nearest one that exists.
    """
    slot, _, name = key.partition(".")
    if chosen and slot in chosen and name in (own := SLOTS[slot][chosen[slot]].parameters):
        return own[name]
    if slot in SLOTS and name in (parameters := SLOTS[slot].parameters()):
        return parameters[name]
    raise unknown("knob", key, all_knobs())


def all_knobs() -> list[str]:
    """Every knob of every registered part, as `slot.name`."""
    return [f"{slot}.{name}" for slot, registry in SLOTS.items() for name in registry.parameters()]


def check_knob(slot: str, part: str, name: str) -> Parameter:
    """The knob `name` of the part, or ConfigError: unknown, or another part's."""
    parameters = SLOTS[slot][part].parameters
    if name in parameters:
        return parameters[name]
    find_parameter(f"{slot}.{name}")
    owners = [entry.name for entry in SLOTS[slot].owners(name)]
    raise ConfigError(f"{slot} '{part}' has no knob '{name}': it belongs to {', '.join(owners)}")
