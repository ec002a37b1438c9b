"""Mixing = pairing × blend × label rule.

Who is x_j (:mod:`.pairing`), how x_i and x_j become one image (:mod:`.blending`), and how much of
the label stays with y_i (:mod:`.labelling`). SMOTE, soft SMOTE, Mixup, Remix, margin-aware Mixup,
CutMix, CMO and UniMix are named points of that product; any other point is named by its parts, as
in `any_class_knn+linear+margin_aware`.

Throughout, λ (`lam`) is the share of x_i in the image and g the share of y_i in the label, so a
partner x_j gets 1 - λ and 1 - g. Shapes: B a batch, S steps of an epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from imbtune.methods.mixing.blending import CUTMIX, UNIMIX, Blend, Pairs, blends
from imbtune.methods.mixing.label_rules import MAMIX, MIXUP, REMIX, SMOTE, label_rules
from imbtune.methods.mixing.pairing import CMO, Ints, TrainingImages, pairings
from imbtune.registry import Knob, Part, Registry, Value


@dataclass(frozen=True)
class MixOptions:
    """Knobs of every mixing method."""

    draw: Annotated[
        str, Knob("one λ per batch or per sample", choices=("batch", "sample"), source=MIXUP)
    ] = "batch"
    probability: Annotated[
        float, Knob("share of the batches (or samples) that are mixed", 0, 1, search=(0.1, 1))
    ] = 1.0
    early: Annotated[
        str, Knob("mixing in the warm-up: kept, or not begun", choices=("keep", "wait"), source=CMO)
    ] = "keep"
    late: Annotated[
        str, Knob("mixing in the cool-down: kept or stopped", choices=("keep", "stop"))
    ] = "keep"

    def mixes_in(self, epoch: MixedEpoch) -> bool:
        """Whether an epoch is mixed at all."""
        if epoch.cooldown_epochs and self.late == "stop":
            return False
        return not (self.early == "wait" and epoch.index < epoch.warmup)


class MixedEpoch(Protocol):
    """What the options ask of an epoch."""

    @property
    def index(self) -> int: ...
    @property
    def warmup(self) -> float: ...
    @property
    def cooldown_epochs(self) -> int: ...


class Mix(NamedTuple):
    """A point of the product: its three parts with their knobs bound."""

    pairing: Callable[[Ints, TrainingImages, np.random.Generator], Ints]
    blend: Callable[[tuple[int, int], Pairs, np.random.Generator], Blend]
    label: Callable[[Tensor, Tensor, Tensor], Tensor]
    aligned: bool  # the partner takes the same crop and flip: neighbours stay neighbours


def _point(
    name: str,
    point: tuple[str, str, str],
    help: str,
    source: str,
    defaults: Mapping[str, Value] | None = None,
) -> Part:
    """The mix made of one pairing, one blend and one label rule, with the knobs of all three."""
    pairing, blend, label = pairings[point[0]], blends[point[1]], label_rules[point[2]]

    def make(**knobs: Any) -> Mix:
        return Mix(
            _bind(pairing, knobs),
            _bind(blend, knobs),
            _bind(label, knobs),
            aligned=pairing.traits.get("aligned", False),
        )

    parameters = {**pairing.knobs, **blend.knobs, **label.knobs}
    return Part("mix", name, make, parameters, help, source, defaults=defaults or {})


def _bind(part: Part, knobs: dict[str, Any]) -> Callable[..., Any]:
    own = {k: v for k, v in knobs.items() if k in part.knobs}

    def bound(*args: Any) -> Any:
        return part.make(*args, **own)

    return bound


def _resolve_product(name: str) -> Part | None:
    parts = name.split("+")
    if len(parts) != 3:
        return None
    return _point(name, (parts[0], parts[1], parts[2]), "a point of pairing+blend+label", "")


mixes = Registry(
    "mix",
    "what is mixed into an image, and its label",
    MixOptions,
    resolve=_resolve_product,
    components=(pairings, blends, label_rules),
)


@mixes.register("none", help="no mixing", bare=True)
def no_mix() -> None:
    """Images and labels as they are."""


_CMO_DEFAULTS: dict[str, Value] = {"probability": 0.5, "early": "wait"}
_UNIMIX_DEFAULTS: dict[str, Value] = {"power": 0.5, "draw": "sample"}

for _name, _parts, _help, _source, _defaults in [
    ("smote", ("same_class_knn", "linear", "hard"), "a point between two of one class", SMOTE, {}),
    ("soft_smote", ("any_class_knn", "linear", "linear"), "between two near ones", MAMIX, {}),
    ("mixup", ("shuffle", "linear", "linear"), "a point between any two", MIXUP, {}),
    ("remix", ("shuffle", "linear", "remix"), "Mixup, the minority keeping the label", REMIX, {}),
    ("mamix", ("shuffle", "linear", "margin_aware"), "Mixup with uneven margins", MAMIX, {}),
    ("cutmix", ("shuffle", "cutmix", "linear"), "a box of another image", CUTMIX, {}),
    ("cmo", ("tail_weighted", "cutmix", "linear"), "a box of a rare image", CMO, _CMO_DEFAULTS),
    (
        "unimix",
        ("tail_weighted", "shifted", "linear"),
        "with rare images, λ in their favour",
        UNIMIX,
        _UNIMIX_DEFAULTS,
    ),
]:
    mixes.add(_point(_name, _parts, _help, _source, _defaults))
