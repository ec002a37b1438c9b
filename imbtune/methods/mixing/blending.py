"""Blends: how x_i and x_j become one image.

A blend is a function `(shape, pairs, rng) -> Blend` that draws λ, the share of x_i, for all images
of an epoch. `shape` is (S, B), or (S, 1) for one λ per batch. :func:`blend_images` then mixes the
images. Shapes: B a batch, S steps of an epoch, C channels, H and W pixels.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbtune.registry import Knob, Registry

MIXUP = "Zhang et al. 2018, arXiv 1710.09412"
CUTMIX = "Yun et al. 2019, arXiv 1905.04899"
UNIMIX = "Xu et al. 2021, arXiv 2111.03874"

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Pairs(NamedTuple):
    """The pairs of images of an epoch, as a blend sees them.

    Attributes:
        size: height and width of the images in pixels.
        n_i_SB: training images of the class of x_i.
        n_j_SB: training images of the class of x_j.
    """

    size: tuple[int, int]
    n_i_SB: Floats
    n_j_SB: Floats


class Blend(NamedTuple):
    """The draws of one epoch.

    Attributes:
        lam_SB: λ in [0, 1], the share of x_i in each image, in the `shape` of the blend.
        box_SB4: int64 top, bottom, left and right of the box that x_j fills, in pixels, bottom and
            right excluded; None for a linear mix.
    """

    lam_SB: Floats
    box_SB4: Ints | None = None


blends = Registry("blend", "how two images become one")

_ALPHA = Knob("α of λ ~ Beta(α, α)", 0.01, 10, search=(0.1, 2.0), scale="log", source=MIXUP)


@blends.register("linear", help="x̃ = λ·x_i + (1-λ)·x_j", source=MIXUP)
def linear_blend(
    shape: tuple[int, int],
    pairs: Pairs,
    rng: np.random.Generator,
    *,
    alpha: Annotated[float, _ALPHA] = 1.0,
) -> Blend:
    """x̃ = λ·x_i + (1-λ)·x_j with λ ~ Beta(α, α), α = `alpha`; α = 1 is SMOTE's uniform draw."""
    return Blend(rng.beta(alpha, alpha, shape))


@blends.register("shifted", help="linear, with λ in favour of the rarer class", source=UNIMIX)
def shifted_blend(
    shape: tuple[int, int],
    pairs: Pairs,
    rng: np.random.Generator,
    *,
    alpha: Annotated[float, _ALPHA] = 0.8,
) -> Blend:
    """UniMix's factor: λ = (u + n_j/(n_i+n_j)) mod 1, with u ~ Beta(α, α) and α = `alpha`.

    With α < 1, u is mostly near 0 or 1, so λ is mostly near n_j/(n_i+n_j), the other class's share
    of the images: the image of the rarer class gets the larger weight.
    """
    shift_SB = pairs.n_j_SB / (pairs.n_i_SB + pairs.n_j_SB)
    return Blend((rng.beta(alpha, alpha, shape) + shift_SB) % 1)


@blends.register("cutmix", help="a box of x_j in x_i; λ is the rest of the area", source=CUTMIX)
def cutmix_blend(
    shape: tuple[int, int],
    pairs: Pairs,
    rng: np.random.Generator,
    *,
    alpha: Annotated[float, _ALPHA] = 1.0,
) -> Blend:
    """x_i with a box of x_j, of height √(1-λ)·H and width √(1-λ)·W, at a uniform centre.

    λ ~ Beta(α, α), with α = `alpha`. The box is clipped at the image's edges, and the λ returned
    is the share of the area that x_i keeps.
    """
    height, width = pairs.size
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
    """The mixed images (B, C, H, W).

    Args:
        x_i: the images (B, C, H, W).
        x_j: the images that are mixed in, of the same shape.
        lam_B: λ of each; used where there are no boxes.
        box_B4: top, bottom, left and right of the box that x_j fills; None for a linear mix.
    """
    if box_B4 is None:
        return torch.lerp(x_j, x_i, lam_B.to(x_i.dtype).view(-1, 1, 1, 1))
    y = torch.arange(x_i.shape[2], device=x_i.device).view(1, -1, 1)
    x = torch.arange(x_i.shape[3], device=x_i.device).view(1, 1, -1)
    top, bottom, left, right = (edge.view(-1, 1, 1) for edge in box_B4.unbind(-1))
    inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
    return torch.where(inside.unsqueeze(1), x_j, x_i)
