"""TrainConfig: everything that determines one training run, and nothing else.

It is the only configuration that crosses layers. It is complete (every knob of every chosen part
has a value), checked when it is made, and round-trips through a flat dictionary, YAML and JSON:

    flat                        nested (YAML)
    mix: mamix                  mix: {name: mamix, alpha: 1.0, omega: 0.25, …}
    mix.omega: 0.25
    epochs: 200                 epochs: 200
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml

from imbtune.config.slots import SLOTS, all_knobs, check_knob, find_knob
from imbtune.errors import ConfigError, unknown
from imbtune.registry import Knob, Part, Value, knobs_of

Settings = Mapping[str, Any]

DEFAULTS = {
    "data": "digits",
    "model": "small_cnn",
    "mix": "none",
    "generate": "none",
    "loss": "ce",
    "weights": "none",
    "sampler": "instance",
    "optimizer": "sgd",
    "schedule": "step",
    "after": "none",
}
_KEPT = ("data", "model", "optimizer", "schedule")  # by a plain run


@dataclass(frozen=True)
class ChosenPart:
    """One slot filled: the part's name and all its knobs."""

    slot: str
    name: str
    knobs: Mapping[str, Value]

    @property
    def part(self) -> Part:
        return SLOTS[self.slot][self.name]

    @property
    def own(self) -> dict[str, Value]:
        """The knobs of the part itself, without those its slot shares."""
        shared = SLOTS[self.slot].shared_knobs
        return {k: v for k, v in self.knobs.items() if k not in shared}

    @property
    def shared(self) -> Any:
        """The slot's shared knobs as their dataclass."""
        return SLOTS[self.slot].shared_values(self.knobs)

    def make(self, *args: Any) -> Any:
        """Call the part with `args` and its knobs."""
        return self.part.make(*args, **self.own)


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Make it with :meth:`from_settings`, which fills in and checks."""

    data: ChosenPart
    model: ChosenPart
    mix: ChosenPart
    generate: ChosenPart
    loss: ChosenPart
    weights: ChosenPart
    sampler: ChosenPart
    optimizer: ChosenPart
    schedule: ChosenPart
    after: ChosenPart
    epochs: Annotated[int, Knob("T, the epochs of a whole run", 1)] = 200
    batch_size: Annotated[int, Knob("images a step", 1)] = 128
    precision: Annotated[
        str,
        Knob(
            "auto is bfloat16 where the hardware has it",
            choices=("auto", "float32", "bfloat16"),
        ),
    ] = "auto"
    cuda_graph: Annotated[
        bool, Knob("on a GPU, launch a step as one CUDA graph; the same figures, up to rounding")
    ] = True
    seed: Annotated[int, Knob("of weights, order, mixing and augmentation", 0)] = 0

    @classmethod
    def from_settings(cls, settings: Settings) -> TrainConfig:
        """A complete configuration from flat settings; what they leave out takes its default.

        Raises:
            ConfigError: an unknown slot, part or knob, a knob of another part, a value out of
                range.
        """
        choices = {}
        for slot, default in DEFAULTS.items():
            name = settings.get(slot, default)
            choices[slot] = ChosenPart(slot, SLOTS[slot][name].name, _fill(slot, name, settings))
        plain = {}
        for key, value in settings.items():
            if key in PLAIN:
                plain[key] = PLAIN[key].check(key, value)
            elif key.partition(".")[0] not in SLOTS:
                raise unknown("setting", key, [*SLOTS, *PLAIN, *all_knobs()])
        return cls(**choices, **plain)  # type: ignore[arg-type]

    @classmethod
    def from_nested(cls, nested: object) -> TrainConfig:
        """The inverse of :meth:`nested`; part names may stand alone (`mix: mixup`)."""
        return cls.from_settings(flatten(nested))

    def flat(self) -> dict[str, Value]:
        """Every setting as one dictionary; `from_settings` takes it back unchanged."""
        flat: dict[str, Value] = {}
        for slot in DEFAULTS:
            choice: ChosenPart = getattr(self, slot)
            flat[slot] = choice.name
            flat |= {f"{slot}.{name}": value for name, value in choice.knobs.items()}
        return flat | {name: getattr(self, name) for name in PLAIN}

    def nested(self) -> dict[str, Any]:
        """As YAML and JSON have it: one mapping a slot."""
        slots = {s: {"name": getattr(self, s).name, **getattr(self, s).knobs} for s in DEFAULTS}
        return slots | {name: getattr(self, name) for name in PLAIN}

    def yaml(self) -> str:
        return yaml.safe_dump(self.nested(), sort_keys=False, allow_unicode=True)

    def replace(self, **changes: Value) -> TrainConfig:
        """A copy with other plain settings (`seed`, `epochs`, …)."""
        return TrainConfig.from_settings(self.flat() | changes)

    def baseline(self, **changes: Value) -> TrainConfig:
        """The same data, network and way of training with cross-entropy and no method else."""
        slots = {slot: part for slot, part in DEFAULTS.items() if slot not in _KEPT}
        kept = {k: v for k, v in self.flat().items() if k.partition(".")[0] not in slots}
        return TrainConfig.from_settings(active({**kept, **slots, **changes}))

    @property
    def loss_head(self) -> str:
        """The head that the loss asks for."""
        return str(self.loss.part.traits.get("head", "linear"))


PLAIN = knobs_of(TrainConfig)


def flatten(nested: object) -> dict[str, Any]:
    """Nested settings as flat ones. A slot is a name, or a mapping with or without `name`."""
    if not isinstance(nested, Mapping):
        raise ConfigError(f"a configuration is a mapping of settings, not {nested!r}")
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            for name, inner in value.items():
                flat[str(key) if name == "name" else f"{key}.{name}"] = inner
        else:
            flat[str(key)] = value
    return flat


def active(settings: Settings) -> dict[str, Any]:
    """The settings without knobs of parts that they do not choose (ω of a run without MAMix).

    Raises:
        ConfigError: a knob that no part of its slot has.
    """
    kept = {}
    for key, value in settings.items():
        slot, dot, _ = key.partition(".")
        if dot and slot in SLOTS:
            find_knob(key)
            if not is_active(key, settings):
                continue
        kept[key] = value
    return kept


def is_active(key: str, settings: Settings) -> bool:
    """Whether the chosen part of the knob's slot has the knob `slot.name`, and it can act."""
    slot, _, name = key.partition(".")
    entry = SLOTS[slot][settings.get(slot, DEFAULTS[slot])]
    if slot == "weights" and name != "schedule" and settings.get("weights.schedule") == "never":
        return False
    return name in entry.knobs


def _fill(slot: str, part: object, settings: Settings) -> dict[str, Value]:
    entry = SLOTS[slot][part]
    knobs: dict[str, Value] = {name: p.default for name, p in entry.knobs.items()}
    for key, value in settings.items():
        owner, dot, name = key.partition(".")
        if dot and owner == slot:
            knobs[name] = check_knob(slot, entry.name, name).check(key, value)
    return knobs


def parse_value(text: str) -> Any:
    """A value given on the command line, read as YAML reads it."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"cannot read the value {text!r}: give a number or a word") from error


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, or ConfigError naming the file and the line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return parse_yaml(str(path), text)


def parse_yaml(name: str, text: str) -> Any:
    """The content of a YAML text, or ConfigError naming its source and the line."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{name} is not YAML: {reason}") from error
