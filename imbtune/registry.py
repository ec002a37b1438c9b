"""The registries: named parts of a training run, and the knobs that their signatures declare.

A *slot* (`mix`, `loss`, `weights`, …) has one :class:`Registry`. A *part* is one registered choice
for a slot: a function with a name. Its keyword-only parameters that are annotated with
:class:`Knob` are its *knobs*. Configurations, search spaces, `imbtune show` and the results read
them here, so a new part needs no other list:

    @losses.register("focal", help="…", source="arXiv 1708.02002")
    def focal(counts_K, *, gamma: Annotated[float, Knob("focusing exponent γ", low=0)] = 1.0): ...

A knob also declares its valid range, its search range, and whether it acts only in the cool-down.
"""

from __future__ import annotations

import inspect
import math
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal, TypeVar, cast

from imbtune.errors import ConfigError, shown, unknown
from imbtune.limits import FAR, NUMBER

Value = str | int | float | bool
Function = TypeVar("Function", bound=Callable[..., object])


@dataclass(frozen=True)
class Knob:
    """The meaning and valid values of one knob, for `Annotated[type, Knob(...)]`.

    Args:
        help: what the knob does, in a few words, with its symbol in the paper.
        low: the lowest valid value; None is no bound.
        high: the highest valid value; None is `imbtune.limits.NUMBER`.
        search: the range that a search uses where the search space gives none.
        scale: how a search samples that range: `linear`, `log`, or `complement`, which is log in
            1 - x, for values close to 1 (β = 0.99, 0.999, 0.9999).
        choices: the valid values of a string knob.
        pattern: for a string knob without choices: a regular expression that a value matches.
        read: for a knob with values of a kind of its own, such as the costs of errors: makes one of
            a setting and the knob's full name, or raises a ConfigError; the help says of what.
        source: the paper of the range or the default, where it is not the part's own paper.
        cooldown_only: the knob has no effect before the cool-down.
        cooldown_only_choices: for a knob that all parts of a slot share: the values with which
            the whole slot, this knob included, has no effect before the cool-down.
        off_choices: for such a knob: the values with which the whole slot has no effect at all.
    """

    help: str
    low: float | None = None
    high: float | None = None
    search: tuple[float, float] | None = None
    scale: Literal["linear", "log", "complement"] = "linear"
    choices: tuple[str, ...] = ()
    pattern: str = ""
    read: Callable[[object, str], object] | None = None
    source: str = ""
    cooldown_only: bool = False
    cooldown_only_choices: tuple[str, ...] = ()
    off_choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class DeclaredKnob:
    """A knob as a signature declares it: with its name, type and default."""

    name: str
    type: type
    default: Value
    knob: Knob

    def check(self, key: str, value: object) -> Value:
        """Convert `value` to this knob's type and check its range.

        Args:
            key: the full name (`mix.alpha`), for messages.

        Raises:
            ConfigError: the type is wrong, or the value is out of range or no valid choice.
        """
        knob = self.knob
        if knob.read:
            return cast(Value, knob.read(value, key))  # which only the part itself reads
        converted = _convert(key, value, self.type, knob)
        if knob.choices and converted not in knob.choices:
            raise unknown(f"value for {key}", converted, knob.choices)
        if knob.pattern and not re.fullmatch(knob.pattern, str(converted)):
            raise ConfigError(f"{key}={converted!r} is not valid: give {describe_range(knob)}")
        if isinstance(converted, (int, float)):
            most = NUMBER if knob.high is None else knob.high
            valid = f"at most {most:,}" if converted > most >= FAR else describe_range(knob)
            if not (-NUMBER if knob.low is None else knob.low) <= converted <= most:
                raise ConfigError(f"{key}={shown(converted)} is out of range: {valid}")
        return converted


@dataclass(frozen=True)
class Part:
    """One registered choice for a slot.

    Args:
        make: the registered function. Its arguments and result are those of its slot.
        knobs: all knobs, the slot's shared ones included, by name.
        help: what the part does, in a few words.
        source: the paper or library that the part comes from.
        traits: properties that other modules read (`head="cosine"`).
        defaults: the part's defaults for knobs that it shares with others.
    """

    slot: str
    name: str
    make: Callable[..., Any]
    knobs: Mapping[str, DeclaredKnob]
    help: str
    source: str
    traits: Mapping[str, object] = field(default_factory=dict)
    defaults: Mapping[str, Value] = field(default_factory=dict)

    @property
    def is_builtin(self) -> bool:
        """Whether the part comes with imbtune, and not from a plugin."""
        function = getattr(self.make, "func", self.make)  # a resolved part is a functools.partial
        return str(function.__module__).startswith("imbtune.")


