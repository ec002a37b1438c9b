"""Mixing = pairing × blend × label rule.

Who is x_j (pairing), how x_i and x_j become one image (blend), and how much of the label stays
with y_i (label rule). SMOTE, soft SMOTE, Mixup, Remix, margin-aware Mixup and CutMix are named
points of that product; any other point is named by its parts, as in
`any_class_knn+linear+margin_aware`.

Throughout, λ (`lam`) is the share of x_i in the image and g the share of y_i in the label, so a
partner x_j gets 1 - λ and 1 - g. Shapes: B a batch, S steps of an epoch, N images, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbtune.registry import Entry, Knob, Registry

MAMIX = "Cheng & Lin 2023, arXiv 2308.15457"
MIXUP = "Zhang et al. 2018, arXiv 1710.09412"
REMIX = "Chou et al. 2020, arXiv 2007.03943"
SMOTE = "Chawla et al. 2002, doi 10.1613/jair.953"
CUTMIX = "Yun et al. 2019, arXiv 1905.04899"

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Scalar = float | Tensor


class Neighbours(Protocol):
    """The training images seen as points: what a pairing may ask about them."""

    def nearest(self, k: int, same_class: bool) -> tuple[Ints, Ints]:
        """The k nearest images of each, nearest first (N, k), and how many of them exist (N,)."""
        ...


pairings = Registry("pairing", "who is mixed in")
blends = Registry("blend", "how two images become one")
label_rules = Registry("label", "how much of the label stays with the first image")


# ---- pairing: (index_SB, images, rng) -> partner_SB ------------------------------------------


@pairings.register("shuffle", help="another image of the same batch", source=MIXUP)
def shuffle(index_SB: Ints, images: Neighbours, rng: np.random.Generator) -> Ints:
    """A random permutation of every batch, so partners follow the sampler's distribution."""
    return rng.permuted(index_SB, axis=1)


_NEIGHBOURS = Knob("k, the neighbours a partner is drawn from", 1, 32, search=(3, 15), source=SMOTE)


@pairings.register(
    "same_class_knn", help="a near image of the same class", source=SMOTE, aligned=True
)
def same_class_knn(
    index_SB: Ints,
    images: Neighbours,
    rng: np.random.Generator,
    *,
    neighbours: Annotated[int, _NEIGHBOURS] = 5,
) -> Ints:
    """One of the k nearest of its class in pixel space; itself where the class has one image."""
    return _draw_neighbour(index_SB, *images.nearest(neighbours, same_class=True), rng)


@pairings.register("any_class_knn", help="a near image of any class", source=MAMIX, aligned=True)
def any_class_knn(
    index_SB: Ints,
    images: Neighbours,
    rng: np.random.Generator,
    *,
    neighbours: Annotated[int, _NEIGHBOURS] = 5,
) -> Ints:
    """One of the k nearest images in pixel space, whatever its class."""
    return _draw_neighbour(index_SB, *images.nearest(neighbours, same_class=False), rng)


def _draw_neighbour(index_SB: Ints, nearest: Ints, found: Ints, rng: np.random.Generator) -> Ints:
    column_SB = np.floor(rng.random(index_SB.shape) * found[index_SB]).astype(np.int64)
    partner_SB = nearest[index_SB, column_SB]
    return np.where(found[index_SB] > 0, partner_SB, index_SB)


# ---- blend: (shape, H, W, rng) -> Blend ------------------------------------------------------


class Blend(NamedTuple):
    """The draws of one epoch: λ, and for CutMix the box that x_j fills.

    lam_SB: share of x_i in each image, in [0, 1].
    box_SB4: top, bottom, left, right of the box in pixels (ends excluded), or None: a linear mix.
    """

    lam_SB: Floats
    box_SB4: Ints | None = None


_ALPHA = Knob("α of λ ~ Beta(α, α)", 0.01, 10, search=(0.1, 2.0), scale="log", source=MIXUP)


