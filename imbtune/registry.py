"""Named parts of a training run, and the knobs that they declare in their signatures.

A *slot* (`mix`, `loss`, `weights`, …) is a registry. A *part* is registered under a name; its
keyword-only parameters annotated with :class:`Knob` are its knobs, at once everywhere: in
configurations, search spaces, `imbtune show` and the results. Nothing else lists them.

    @losses.register("focal", help="…", source="arXiv 1708.02002")
    def focal(counts_K, *, gamma: Annotated[float, Knob("focusing exponent γ", low=0)] = 1.0): ...
"""

from __future__ import annotations

import inspect
import math
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from imbtune.errors import ConfigError, unknown

Value = str | int | float | bool
Maker = TypeVar("Maker", bound=Callable[..., Any])


@dataclass(frozen=True)
class Knob:
    """What one knob may be. Goes into `Annotated[type, Knob(...)]` beside a parameter.

    Args:
        help: what it does, a few words, with its symbol in the paper.
        low, high: the valid values, both ends included; None is no bound.
        search: the range that a search uses when the space names the knob without one.
        scale: how a search walks that range: `linear`, `log`, or `complement`, which is log in
            1 - x, for values that crowd against 1 (β = 0.99, 0.999, 0.9999).
        choices: the valid values of a knob that is a word.
        source: the paper that the range or default comes from; else the part's own.
    """

    help: str
    low: float | None = None
    high: float | None = None
    search: tuple[float, float] | None = None
    scale: Literal["linear", "log", "complement"] = "linear"
    choices: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class DeclaredKnob:
    """A knob as it stands in a signature: with its name, type and default."""

    name: str
    type: type
    default: Value
    knob: Knob

    def check(self, key: str, value: object) -> Value:
        """`value` as this knob's type, or ConfigError naming `key`, the value and the mend."""
        converted = _convert(key, value, self.type)
        knob = self.knob
        if knob.choices and converted not in knob.choices:
            raise unknown(f"value for {key}", converted, knob.choices)
        if isinstance(converted, (int, float)) and not _within(converted, knob.low, knob.high):
            raise ConfigError(f"{key}={converted} is out of range: {describe_range(knob)}")
        return converted


@dataclass(frozen=True)
class Part:
    """A registered part: its name, the callable that makes it, and what is known about it.

    traits: what the rest of imbtune asks about a part (`head="cosine"`). defaults: of knobs that
    the part shares with others and wants otherwise.
    """

    slot: str
    name: str
    make: Callable[..., Any]
    knobs: Mapping[str, DeclaredKnob]
    help: str
    source: str
    traits: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Value] = field(default_factory=dict)

    @property
    def is_builtin(self) -> bool:
        """Whether it comes with imbtune, and not from a module of the user's."""
        function = getattr(self.make, "func", self.make)  # what a resolver found is a partial
        return str(function.__module__).startswith("imbtune.")


class Registry:
    """The parts of one slot by name.

    Args:
        slot: the slot's name, the prefix of its knobs.
        help: what the slot decides.
        shared: a dataclass whose annotated fields are knobs of every part of the slot (but for
            parts registered with `bare=True`).
        resolve: finds parts that nobody registered one by one (a torchvision model, a product of
            mixing parts); returns None for names that it does not know either.
        components: the registries that such products are made of; their knobs are the slot's.
    """

    def __init__(
        self,
        slot: str,
        help: str,
        shared: Callable[..., Any] | None = None,
        resolve: Callable[[str], Part | None] | None = None,
        components: tuple[Registry, ...] = (),
    ) -> None:
        self.slot, self.help, self.shared = slot, help, shared
        self.components = components
        self.shared_knobs = knobs_of(shared) if shared else {}
        self._resolve = resolve
        self._entries: dict[str, Part] = {}

    def register(
        self,
        name: str,
        *,
        help: str,
        source: str = "",
        bare: bool = False,
        defaults: Mapping[str, Value] | None = None,
        **traits: Any,
    ) -> Callable[[Maker], Maker]:
        """Register the decorated callable as `name`; its annotated parameters become knobs.

        Args:
            bare: without the slot's shared knobs.
            defaults: of shared knobs, where this part wants others.
            traits: what the rest of imbtune may ask about the part.
        """

        def decorate(part: Maker) -> Maker:
            knobs = knobs_of(part)
            entry = Part(self.slot, name, part, knobs, help, source, traits, defaults or {})
            self.add(entry, bare)
            return part

        return decorate

    def add(self, entry: Part, bare: bool = False) -> None:
        """Add a ready entry, with the slot's shared knobs unless `bare`."""
        if not re.fullmatch(r"[\w-]+", entry.name):
            raise ConfigError(
                f"{self.slot} {entry.name!r}: name it by letters, digits, '_' and '-'"
            )
        if entry.name in self._entries:
            raise ConfigError(f"{self.slot} '{entry.name}' is registered already: rename one")
        self._entries[entry.name] = entry if bare else self.with_shared(entry)

    def remove(self, name: str) -> None:
        """Forget a registered part."""
        del self._entries[name]

    def with_shared(self, entry: Part) -> Part:
        """`entry` with the knobs that all parts of the slot share, after its own."""
        merged = {
            name: replace(parameter, default=entry.defaults.get(name, parameter.default))
            for name, parameter in {**entry.knobs, **self.shared_knobs}.items()
        }
        return replace(entry, knobs=merged)

    def __getitem__(self, name: object) -> Part:
        if isinstance(name, str):
            if name in self._entries:
                return self._entries[name]
            resolved = self.resolve(name)
            if resolved:
                return self.with_shared(resolved)
        raise unknown(self.slot, name, self._entries)

    def resolve(self, name: str) -> Part | None:
        """A part that nobody registered one by one, without the shared knobs."""
        return self._resolve(name) if self._resolve else None

    def __iter__(self) -> Iterator[Part]:
        return iter(self._entries.values())

    def names(self) -> list[str]:
        return list(self._entries)

    def knobs(self) -> dict[str, DeclaredKnob]:
        """Every knob that some registered part of this slot has, or a component of one."""
        merged: dict[str, DeclaredKnob] = {}
        for entry in (entry for registry in (self, *self.components) for entry in registry):
            for name, parameter in entry.knobs.items():
                merged.setdefault(name, parameter)
        return merged

    def parts_with(self, name: str) -> list[Part]:
        """The parts that have the knob; components where no named part has it."""
        found = [entry for entry in self if name in entry.knobs]
        return found or [e for registry in self.components for e in registry.parts_with(name)]

    def shared_values(self, knobs: Mapping[str, Value]) -> Any:
        """The slot's shared dataclass, filled from a part's knobs (defaults for a bare part)."""
        assert self.shared, f"slot {self.slot} has no shared knobs"
        return self.shared(**{k: knobs[k] for k in self.shared_knobs if k in knobs})