class Registry:
    """The parts of one slot, by name.

    Args:
        slot: the slot's name, which is the prefix of its knobs (`mix` of `mix.alpha`).
        help: what the slot decides.
        shared: a dataclass whose annotated fields are knobs of every part of the slot, except of
            parts registered with `bare=True`.
        resolve: makes a part from a name that is not registered (a torchvision model, a
            combination of mixing parts); returns None for names that it does not know.
        components: the registries whose parts `resolve` combines; their knobs belong to this slot.
        cooldown_only: the choice of a part and the part's own knobs have no effect before the
            cool-down. A shared knob declares this itself (`Knob(cooldown_only=True)`).
    """

    def __init__(
        self,
        slot: str,
        help: str,
        shared: Callable[..., object] | None = None,
        resolve: Callable[[str], Part | None] | None = None,
        components: tuple[Registry, ...] = (),
        cooldown_only: bool = False,
    ) -> None:
        self.slot, self.help, self.shared = slot, help, shared
        self.components, self.cooldown_only = components, cooldown_only
        self.shared_knobs = knobs_of(shared) if shared else {}
        self._resolve = resolve
        self._parts: dict[str, Part] = {}

    def register(
        self,
        name: str,
        *,
        help: str,
        source: str = "",
        bare: bool = False,
        defaults: Mapping[str, Value] | None = None,
        **traits: object,
    ) -> Callable[[Function], Function]:
        """Register the decorated function as the part `name`.

        Args:
            help: what the part does, in a few words.
            source: its paper or library.
            bare: leave out the slot's shared knobs.
            defaults: the part's defaults for shared knobs, where they differ.
            traits: properties that other modules read.

        Raises:
            ConfigError: a name with other characters than letters, digits, '_' and '-', a name
                that is registered already, or a knob with a missing or invalid default.
        """

        def decorate(function: Function) -> Function:
            knobs = knobs_of(function)
            part = Part(self.slot, name, function, knobs, help, source, traits, defaults or {})
            self.add(part, bare)
            return function

        return decorate

    def add(self, part: Part, bare: bool = False) -> None:
        """Register `part`, with the slot's shared knobs unless `bare`.

        Raises:
            ConfigError: an invalid name, or one that is registered already.
        """
        if not re.fullmatch(r"[\w-]+", part.name):
            raise ConfigError(
                f"{self.slot} {part.name!r}: use only letters, digits, '_' and '-' in the name"
            )
        if part.name in self._parts:
            raise ConfigError(f"{self.slot} '{part.name}' is registered already: rename one")
        self._parts[part.name] = part if bare else self.with_shared(part)

    def remove(self, name: str) -> None:
        """Remove a registered part."""
        del self._parts[name]

    def with_shared(self, part: Part) -> Part:
        """`part` with the slot's shared knobs after its own, and its own defaults for them."""
        merged = {
            name: replace(declared, default=part.defaults.get(name, declared.default))
            for name, declared in {**part.knobs, **self.shared_knobs}.items()
        }
        return replace(part, knobs=merged)

    def __getitem__(self, name: object) -> Part:
        """The registered or resolved part `name`; ConfigError if there is none."""
        if isinstance(name, str):
            if name in self._parts:
                return self._parts[name]
            if resolved := self.resolve(name):
                return self.with_shared(resolved)
        raise unknown(self.slot, name, self._parts)

    def resolve(self, name: str) -> Part | None:
        """The part made from a name that is not registered, without the shared knobs, or None."""
        return self._resolve(name) if self._resolve else None

    def __iter__(self) -> Iterator[Part]:
        return iter(self._parts.values())

    def names(self) -> list[str]:
        """The names of the registered parts, in order of registration."""
        return list(self._parts)

    def knobs(self) -> dict[str, DeclaredKnob]:
        """The knobs of all registered parts and components, by name.

        Where parts declare a knob of one name with different defaults, the first one counts.
        """
        merged: dict[str, DeclaredKnob] = {}
        for part in (part for registry in (self, *self.components) for part in registry):
            for name, declared in part.knobs.items():
                merged.setdefault(name, declared)
        return merged

    def parts_with(self, knob: str) -> list[Part]:
        """The registered parts that have the knob; where none has it, the components that do."""
        found = [part for part in self if knob in part.knobs]
        return found or [p for registry in self.components for p in registry.parts_with(knob)]

    def shared_values(self, knobs: Mapping[str, Value]) -> Any:
        """The slot's shared dataclass with the values in `knobs`, else its defaults."""
        assert self.shared, f"slot {self.slot} has no shared knobs"
        return self.shared(**{k: knobs[k] for k in self.shared_knobs if k in knobs})


