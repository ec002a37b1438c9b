"""TrainConfig: all settings that determine one training run, and no others.

All layers use this configuration and no other. Every knob of every chosen part has a value, which
is checked when the configuration is made. It converts to a flat dictionary, YAML or JSON, and back:

    flat                        nested (YAML)
    mix: mamix                  mix: {name: mamix, alpha: 1.0, omega: 0.25, …}
    mix.omega: 0.25
    epochs: 200                 epochs: 200
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import yaml

from imbtune.config.defaults import DEFAULTS
from imbtune.config.slots import SLOTS, all_knobs, check_knob, find_knob
from imbtune.errors import ConfigError, shown, unknown
from imbtune.limits import BATCH_SIZE, EPOCHS, SEED
from imbtune.registry import Knob, Part, Value, knobs_of

Settings = Mapping[str, object]

_KEPT = ("data", "model", "optimizer", "schedule")  # slots that a baseline takes over


@dataclass(frozen=True)
class ChosenPart:
    """The part that fills one slot, with a value for each of its knobs."""

    slot: str
    name: str
    knobs: Mapping[str, Value]

    @property
    def part(self) -> Part:
        """The registered part."""
        return SLOTS[self.slot][self.name]

    @property
    def own(self) -> dict[str, Value]:
        """The values of the part's own knobs, without those that its slot shares."""
        shared = SLOTS[self.slot].shared_knobs
        return {k: v for k, v in self.knobs.items() if k not in shared}

    @property
    def shared(self) -> Any:
        """The values of the slot's shared knobs, as its dataclass (such as `MixOptions`)."""
        return SLOTS[self.slot].shared_values(self.knobs)

    def make(self, *args: object) -> Any:
        """Call the part's function with `args` and the values of its own knobs.

        Returns:
            What the functions of this slot return.
        """
        return self.part.make(*args, **self.own)


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Make it with :meth:`from_settings`, which adds defaults and checks."""

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
    epochs: Annotated[int, Knob("T, the epochs of a run", 1, EPOCHS)] = 200
    batch_size: Annotated[int, Knob("images per step", 1, BATCH_SIZE)] = 128
    precision: Annotated[
        str,
        Knob(
            "number format; auto is bfloat16 where the hardware supports it",
            choices=("auto", "float32", "bfloat16"),
        ),
    ] = "auto"
    cuda_graph: Annotated[
        bool,
        Knob("on a GPU, launch a step as one CUDA graph: faster, the same result up to rounding"),
    ] = True
    seed: Annotated[
        int, Knob("decides initial weights, order, mixing and augmentation", 0, SEED)
    ] = 0

    def __repr__(self) -> str:
        chosen = {slot: getattr(self, slot).name for slot in DEFAULTS}
        shown = {
            slot: name
            for slot, name in chosen.items()
            if slot in ("data", "model", "loss") or name != DEFAULTS[slot]
        }
        parts = ", ".join(f"{slot}={name}" for slot, name in shown.items())
        return f"TrainConfig({parts}, epochs={self.epochs}, seed={self.seed}); .flat() has all"

    @classmethod
    def from_settings(cls, settings: Settings) -> TrainConfig:
        """A complete configuration from flat settings.

        Args:
            settings: part names by slot (`mix`), knobs by `slot.knob`, and settings outside of the
                slots (`epochs`). Those that are missing take their defaults.

        Raises:
            ConfigError: an unknown setting or part, a knob that the chosen part does not have, or
                a value of the wrong type or out of range.
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
        """The inverse of :meth:`nested`. A slot may also be a part's name alone (`mix: mixup`).

        Raises:
            ConfigError: as :meth:`from_settings`, or `nested` is not a mapping.
        """
        return cls.from_settings(flatten(nested))

    def flat(self) -> dict[str, Value]:
        """All settings in one dictionary, the inverse of :meth:`from_settings`."""
        flat: dict[str, Value] = {}
        for slot in DEFAULTS:
            choice: ChosenPart = getattr(self, slot)
            flat[slot] = choice.name
            flat |= {f"{slot}.{name}": value for name, value in choice.knobs.items()}
        return flat | {name: getattr(self, name) for name in PLAIN}

    def nested(self) -> dict[str, object]:
        """All settings as YAML and JSON files have them: one mapping per slot."""
        slots = {s: {"name": getattr(self, s).name, **getattr(self, s).knobs} for s in DEFAULTS}
        return slots | {name: getattr(self, name) for name in PLAIN}

    def yaml(self) -> str:
        """:meth:`nested` as YAML."""
        return yaml.safe_dump(self.nested(), sort_keys=False, allow_unicode=True)

    def replace(self, **changes: Value) -> TrainConfig:
        """A copy with other values of settings outside of the slots (`seed`, `epochs`, …)."""
        return TrainConfig.from_settings(self.flat() | changes)

    def baseline(self, **changes: Value) -> TrainConfig:
        """The cross-entropy baseline of this run, without any method for imbalance.

        Data, model, optimizer, schedule and the settings outside of the slots stay; the other
        slots take their defaults. `changes` are flat settings that replace the result's.
        """
        slots = {slot: part for slot, part in DEFAULTS.items() if slot not in _KEPT}
        kept = {k: v for k, v in self.flat().items() if k.partition(".")[0] not in slots}
        return TrainConfig.from_settings(active({**kept, **slots, **changes}))

    @property
    def loss_head(self) -> str:
        """The head that the loss needs: `linear` or `cosine`."""
        return str(self.loss.part.traits.get("head", "linear"))


