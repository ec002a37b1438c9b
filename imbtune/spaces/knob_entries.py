"""The entries of `knobs` in a search space file: choices and ranges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from imbtune.config.defaults import DEFAULTS
from imbtune.config.slots import SLOTS, find_knob
from imbtune.config.train_config import PLAIN
from imbtune.errors import ConfigError, shown, unknown
from imbtune.limits import CHOICES
from imbtune.registry import DeclaredKnob, describe_range
from imbtune.spaces.search_space import check_setting
from imbtune.spaces.searched_knob import SearchedKnob

SCALES = ("linear", "log", "complement")


def parse_knob(
    key: str, spec: object, chosen: Mapping[str, object], knobs: Mapping[str, Any]
) -> SearchedKnob:
    """An entry of `knobs`.

    Args:
        key: a slot, a knob or a plain setting.
        spec: what the file says of it: a list of choices, a range, or nothing.
        chosen: the part of each slot that is not searched.
        knobs: all entries.

    Raises:
        ConfigError: it cannot be searched, or not so.
    """
    if key.partition(".")[0] == "data" or key in ("seed", "epochs"):
        raise ConfigError(
            f"knobs: '{key}' cannot be searched, because all trials must have the same data and "
            "budget: leave it out of knobs"
        )
    if isinstance(spec, list):
        if not spec:
            raise ConfigError(f"{key}: the list of choices is empty: give at least one")
        if len(spec) > CHOICES:
            raise ConfigError(f"{key} has {len(spec):,} choices: give at most {CHOICES:,}")
        values = tuple(check_setting(key, value) for value in spec)
        if twice := [value for value, count in Counter(values).items() if count > 1]:
            raise ConfigError(f"{key}: the choice {shown(twice[0])} is listed twice: list it once")
        return SearchedKnob(key, type(values[0]), choices=values)
    if key in DEFAULTS:
        example = spec if isinstance(spec, str) else DEFAULTS[key]
        raise ConfigError(f"{key}: {shown(spec)}: give a list of choices, such as [{example}]")
    parameter = PLAIN[key] if key in PLAIN else find_knob(key, chosen)
    if spec is None:
        _check_one_range(key, knobs)
        if parameter.knob.choices:
            return SearchedKnob(key, str, choices=parameter.knob.choices)
    return _parse_range(key, spec, parameter)


def _check_one_range(key: str, knobs: Mapping[str, Any]) -> None:
    """Raise ConfigError if the searched parts of a slot have different search ranges for a knob."""
    slot, _, name = key.partition(".")
    names = knobs[slot] if isinstance(knobs.get(slot), list) else []
    owners = [p for n in names if (p := SLOTS[slot][n].knobs.get(name))]
    if len({(p.knob.search, p.knob.scale) for p in owners}) > 1:
        raise ConfigError(
            f"{key}: {', '.join(names)} have different search ranges for it: give low and high"
        )


def _parse_range(key: str, spec: object, parameter: DeclaredKnob) -> SearchedKnob:
    knob = parameter.knob
    if spec is None and knob.search:
        spec = {"low": knob.search[0], "high": knob.search[1]}
    if not isinstance(spec, Mapping) or not {"low", "high"} <= set(spec) <= {
        "low",
        "high",
        "scale",
    }:
        raise ConfigError(f"{key}: {shown(spec)}: give a list of choices, or {{low: …, high: …}}")
    if parameter.type not in (int, float):
        raise ConfigError(
            f"{key} takes {describe_range(knob)}: give a list of choices, not a range"
        )
    low, high = (float(parameter.check(key, spec[end])) for end in ("low", "high"))
    scale = spec.get("scale", knob.scale)
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    if low > high:
        raise ConfigError(f"{key}: low={low:g} is above high={high:g}: swap them")
    if (scale == "log" and low <= 0) or (scale == "complement" and high >= 1):
        raise ConfigError(
            f"{key}: scale: {scale} cannot have a range from {low:g} to {high:g}: use linear"
        )
    return SearchedKnob(key, parameter.type, low, high, scale)