def knobs_of(function: Callable[..., object]) -> dict[str, DeclaredKnob]:
    """The knobs that a function or dataclass declares, in order.

    Raises:
        ConfigError: a knob without a default, or with an invalid one.
    """
    hints = typing.get_type_hints(
        function if inspect.isfunction(function) else function.__init__,
        include_extras=True,
    )
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints.get(name)
        knobs = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Knob)]
        if knobs:
            annotated = typing.get_args(hint)[0]  # X of Annotated[X, Knob(...)]
            types = (annotated, *typing.get_args(annotated))
            found[name] = _declare(function, name, parameter.default, types, knobs[0])
    return found


def _declare(
    function: Callable[..., object],
    name: str,
    default: object,
    types: tuple[object, ...],
    knob: Knob,
) -> DeclaredKnob:
    what = f"the knob '{name}' of {getattr(function, '__name__', function)}"
    if default is inspect.Parameter.empty:
        raise ConfigError(f"{what} needs a default")
    if type(default) is int and float in types:
        default = float(default)  # `gamma: Annotated[float, …] = 1` means 1.0
    if not knob.read and type(default) not in _ARTICLES:
        raise ConfigError(
            f"{what} has the default {default!r}: give a string, a number, true or false"
        )
    if isinstance(default, str) and not (knob.choices or knob.pattern or knob.read):
        raise ConfigError(f"{what} is a string: give Knob(..., choices=(...))")
    declared = DeclaredKnob(name, type(default), cast(Value, default), knob)
    declared.check(f"{what}: its default", default)
    return declared


def same_kind(one: DeclaredKnob, other: DeclaredKnob) -> bool:
    """Whether two knobs have the same type and valid values; defaults may differ."""
    return one.type is other.type and all(
        getattr(one.knob, field) == getattr(other.knob, field)
        for field in ("low", "high", "choices", "pattern", "read")
    )


def describe_range(knob: Knob) -> str:
    """The valid values of a knob in words, for messages and `imbtune show`."""
    if knob.choices:
        return " | ".join(knob.choices)
    if knob.pattern or knob.read:
        return knob.help
    if knob.low is None and knob.high is None:
        return "true | false"
    if knob.high is None or knob.high >= FAR:
        return f"at least {knob.low:g}"
    if knob.low is None:
        return f"at most {knob.high:g}"
    return f"from {knob.low:g} to {knob.high:.7g}"


def _convert(key: str, value: object, kind: type, knob: Knob) -> Value:
    """`value` as a `kind`; ConfigError where it is something else."""
    wrong = ConfigError(f"{key}={shown(value)} is not {_ARTICLES[kind]}: {describe_range(knob)}")
    if kind in (str, bool):
        if isinstance(value, str | bool) and isinstance(value, kind):
            return value
        raise wrong
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise wrong
    if kind is int and isinstance(value, int):
        return value  # a float would round a seed above 2 ** 53
    try:  # YAML reads 1e-4 as a string, so accept a string that Python reads as a number
        number = float(Fraction(value)) if isinstance(value, str) and "/" in value else float(value)
        if kind is int and math.isfinite(number) and number == int(number):
            return int(number)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise wrong from None
    if kind is int:
        raise wrong
    return number


_ARTICLES = {str: "a string", bool: "a Boolean", int: "a whole number", float: "a number"}