def knobs_of(part: Callable[..., Any]) -> dict[str, DeclaredKnob]:
    """The knobs that a callable or dataclass declares, in order.

    Raises:
        ConfigError: a knob without a default, or with one that it could not take.
    """
    hints = typing.get_type_hints(
        part if inspect.isfunction(part) else part.__init__,
        include_extras=True,
    )
    found = {}
    for name, parameter in inspect.signature(part).parameters.items():
        knobs = [m for m in getattr(hints.get(name), "__metadata__", ()) if isinstance(m, Knob)]
        if knobs:
            found[name] = _parameter(part, name, parameter.default, hints[name], knobs[0])
    return found


def _parameter(
    part: Callable[..., Any], name: str, default: Any, hint: Any, knob: Knob
) -> DeclaredKnob:
    what = f"the knob '{name}' of {getattr(part, '__name__', part)}"
    if default is inspect.Parameter.empty:
        raise ConfigError(f"{what} needs a default")
    if type(default) is int and float in (hint.__origin__, *typing.get_args(hint.__origin__)):
        default = float(default)  # `gamma: Annotated[float, …] = 1` is no whole number
    if type(default) not in _ARTICLES:
        raise ConfigError(f"{what}: its default {default!r} is no word, number, true or false")
    if isinstance(default, str) and not knob.choices:
        raise ConfigError(f"{what} is a word: give Knob(..., choices=(...))")
    parameter = DeclaredKnob(name, type(default), default, knob)
    parameter.check(f"{what}: its default", default)
    return parameter


def same_kind(one: DeclaredKnob, other: DeclaredKnob) -> bool:
    """Whether two knobs take the same values; defaults and search ranges may differ."""
    return one.type is other.type and all(
        getattr(one.knob, field) == getattr(other.knob, field)
        for field in ("low", "high", "choices")
    )


def describe_range(knob: Knob) -> str:
    """The valid values of a knob in words, for messages and `imbtune show`."""
    if knob.choices:
        return " | ".join(knob.choices)
    if knob.low is None and knob.high is None:
        return "true | false"
    if knob.high is None:
        return f"at least {knob.low:g}"
    if knob.low is None:
        return f"at most {knob.high:g}"
    return f"from {knob.low:g} to {knob.high:.7g}"


def _within(value: float, low: float | None, high: float | None) -> bool:
    return (
        math.isfinite(value) and (low is None or value >= low) and (high is None or value <= high)
    )


def _convert(key: str, value: object, kind: type) -> Value:
    wrong = ConfigError(f"{key}={value!r} is not {_ARTICLES[kind]}")
    if kind is str:
        if isinstance(value, str):
            return value
        raise wrong
    if kind is bool:
        if isinstance(value, bool):
            return value
        raise wrong
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise wrong
    try:  # YAML reads 1e-4 as a string: accept what Python reads as a number
        number = float(value)
        if kind is int and math.isfinite(number) and number == int(number):
            return int(number)
    except ValueError:
        raise wrong from None
    if kind is int:
        raise wrong
    return number


_ARTICLES = {str: "a word", bool: "true or false", int: "a whole number", float: "a number"}
