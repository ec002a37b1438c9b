"""Search spaces: a data set, fixed settings, and the knobs to search.

    about: Long-tailed CIFAR-10
    data: {name: cifar10, profile: exp, ratio: 100}
    train: {model: resnet32, epochs: 200}     # fixed, and what presets take for searched knobs
    objective: balanced_accuracy
    rungs: {eta: 3, count: 4}
    presets: [erm, drw, mamix_drw]            # the first trials; left out, every preset that fits
    knobs:
      mix: [none, mixup, mamix]               # a list of choices
      mix.omega: {low: 0, high: 1}            # a range; `scale: log` or `complement`
      mix.alpha:                              # nothing: the knob's own search range

A knob is suggested only where it acts: `mix.omega` when the chosen mixing method has an ω.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from imbtune.config import DEFAULTS, PLAIN, TrainConfig, active, flatten, is_active, read_yaml
from imbtune.errors import ConfigError, unknown
from imbtune.presets import PRESETS, find_preset
from imbtune.registry import Parameter, Value, describe_range
from imbtune.slots import SLOTS, check_knob, find_parameter
from imbtune.training.metrics import OBJECTIVES

FIELDS = ("about", "data", "train", "objective", "rungs", "presets", "knobs")
SCALES = ("linear", "log", "complement")


class Suggests(Protocol):
    """What a space asks of an Optuna trial."""

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...
    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...


@dataclass(frozen=True)
class KnobRange:
    """One searched knob: choices, or a range on a scale. `type` is that of its values."""

    key: str
    type: type
    low: float = 0.0
    high: float = 0.0
    scale: str = "linear"
    choices: tuple[Value, ...] = ()

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
    count: int = 4

    def budgets(self, epochs: int) -> list[int]:
        """The rungs in whole epochs, rising to the full budget T; fewer where they coincide."""
        return sorted({max(1, round(epochs / self.eta**k)) for k in range(self.count)})


@dataclass(frozen=True)
class SearchSpace:
    """A checked space. `fixed` are flat settings; `pinned` those of `--set`, above presets too."""

    name: str
    about: str
    fixed: Mapping[str, Value]
    knobs: tuple[KnobRange, ...]
    objective: str = "balanced_accuracy"
    rungs: Rungs = Rungs()
    preset_names: tuple[str, ...] | None = None
    pinned: Mapping[str, Value] = field(default_factory=dict)

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
        pinned = {**self.pinned, **{k: _check_setting(k, v) for k, v in settings.items()}}
        changed = SearchSpace(**{**vars(self), "pinned": pinned})
        changed.base()
        return changed

    def describe(self) -> dict[str, Any]:
        """The resolved space, for study.yaml."""
        return {
            "name": self.name,
            "about": self.about,
            "objective": self.objective,
            "rungs": vars(self.rungs),
            "presets": list(self.presets()),
            "fixed": self.base().nested(),
            "knobs": {k.key: k.describe() for k in self.knobs if k.key not in self.pinned},
            "set": dict(self.pinned),
        }


def list_spaces() -> dict[str, Path]:
    """The spaces that ship with imbtune, by name."""
    here = Path(__file__).resolve().parents[1]
    folder = here / "search_spaces"  # in the wheel; in a checkout they stand at the top
    folder = folder if folder.is_dir() else here.parent / "search_spaces"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_space(name_or_path: str) -> SearchSpace:
    """A space by its name, or from a YAML file.

    Raises:
        ConfigError: no such space, or anything in it that cannot be.
    """
    shipped = list_spaces()
    if name_or_path in shipped:
        path = shipped[name_or_path]
    else:
        path = Path(name_or_path)
        if not path.is_file():
            raise unknown("space", name_or_path, [*shipped, "or the path of a YAML file"])
    try:
        return parse_space(path.stem, read_yaml(path))
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from error


def parse_space(name: str, content: object) -> SearchSpace:
    """A space from the content of its file."""
    if not isinstance(content, Mapping):
        raise ConfigError(f"a space is a mapping of {', '.join(FIELDS)}, not {content!r}")
    for key in content:
        if key not in FIELDS:
            raise unknown("field", key, FIELDS)
    fixed = flatten({"data": content.get("data") or {}, **_mapping(content, "train")})
    knobs = _mapping(content, "knobs")
    chosen = {slot: fixed.get(slot, DEFAULTS[slot]) for slot in DEFAULTS if slot not in knobs}
    ranges = [_parse_knob(key, spec, chosen) for key, spec in knobs.items()]
    objective = content.get("objective", "balanced_accuracy")
    if objective not in OBJECTIVES:
        raise unknown("metric", objective, OBJECTIVES)
    presets = content.get("presets")
    if presets is not None and not isinstance(presets, list):
        raise ConfigError(f"presets: {presets!r} is not a list of preset names")
    space = SearchSpace(
        name=name,
        about=str(content.get("about", "")),
        fixed={key: _check_setting(key, value) for key, value in fixed.items()},
        knobs=tuple(sorted(ranges, key=_order)),
        objective=objective,
        rungs=_parse_rungs(_mapping(content, "rungs")),
        preset_names=None if presets is None else tuple(presets),
    )
    _check_fixed_slots(space, chosen)
    space.base()
    space.presets()
    return space


def _check_fixed_slots(space: SearchSpace, chosen: Mapping[str, object]) -> None:
    """In slots that are not searched, every knob named must be the chosen part's."""
    fixed = {
        k: v for k, v in space.fixed.items() if k.partition(".")[0] not in SLOTS.keys() - chosen
    }
    TrainConfig.from_settings(fixed)
    for knob in space.knobs:
        slot, dot, name = knob.key.partition(".")
        if dot and slot in chosen:
            check_knob(slot, SLOTS[slot][chosen[slot]].name, name)


