"""Every registered knob takes a value of its range, and refuses any other value in one line."""

from __future__ import annotations

import math

import pytest

from imbtune.config.slots import SLOTS
from imbtune.config.train_config import PLAIN
from imbtune.errors import ConfigError
from imbtune.limits import NUMBER
from imbtune.registry import DeclaredKnob

KNOBS: list[tuple[str, DeclaredKnob]] = [
    *PLAIN.items(),
    *((f"{slot}.{name}", knob) for slot, r in SLOTS.items() for name, knob in r.knobs().items()),
]
NEVER: list[object] = [
    *(None, [], {}, [1], {"low": 0}, (), b"1", object(), math.nan, math.inf, -math.inf),
    *("", " ", "x" * 5000, "\0", "1/0", "nan", "1e999", "9" * 5000, "[red]", "2024-01-01", "0x1f"),
    *(10**30, 10**400, 10**5000, -(10**5000), 1e308, -1e308, NUMBER * 1e10),
]


@pytest.mark.parametrize(("key", "knob"), KNOBS, ids=[key for key, _ in KNOBS])
def test_a_knob_refuses_what_it_cannot_be(key: str, knob: DeclaredKnob) -> None:
    values = [*NEVER, True, False] if knob.type in (int, float) else [*NEVER, 3, -1]
    for value in values:
        with pytest.raises(ConfigError) as caught:
            knob.check(key, value)
        message = str(caught.value)
        assert key in message and message.isprintable() and len(message) < 1000


@pytest.mark.parametrize(("key", "knob"), KNOBS, ids=[key for key, _ in KNOBS])
def test_a_knob_takes_its_bounds_exactly(key: str, knob: DeclaredKnob) -> None:
    bounds = [knob.default, *knob.knob.choices]
    if knob.type in (int, float):
        bounds += [knob.type(b) for b in (knob.knob.low, knob.knob.high) if b is not None]
    for value in bounds:
        found = knob.check(key, value)
        assert (found, type(found)) == (value, knob.type)
    if knob.type is int:
        most = NUMBER if knob.knob.high is None else int(knob.knob.high)
        assert knob.check(key, most) == most  # also where a float could not hold it
        with pytest.raises(ConfigError, match="out of range"):
            knob.check(key, most + 1)