@blends.register("linear", help="x̃ = λ·x_i + (1-λ)·x_j", source=MIXUP)
def linear_blend(
    shape: tuple[int, int],
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    alpha: Annotated[float, _ALPHA] = 1.0,
) -> Blend:
    """λ ~ Beta(α, α); α = 1 is SMOTE's uniform draw along the segment."""
    return Blend(rng.beta(alpha, alpha, shape))


@blends.register("cutmix", help="a box of x_j in x_i; λ is the area left", source=CUTMIX)
def cutmix_blend(
    shape: tuple[int, int],
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    alpha: Annotated[float, _ALPHA] = 1.0,
) -> Blend:
    """A box of sides √(1-λ)·(H, W) around a uniform centre, clipped; λ becomes the true area."""
    height, width = size
    side_SB = np.sqrt(1 - rng.beta(alpha, alpha, shape))
    centre_y = rng.integers(0, height, shape)
    centre_x = rng.integers(0, width, shape)
    half_y = (side_SB * height).astype(np.int64) // 2
    half_x = (side_SB * width).astype(np.int64) // 2
    top, bottom = np.clip([centre_y - half_y, centre_y + half_y], 0, height)
    left, right = np.clip([centre_x - half_x, centre_x + half_x], 0, width)
    lam_SB = 1 - (bottom - top) * (right - left) / (height * width)
    return Blend(lam_SB, np.stack([top, bottom, left, right], axis=-1))


def blend_images(x_i: Tensor, x_j: Tensor, lam_B: Tensor, box_B4: Tensor | None) -> Tensor:
    """The mixed images (B, C, H, W): linear in λ, or x_j inside the box."""
    if box_B4 is None:
        return torch.lerp(x_j, x_i, lam_B.to(x_i.dtype).view(-1, 1, 1, 1))
    y = torch.arange(x_i.shape[2], device=x_i.device).view(1, -1, 1)
    x = torch.arange(x_i.shape[3], device=x_i.device).view(1, 1, -1)
    top, bottom, left, right = (edge.view(-1, 1, 1) for edge in box_B4.unbind(-1))
    inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
    return torch.where(inside.unsqueeze(1), x_j, x_i)


# ---- label rule: (lam_B, n_i_B, n_j_B) -> g_B -------------------------------------------------


@label_rules.register("linear", help="g = λ", source=MIXUP)
def linear_label(lam_B: Tensor, n_i_B: Tensor, n_j_B: Tensor) -> Tensor:
    """The label is mixed as the image is."""
    return lam_B


@label_rules.register("hard", help="g = 1: the label of x_i", source=SMOTE)
def hard_label(lam_B: Tensor, n_i_B: Tensor, n_j_B: Tensor) -> Tensor:
    """The label of x_i alone, as SMOTE's, whose pairs are of one class."""
    return torch.ones_like(lam_B)


@label_rules.register(
    "remix", help="all of the label to the minority where it holds enough", source=REMIX
)
def remix_label(
    lam_B: Tensor,
    n_i_B: Tensor,
    n_j_B: Tensor,
    *,
    kappa: Annotated[
        Scalar, Knob("κ, the count ratio that makes a minority", 1, search=(1.5, 10), scale="log")
    ] = 3.0,
    tau: Annotated[
        Scalar, Knob("τ, the majority's share below which it loses the label", 0, 1, search=(0, 1))
    ] = 0.5,
) -> Tensor:
    """g = 0 if n_i/n_j ≥ κ and λ < τ; 1 if n_i/n_j ≤ 1/κ and 1-λ < τ; else λ."""
    ratio_B = n_i_B / n_j_B
    g_B = torch.where((ratio_B <= 1 / kappa) & (1 - lam_B < tau), torch.ones_like(lam_B), lam_B)
    return torch.where((ratio_B >= kappa) & (lam_B < tau), torch.zeros_like(lam_B), g_B)