def _order(knob: KnobRange) -> tuple[bool, bool]:
    """Parts before their knobs, switches (a schedule) before what they switch."""
    return "." in knob.key, not knob.choices


def _acts(key: str, settings: Mapping[str, Any]) -> bool:
    return "." not in key or is_active(key, settings)


def _mapping(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = content.get(name) or {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}: {value!r} is not a mapping")
    return value


def _check_setting(key: str, value: object) -> Value:
    """A fixed setting's value as its type: a part's name, a plain setting or a knob."""
    if key in DEFAULTS:
        return SLOTS[key][value].name
    if key in PLAIN:
        return PLAIN[key].check(key, value)
    return find_parameter(key).check(key, value)


def _parse_knob(key: str, spec: object, chosen: Mapping[str, object]) -> KnobRange:
    """One line of `knobs`. `chosen`: the parts of slots that are not searched themselves."""
    if key.partition(".")[0] == "data" or key == "seed":
        raise ConfigError(f"'{key}' cannot be searched: trials compare on the same data and seeds")
    if isinstance(spec, list):
        if not spec:
            raise ConfigError(f"{key}: an empty list of choices: name at least one")
        values = tuple(_check_setting(key, value) for value in spec)
        return KnobRange(key, type(values[0]), choices=values)
    if key in DEFAULTS:
        raise ConfigError(f"{key}: {spec!r} is not a list of part names")
    parameter = PLAIN[key] if key in PLAIN else find_parameter(key, chosen)
    if spec is None and parameter.knob.choices:
        return KnobRange(key, str, choices=parameter.knob.choices)
    return _parse_range(key, spec, parameter)


def _parse_range(key: str, spec: object, parameter: Parameter) -> KnobRange:
    knob = parameter.knob
    if spec is None and knob.search:
        spec = {"low": knob.search[0], "high": knob.search[1]}
    if not isinstance(spec, Mapping) or not {"low", "high"} <= set(spec) <= {
        "low",
        "high",
        "scale",
    }:
        raise ConfigError(f"{key}: {spec!r} is neither a list of choices nor {{low: …, high: …}}")
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
        raise ConfigError(f"{key}: {low:g} to {high:g} cannot be on a {scale} scale: use linear")
    return KnobRange(key, parameter.type, low, high, scale)


def _parse_rungs(content: Mapping[str, Any]) -> Rungs:
    least = {"eta": 2, "count": 1}
    for key, value in content.items():
        if key not in least:
            raise unknown("rungs setting", key, least)
        if not isinstance(value, int) or value < least[key]:
            raise ConfigError(f"rungs.{key}={value!r} is not a whole number from {least[key]}")
    return Rungs(**content)
