"""Mixing = pairing × blend × label rule.

The pairing chooses x_j (:mod:`.pairing`), the blend makes one image of x_i and x_j
(:mod:`.blending`), and the label rule gives the share of y_i in its label (:mod:`.label_rules`).
SMOTE, soft SMOTE, Mixup, Remix, margin-aware Mixup, CutMix, CMO and UniMix are named combinations;
any other combination has the names of its three components, as `any_class_knn+linear+margin_aware`.

λ (`lam`) is the share of x_i in the image and g the share of y_i in the label; x_j and y_j have
1 - λ and 1 - g. Shapes: B a batch, S steps of an epoch.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, NamedTuple, Protocol

from numpy.random import Generator
from torch import Tensor

from imbtune.methods.mixing.blending import CUTMIX, UNIMIX, Blend, Pairs, blends
from imbtune.methods.mixing.label_rules import MAMIX, MIXUP, REMIX, SMOTE, label_rules
from imbtune.methods.mixing.pairing import CMO, Ints, TrainingImages, pairings
from imbtune.registry import Knob, Part, Registry, Value


@dataclass(frozen=True)
class MixOptions:
    """The knobs of every mix."""

    draw: Annotated[
        str, Knob("one λ per batch or per sample", choices=("batch", "sample"), source=MIXUP)
    ] = "batch"
    probability: Annotated[
        float, Knob("share of the batches (or samples) that are mixed", 0, 1, search=(0.1, 1))
    ] = 1.0
    by_class: Annotated[
        str,
        Knob(
            "the probability is the same for all images (equal), or multiplied by 1 - n_k/n_max "
            "for class k (oversampling): SMOTE's share of synthetic images in balanced batches",
            choices=("equal", "oversampling"),
            source=SMOTE,
        ),
    ] = "equal"
    early: Annotated[
        str,
        Knob("at first: mix (keep) or not yet (wait)", choices=("keep", "wait"), source=CMO),
    ] = "keep"
    wait_share: Annotated[
        float, Knob("with early=wait: share of the run without mixing; 0 is the warm-up", 0, 0.5)
    ] = 0.0
    late: Annotated[
        str,
        Knob(
            "in the cool-down: mix (keep) or no longer (stop)",
            choices=("keep", "stop"),
            cooldown_only=True,
        ),
    ] = "keep"
    stop_share: Annotated[
        float,
        Knob(
            "with late=stop: share of the cool-down, at its end, without mixing",
            0.001,
            1,
            source=CMO,
            cooldown_only=True,
        ),
    ] = 1.0

    def mixes_in(self, epoch: MixedEpoch) -> bool:
        """Whether images are mixed in `epoch`."""
        if epoch.cooldown_epochs and self.late == "stop":
            unmixed = max(1, round(self.stop_share * epoch.cooldown_epochs))
            if epoch.cooldown_index >= epoch.cooldown_epochs - unmixed:
                return False
        waits = self.wait_share * epoch.full if self.wait_share else epoch.warmup
        return not (self.early == "wait" and epoch.index < waits)


class MixedEpoch(Protocol):
    """An epoch's position in the run, in epochs: as :class:`imbtune.training.phases.Epoch`."""

    @property
    def index(self) -> int:
        """Epochs trained before this one."""
        ...

    @property
    def warmup(self) -> float:
        """The length of the warm-up."""
        ...

    @property
    def full(self) -> int:
        """The length of the run whose trunk it is on."""
        ...

    @property
    def cooldown_index(self) -> int:
        """Epochs of the cool-down trained before this one; 0 in the trunk."""
        ...

    @property
    def cooldown_epochs(self) -> int:
        """The length of the cool-down that the epoch belongs to; 0 in the trunk."""
        ...


class Pairing(Protocol):
    """A pairing with its knobs set (:mod:`.pairing`)."""

    def __call__(self, index_SB: Ints, images: TrainingImages, rng: Generator, /) -> Ints: ...


