"""A search space: fixed settings, and knobs with ranges, as Optuna is asked for them.

A knob is suggested only where it acts: `mix.omega` when the chosen mixing method has an ω. How a
space is written: :mod:`imbtune.spaces.space_file`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from imbtune.config.defaults import DEFAULTS
from imbtune.config.plugins import PluginModule, plugin_parts
from imbtune.config.slots import SLOTS, check_knob, find_knob
from imbtune.config.train_config import PLAIN, TrainConfig, active, is_active
from imbtune.errors import ConfigError, unknown
from imbtune.registry import Part, Value
from imbtune.spaces.presets import PRESETS, find_preset


class Suggests(Protocol):
    """What a space asks of an Optuna trial."""

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...
    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...


@dataclass(frozen=True)
class SearchedKnob:
    """One searched knob: choices, or a range on a scale. `type` is that of its values."""

    key: str
    type: type
    low: float = 0.0
    high: float = 0.0
    scale: str = "linear"
    choices: tuple[Value, ...] = ()

    @property
    def slot(self) -> str:
        """The slot, or the plain setting, that it belongs to."""
        return self.key.partition(".")[0]

    @property
    def optuna_name(self) -> str:
        """The parameter's name in Optuna: on the complement scale that is 1 - x."""
        return f"1-{self.key}" if self.scale == "complement" else self.key

    def suggest(self, trial: Suggests) -> Value:
        """A value from an Optuna trial."""
        name, log = self.optuna_name, self.scale == "log"
        if self.choices:
            return trial.suggest_categorical(name, self.choices)  # type: ignore[no-any-return]
        if self.type is int:
            return trial.suggest_int(name, int(self.low), int(self.high), log=log)
        if self.scale == "complement":
            return 1 - trial.suggest_float(name, 1 - self.high, 1 - self.low, log=True)
        return trial.suggest_float(name, self.low, self.high, log=log)

    def to_optuna(self, value: Value) -> Value:
        """A value as Optuna has it; ConfigError where the range does not hold it."""
        inside = value in self.choices if self.choices else self.low <= float(value) <= self.high
        if not inside:
            raise ConfigError(f"{self.key}={value} is outside the space: {self.describe()}")
        return 1 - float(value) if self.scale == "complement" else value

    def describe(self) -> str:
        """The range in words."""
        if self.choices:
            return " | ".join(map(str, self.choices))
        scale = {"linear": "", "log": ", log", "complement": ", log in 1-x"}[self.scale]
        return f"{self.low:g} to {self.high:g}{scale}"


@dataclass(frozen=True)
class Rungs:
    """Where trials are compared: at T, T/η, T/η², … epochs.

    eta: η; a rung passes about 1/η of its trials. count: how many rungs, the full budget included.
    """

    eta: int = 3
    count: int = 3

    def budgets(self, epochs: int) -> list[int]:
        """The rungs in whole epochs, rising to the full budget T; fewer where they coincide."""
        return sorted({max(1, round(epochs / self.eta**k)) for k in range(self.count)})