PLAIN = knobs_of(TrainConfig)  # the settings outside of the slots


def flatten(nested: object) -> dict[str, object]:
    """Nested settings as flat ones.

    Args:
        nested: for each slot a part's name, or a mapping of knobs with or without `name`.

    Raises:
        ConfigError: `nested` is not a mapping.
    """
    if not isinstance(nested, Mapping):
        raise ConfigError(f"a configuration is a mapping of settings, not {shown(nested)}")
    return dict(_pairs(nested))


def check_given_once(nested: Mapping[str, object], place: str = "") -> None:
    """ConfigError for a setting that nested settings have in two forms, of which one would win.

    Args:
        place: of the settings, to begin the message with.
    """
    seen = set[str]()
    for key, _ in _pairs(nested):
        if key in seen:
            raise ConfigError(
                f"{place}{key} is given twice, as {key.replace('.', ': {', 1)}: …"
                f"{'}' * ('.' in key)} and as {key}: give it once"
            )
        seen.add(key)


def _pairs(nested: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for key, value in nested.items():
        if isinstance(value, Mapping):
            for name, inner in value.items():
                yield str(key) if name == "name" else f"{key}.{name}", inner
        else:
            yield str(key), value


def active(settings: Settings) -> dict[str, object]:
    """The settings without the inactive knobs: those of parts that are not chosen (MAMix's ω in a
    run with Mixup), and those of a slot that is switched off.

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
    """Whether the knob `slot.name` belongs to the chosen part, and the slot is not switched off.

    A shared knob switches its slot off where it has one of its `off_choices`.
    """
    slot, _, name = key.partition(".")
    registry = SLOTS[slot]
    chosen = registry[settings.get(slot, DEFAULTS[slot])]
    for switch, declared in registry.shared_knobs.items():
        off = declared.knob.off_choices
        if off and name != switch and settings.get(f"{slot}.{switch}") in off:
            return False
    return name in chosen.knobs


def _fill(slot: str, part: object, settings: Settings) -> dict[str, Value]:
    """The values of all knobs of the chosen part: those in `settings`, else the defaults."""
    chosen = SLOTS[slot][part]
    knobs: dict[str, Value] = {name: knob.default for name, knob in chosen.knobs.items()}
    for key, value in settings.items():
        owner, dot, name = key.partition(".")
        if dot and owner == slot:
            knobs[name] = check_knob(slot, chosen.name, name).check(key, value)
    return knobs