@label_rules.register(
    "margin_aware",
    help="g = ½ where the LDAM-like margins meet, linear on both sides",
    source=MAMIX,
)
def margin_aware_label(
    lam_B: Tensor,
    n_i_B: Tensor,
    n_j_B: Tensor,
    *,
    omega: Annotated[
        Scalar, Knob("ω of the margins γ_k = n_k^(-ω); 0 is Mixup", 0, 4, search=(0, 1))
    ] = 0.25,
) -> Tensor:
    """Margin-aware Mixup: with x = 1-λ the share of x_j and m = γ_i/(γ_i+γ_j),

    g = 1 - x/(2m) where x ≤ m, and (1-x)/(2(1-m)) beyond. The two agree at x = m, where g = ½:
    the label changes hands at the distance ratio γ_i : γ_j, nearer to the majority's image.
    """
    # m = 1/(1 + (n_i/n_j)^ω): one power; above 0, so that x = m = 0 is not 0/0
    m_B = (1 / (1 + (n_i_B / n_j_B) ** omega)).clamp(min=1e-30)
    x_B = 1 - lam_B
    return torch.where(x_B <= m_B, 1 - x_B / (2 * m_B), (1 - x_B) / (2 * (1 - m_B)))


# ---- the product, and its named points -------------------------------------------------------


@dataclass(frozen=True)
class MixOptions:
    """Knobs of every mixing method."""

    draw: Annotated[
        str, Knob("one λ per batch or per sample", choices=("batch", "sample"), source=MIXUP)
    ] = "batch"
    late: Annotated[
        str, Knob("mixing in the cool-down: kept or stopped", choices=("keep", "stop"))
    ] = "keep"


class Mix(NamedTuple):
    """A point of the product: its three parts with their knobs bound."""

    pairing: Callable[[Ints, Neighbours, np.random.Generator], Ints]
    blend: Callable[[tuple[int, int], tuple[int, int], np.random.Generator], Blend]
    label: Callable[[Tensor, Tensor, Tensor], Tensor]
    aligned: bool  # the partner takes the same crop and flip: neighbours stay neighbours


def _point(name: str, point: tuple[str, str, str], help: str, source: str) -> Entry:
    """The mix made of one pairing, one blend and one label rule, with the knobs of all three."""
    pairing, blend, label = pairings[point[0]], blends[point[1]], label_rules[point[2]]

    def make(**knobs: Any) -> Mix:
        return Mix(
            _bind(pairing, knobs),
            _bind(blend, knobs),
            _bind(label, knobs),
            aligned=pairing.traits.get("aligned", False),
        )

    parameters = {**pairing.parameters, **blend.parameters, **label.parameters}
    return Entry("mix", name, make, parameters, help, source)


def _bind(part: Entry, knobs: dict[str, Any]) -> Callable[..., Any]:
    own = {k: v for k, v in knobs.items() if k in part.parameters}

    def bound(*args: Any) -> Any:
        return part.make(*args, **own)

    return bound


def _resolve_product(name: str) -> Entry | None:
    parts = name.split("+")
    if len(parts) != 3:
        return None
    return _point(name, (parts[0], parts[1], parts[2]), "a point of pairing+blend+label", "")


mixes = Registry(
    "mix", "what is mixed into an image, and its label", MixOptions, resolve=_resolve_product
)


@mixes.register("none", help="no mixing", bare=True)
def no_mix() -> None:
    """Images and labels as they are."""


for _name, _parts, _help, _source in [
    ("smote", ("same_class_knn", "linear", "hard"), "a point between two of one class", SMOTE),
    ("soft_smote", ("any_class_knn", "linear", "linear"), "a point between two near ones", MAMIX),
    ("mixup", ("shuffle", "linear", "linear"), "a point between any two", MIXUP),
    ("remix", ("shuffle", "linear", "remix"), "Mixup, the minority keeping the label", REMIX),
    ("mamix", ("shuffle", "linear", "margin_aware"), "Mixup with uneven margins", MAMIX),
    ("cutmix", ("shuffle", "cutmix", "linear"), "a box of another image", CUTMIX),
]:
    mixes.add(_point(_name, _parts, _help, _source))