class Blender(Protocol):
    """A blend with its knobs set (:mod:`.blending`)."""

    def __call__(self, shape: tuple[int, int], pairs: Pairs, rng: Generator, /) -> Blend: ...


class LabelRule(Protocol):
    """A label rule with its knobs set (:mod:`.label_rules`)."""

    def __call__(self, lam_B: Tensor, n_i_B: Tensor, n_j_B: Tensor, /) -> Tensor: ...


class Mix(NamedTuple):
    """A pairing, a blend and a label rule, with their knobs set.

    Attributes:
        aligned: the partner gets the same crop and flip as the image, so that neighbours stay
            near each other.
    """

    pairing: Pairing
    blend: Blender
    label: LabelRule
    aligned: bool


def _combine(
    name: str,
    components: tuple[str, str, str],
    help: str,
    source: str,
    defaults: Mapping[str, Value] | None = None,
) -> Part:
    """The mix of a pairing, a blend and a label rule, with the knobs of all three."""
    pairing = pairings[components[0]]
    blend, label = blends[components[1]], label_rules[components[2]]

    def make(**knobs: Value) -> Mix:
        return Mix(
            functools.partial(pairing.make, **_own(pairing, knobs)),
            functools.partial(blend.make, **_own(blend, knobs)),
            functools.partial(label.make, **_own(label, knobs)),
            aligned=bool(pairing.traits.get("aligned", False)),
        )

    declared = {**pairing.knobs, **blend.knobs, **label.knobs}
    return Part("mix", name, make, declared, help, source, defaults=defaults or {})


def _own(component: Part, knobs: Mapping[str, Value]) -> dict[str, Value]:
    """Those of the mix's knobs that belong to the component."""
    return {name: value for name, value in knobs.items() if name in component.knobs}


def _resolve_combination(name: str) -> Part | None:
    """The mix of a name such as `shuffle+linear+hard`; None for names without two `+`."""
    names = name.split("+")
    if len(names) != 3:
        return None
    return _combine(name, (names[0], names[1], names[2]), "a pairing+blend+label combination", "")


mixes = Registry(
    "mix",
    "what is mixed into an image and its label",
    MixOptions,
    resolve=_resolve_combination,
    components=(pairings, blends, label_rules),
)


@mixes.register("none", help="no mixing", bare=True)
def no_mix() -> None:
    """None: images and labels stay as they are."""


_CMO_DEFAULTS: dict[str, Value] = {"probability": 0.5, "early": "wait"}
_UNIMIX_DEFAULTS: dict[str, Value] = {"power": 0.5, "draw": "sample"}

for _name, _components, _help, _source, _defaults in [
    (
        "smote",
        ("same_class_knn", "linear", "hard"),
        "between two near images of one class",
        SMOTE,
        {},
    ),
    (
        "soft_smote",
        ("any_class_knn", "linear", "linear"),
        "between two near images",
        MAMIX,
        {},
    ),
    ("mixup", ("shuffle", "linear", "linear"), "between any two images", MIXUP, {}),
    (
        "remix",
        ("shuffle", "linear", "remix"),
        "Mixup, rare classes keep the label",
        REMIX,
        {},
    ),
    (
        "mamix",
        ("shuffle", "linear", "margin_aware"),
        "Mixup, larger margins if rare",
        MAMIX,
        {},
    ),
    ("cutmix", ("shuffle", "cutmix", "linear"), "a box of another image", CUTMIX, {}),
    ("cmo", ("tail_weighted", "cutmix", "linear"), "a box of a rare image", CMO, _CMO_DEFAULTS),
    (
        "unimix",
        ("tail_weighted", "shifted", "linear"),
        "Mixup with rare images, λ in their favour",
        UNIMIX,
        _UNIMIX_DEFAULTS,
    ),
]:
    mixes.add(_combine(_name, _components, _help, _source, _defaults))
