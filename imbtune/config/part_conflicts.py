"""Whether the names and knobs of a plugin's part clash with those of other parts."""

from __future__ import annotations

from imbtune.config.slots import SLOTS
from imbtune.errors import ConfigError
from imbtune.registry import Part, Registry, knobs_of, same_kind


def check_part(registry: Registry, part: Part) -> None:
    """Check a plugin's part for conflicts with other parts.

    Raises:
        ConfigError: its name is that of another part, or a knob has the name of another knob with
            which it is used together, or of a knob of the same slot with another type or range.
    """
    if registry.resolve(part.name):
        raise ConfigError(f"{registry.slot} '{part.name}' exists already: rename yours")
    own = knobs_of(part.make)
    if registry is not SLOTS["data"]:  # a data set may take the values of shared knobs
        _check_free(registry, part, own.keys() & registry.shared_knobs, registry.slot)
    for slot in SLOTS.values():
        if registry not in slot.components:
            continue
        _check_free(registry, part, own.keys() & slot.shared_knobs, slot.slot)
        for component in slot.components:
            if component is not registry:
                _check_free(registry, part, own.keys() & component.knobs(), component.slot)
    for name in own:
        for other in registry.parts_with(name):
            if other is not part and not same_kind(own[name], other.knobs[name]):
                raise ConfigError(
                    f"the knob '{name}' of {registry.slot} '{part.name}' has another type or "
                    f"range than that of '{other.name}': give it the same, or another name"
                )


def _check_free(registry: Registry, part: Part, taken: set[str], slot: str) -> None:
    """ConfigError if any of the part's knob names is `taken` by a knob of `slot`."""
    for name in taken:
        raise ConfigError(
            f"the knob '{name}' of {registry.slot} '{part.name}' has the name of a {slot} knob: "
            "rename it"
        )