@dataclass(frozen=True)
class SearchSpace:
    """A checked space. `fixed` are flat settings; `pinned` those of `--set`, above presets too.

    late_variants: how many late settings each trunk is tried with. imports: the modules with the
    user's own parts. source: the content of a file that says the same.
    """

    name: str
    about: str
    fixed: Mapping[str, Value]
    knobs: tuple[SearchedKnob, ...]
    objective: str = "balanced_accuracy"
    rungs: Rungs = Rungs()
    preset_names: tuple[str, ...] | None = None
    pinned: Mapping[str, Value] = field(default_factory=dict)
    imports: tuple[PluginModule, ...] = ()
    late_variants: int = 1
    source: Mapping[str, Any] = field(default_factory=dict)

    def suggest(self, trial: Suggests, seed: int) -> TrainConfig:
        """A configuration from an Optuna trial (define by run)."""
        settings = {**self.fixed, **self.pinned}
        for knob in self.knobs:
            if knob.key not in self.pinned and _acts(knob.key, settings):
                settings[knob.key] = knob.suggest(trial)
        return TrainConfig.from_settings(active(settings | {"seed": seed}))

    def base(self) -> TrainConfig:
        """The fixed settings alone, every searched knob at its default."""
        return TrainConfig.from_settings(active({**self.fixed, **self.pinned}))

    def preset(self, name: str) -> TrainConfig:
        """The preset's configuration in this space."""
        settings = {**self.fixed, **find_preset(name).settings, **self.pinned}
        return TrainConfig.from_settings(active(settings))

    def preset_params(self, name: str) -> dict[str, Value]:
        """The preset as Optuna parameters; ConfigError where it lies outside the space."""
        values, params = self.preset(name).flat(), {}
        for knob in self.knobs:
            if knob.key not in self.pinned and _acts(knob.key, values):
                params[knob.optuna_name] = knob.to_optuna(values[knob.key])
        for key, value in find_preset(name).settings.items():
            if values.get(key) != value:
                raise ConfigError(
                    f"preset '{name}' has {key}={value}, the space has {values.get(key)}"
                )
        return params

    def presets(self) -> dict[str, dict[str, Value]]:
        """The first trials: Optuna parameters by preset name.

        The space's own list; without one, all that lie inside it. A preset that `--set`
        contradicts drops out.
        """
        found = {}
        for name in self.preset_names if self.preset_names is not None else PRESETS:
            contradicted = any(
                self.pinned.get(k, v) != v for k, v in find_preset(name).settings.items()
            )
            try:
                found[name] = self.preset_params(name)
            except ConfigError:
                if self.preset_names is not None and not contradicted and not self.pinned:
                    raise
        return found

    def pin(self, settings: Mapping[str, Value]) -> SearchSpace:
        """This space with some settings fixed (`--set`), checked."""
        if "data" in settings:
            raise ConfigError(f"data={settings['data']} cannot be set: a space is of one data set")
        pinned = {**self.pinned, **{k: check_setting(k, v) for k, v in settings.items()}}
        changed = SearchSpace(**{**vars(self), "pinned": pinned})
        known = {**self.fixed, **pinned}
        for key in pinned:
            slot, dot, name = key.partition(".")
            open_slot = slot not in pinned and any(knob.key == slot for knob in self.knobs)
            if dot and not open_slot:
                check_knob(slot, str(known.get(slot, DEFAULTS[slot])), name)
        return changed

    def possible(self, key: str) -> tuple[Value, ...]:
        """The choices of a searched knob, or the one value that it always has."""
        for knob in self.knobs:
            if knob.key == key and key not in self.pinned:
                return knob.choices
        fixed = {**self.fixed, **self.pinned}
        return (fixed.get(key, find_knob(key).default),)

    def plugin_parts(self) -> list[Part]:
        """The user's own parts that a trial of this space may have."""
        searched = [choice for knob in self.knobs for choice in knob.choices]
        return plugin_parts([*self.fixed.values(), *self.pinned.values(), *searched])

    def describe(self) -> dict[str, Any]:
        """The resolved space, for study.yaml."""
        return {
            "name": self.name,
            "about": self.about,
            "objective": self.objective,
            "rungs": vars(self.rungs),
            "late_variants": self.late_variants,
            "presets": list(self.presets()),
            "fixed": self.base().nested(),
            "knobs": {k.key: k.describe() for k in self.knobs if k.key not in self.pinned},
            "set": dict(self.pinned),
        }


def _acts(key: str, settings: Mapping[str, Any]) -> bool:
    return "." not in key or is_active(key, settings)


def check_setting(key: str, value: object) -> Value:
    """A fixed setting's value as its type: a part's name, a plain setting or a knob."""
    if key in DEFAULTS:
        return SLOTS[key][value].name
    if key in PLAIN:
        return PLAIN[key].check(key, value)
    if "." not in key:
        raise unknown("setting", key, [*DEFAULTS, *PLAIN])
    return find_knob(key).check(key, value)
