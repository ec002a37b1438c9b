"""A search space: fixed settings, and the knobs that Optuna suggests.

A knob is suggested only where it acts: `mix.omega` only if the chosen mixing method has an ω. The
file format is described in :mod:`imbtune.spaces.space_file`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imbtune.config.defaults import DEFAULTS
from imbtune.config.plugin_module import PluginModule
from imbtune.config.plugins import plugin_parts
from imbtune.config.slots import SLOTS, check_knob, find_knob
from imbtune.config.train_config import PLAIN, TrainConfig, active, is_active
from imbtune.errors import ConfigError, unknown
from imbtune.metrics.metric import Metric, metric_from
from imbtune.registry import Part, Value
from imbtune.spaces.presets import PRESETS, defines_method, find_preset
from imbtune.spaces.searched_knob import SearchedKnob, Suggests


@dataclass(frozen=True)
class Rungs:
    """The budgets at which trials are compared: T, T/η, T/η², … epochs.

    Attributes:
        eta: η, the reduction factor: about 1/η of the trials go on after each rung.
        count: number of rungs, including the full budget T.
    """

    eta: int = 3
    count: int = 3

    def budgets(self, epochs: int) -> list[int]:
        """The rungs in whole epochs, rising to the full budget T. Equal ones are merged."""
        return sorted({max(1, round(epochs / self.eta**k)) for k in range(self.count)})


BALANCED = metric_from("balanced_accuracy")


@dataclass(frozen=True, repr=False)
class SearchSpace:
    """A validated search space.

    Attributes:
        name: of the space, and by default of its studies.
        about: one line for `imbtune show spaces`.
        fixed: settings that are not searched, by key (`optimizer.lr`).
        knobs: the searched knobs; slots come before the knobs of their parts.
        objectives: the metrics whose scores are maximised (of lower-is-better ones the negative).
            Of several, the search looks for the Pareto front; trials are stopped by the first.
        rungs: where trials are compared.
        preset_names: the presets to start with; None for all that lie inside the space.
        pinned: settings fixed by `--set`. They take precedence over those of presets.
        imports: modules with the user's plugins.
        late_variants: trials per trunk, which differ in cool-down-only settings.
        left_out: presets of the space that this one is `like`, which lie outside of this one.
        source: the content of a complete space file, equivalent to this space.
    """

    name: str
    about: str
    fixed: Mapping[str, Value]
    knobs: tuple[SearchedKnob, ...]
    objectives: tuple[Metric, ...] = (BALANCED,)
    rungs: Rungs = Rungs()
    preset_names: tuple[str, ...] | None = None
    pinned: Mapping[str, Value] = field(default_factory=dict)
    imports: tuple[PluginModule, ...] = ()
    late_variants: int = 1
    left_out: tuple[str, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        pinned = f", set: {dict(self.pinned)}" if self.pinned else ""
        knobs = f"{len(self.knobs)} searched knob{'s' * (len(self.knobs) != 1)}"
        return f"SearchSpace({self.name!r}): {knobs}{pinned}"

    @property
    def objective(self) -> Metric:
        """The only objective, or the first: the one by which trials are stopped."""
        return self.objectives[0]

    def suggest(
        self, trial: Suggests, seed: int, details: Mapping[str, Value] | None = None
    ) -> TrainConfig:
        """Let an Optuna trial choose a configuration.

        Args:
            seed: of the configuration.
            details: a preset's settings that this space does not search (:meth:`preset_details`).
        """
        settings = {**self.fixed, **(details or {}), **self.pinned}
        for knob in self.knobs:
            if knob.key not in self.pinned and _acts(knob.key, settings):
                settings[knob.key] = knob.suggest(trial)
        return TrainConfig.from_settings(active(settings | {"seed": seed}))

    def base(self) -> TrainConfig:
        """The configuration with the fixed settings, and every searched knob at its default."""
        return TrainConfig.from_settings(active({**self.fixed, **self.pinned}))

    def preset(self, name: str) -> TrainConfig:
        """A preset's configuration, with the fixed settings of this space.

        Knobs of the method are the preset's or its parts' own, whatever the space has fixed.
        """
        kept = {key: value for key, value in self.fixed.items() if not defines_method(key)}
        settings = {**kept, **self._preset_settings(name), **self.pinned}
        return TrainConfig.from_settings(active(settings))

    def contradiction(self, preset: str) -> str | None:
        """The first setting of `--set` with which a preset would be another method, or None."""
        own = SearchSpace(**{**vars(self), "pinned": {}}).preset(preset).flat()
        named = self._preset_settings(preset)
        for key, value in self.pinned.items():
            if (key in named or defines_method(key)) and own.get(key, value) != value:
                return key
        return None

    def preset_details(self, name: str) -> dict[str, Value]:
        """A preset's settings that this space neither searches nor has fixed by `--set`.

        They are the method's own, such as the divisor of its weighted loss, so a search can hold
        presets that differ in them. Slots are not among them.
        """
        own, searched = self.preset(name).flat(), {knob.key for knob in self.knobs}
        fixed = {key: own[key] for key in self.fixed if defines_method(key) and key in own}
        return {
            key: value
            for key, value in {**fixed, **self._preset_settings(name)}.items()
            if key not in DEFAULTS and key not in searched and key not in self.pinned
        }

    def _preset_settings(self, name: str) -> dict[str, Value]:
        return find_preset(name).on(str(self.fixed.get("data", DEFAULTS["data"])))

    def preset_params(self, name: str) -> dict[str, Value]:
        """A preset as Optuna parameters.

        Raises:
            ConfigError: the preset is not inside the space.
        """
        values, params = self.preset(name).flat(), {}
        for knob in self.knobs:
            if knob.key not in self.pinned and _acts(knob.key, values):
                value = values[knob.key]
                if not knob.contains(value):
                    raise ConfigError(
                        f"preset '{name}' is not inside the space: it needs {knob.key}={value}, "
                        f"the space's range is {knob.describe()}: leave the preset out, or widen "
                        "the range"
                    )
                params[knob.optuna_name] = knob.to_optuna(value)
        if key := self.contradiction(name):
            raise ConfigError(f"--set {key}={self.pinned[key]} contradicts the preset '{name}'")
        searched = {knob.key for knob in self.knobs} - set(self.pinned)
        fixed = {**DEFAULTS, **self.fixed, **self.pinned}
        for key, needed in self._preset_settings(name).items():
            if key in DEFAULTS and key not in searched and fixed[key] != needed:
                raise ConfigError(
                    f"preset '{name}' is not inside the space: it needs {key}={needed}, the space "
                    f"has {key}={fixed[key]}: leave the preset out, or search {key}"
                )
        return params

    def contains(self, preset: str) -> bool:
        """Whether a preset is inside the space.

        Raises:
            ConfigError: there is no preset of this name.
        """
        find_preset(preset)
        try:
            self.preset_params(preset)
        except ConfigError:
            return False
        return True

    def presets(self) -> dict[str, dict[str, Value]]:
        """The presets that a search starts with: their Optuna parameters by name.

        They are the space's own list; without one, all that lie inside the space. Presets that
        contradict a `--set` are left out.
        """
        found = {}
        for name in self.preset_names if self.preset_names is not None else PRESETS:
            try:
                found[name] = self.preset_params(name)
            except ConfigError:
                if self.preset_names is not None and not self.pinned:
                    raise
        return found

    def left_out_lines(self) -> list[str]:
        """Which presets a search does not start with, although the space names them; or nothing."""
        lines = []
        if self.left_out:
            lines.append(
                f"Presets of the space that this one is like, left out since they lie outside of "
                f"this one: {', '.join(self.left_out)}"
            )
        named, kept = self.preset_names or (), self.presets()
        if contradicted := [name for name in named if name not in kept]:
            lines.append(
                f"Presets of the space, left out since --set contradicts them: "
                f"{', '.join(contradicted)}"
            )
        return lines

    def pin(self, settings: Mapping[str, Value]) -> SearchSpace:
        """This space with some settings fixed by `--set`.

        Raises:
            ConfigError: an unknown setting, or a value outside its valid range.
        """
        if "data" in settings:
            raise ConfigError(
                f"data={settings['data']} cannot be set: a space belongs to one data set; use "
                "another space"
            )
        pinned = {**self.pinned, **{k: check_setting(k, v) for k, v in settings.items()}}
        changed = SearchSpace(**{**vars(self), "pinned": pinned})
        known = {**self.fixed, **pinned}
        for key in pinned:
            slot, dot, name = key.partition(".")
            is_searched = slot not in pinned and any(knob.key == slot for knob in self.knobs)
            if dot and not is_searched:
                check_knob(slot, str(known.get(slot, DEFAULTS[slot])), name)
        return changed

    def possible(self, key: str) -> tuple[Value, ...]:
        """The choices of a searched knob; for a knob that is not searched, its only value."""
        for knob in self.knobs:
            if knob.key == key and key not in self.pinned:
                return knob.choices
        fixed = {**self.fixed, **self.pinned}
        return (fixed.get(key, find_knob(key).default),)

    def plugin_parts(self) -> list[Part]:
        """The user's plugins that a trial of this space may use."""
        searched = [choice for knob in self.knobs for choice in knob.choices]
        return plugin_parts([*self.fixed.values(), *self.pinned.values(), *searched])

    def describe(self) -> dict[str, Any]:
        """The resolved space, for study.yaml."""
        return {
            "name": self.name,
            "about": self.about,
            "objective": self.objective.setting(),
            "objectives": [metric.setting() for metric in self.objectives],
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
    """Check the value of a setting, and convert it to the setting's type.

    Args:
        key: a slot, a setting without a slot, or a knob.

    Raises:
        ConfigError: an unknown setting, or a value outside its valid range.
    """
    if key in DEFAULTS:
        return SLOTS[key][value].name
    if key in PLAIN:
        return PLAIN[key].check(key, value)
    if "." not in key:
        raise unknown("setting", key, [*DEFAULTS, *PLAIN])
    return find_knob(key).check(key, value)
