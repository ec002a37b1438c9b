"""Class weights in the loss, and when in a run they act.

    w_K(t) = 1 + strength(t)·(w_K - 1),   w_K of mean 1 over the classes

Deferred re-weighting (DRW) switches the strength from 0 to 1 where the cool-down begins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from imbtune.registry import Knob, Registry

CLASS_BALANCED = "Cui et al. 2019, arXiv 1901.05555"
DRW = "Cao et al. 2019, arXiv 1906.07413"


@dataclass(frozen=True)
class WeightOptions:
    """Knobs of every weighting scheme."""

    schedule: Annotated[
        str,
        Knob(
            "when the weights act: from the cool-down on (deferred), growing through it (linear, "
            "cosine), or through the whole run as its square (cumulative)",
            choices=("never", "always", "deferred", "linear", "cosine", "cumulative"),
            source=DRW,
        ),
    ] = "deferred"
    reduction: Annotated[
        str,
        Knob(
            "weighted_mean divides by Σw; mean by the batch size, which shrinks the gradient "
            "(the reference package's way)",
            choices=("weighted_mean", "mean"),
        ),
    ] = "weighted_mean"


weights = Registry("weights", "class weights in the loss, and when they act", WeightOptions)


@weights.register("none", help="every class weighs 1", bare=True)
def no_weights(counts_K: Tensor) -> Tensor:
    """Ones."""
    return torch.ones_like(counts_K)


@weights.register("inverse", help="w_k ∝ n_k^(-p)")
def inverse(
    counts_K: Tensor,
    *,
    power: Annotated[
        float, Knob("p: 1 is inverse frequency, 0 none", 0, 4, search=(0.25, 1.5))
    ] = 1.0,
) -> Tensor:
    """Inverse class frequency to a power, scaled to mean 1."""
    return _mean_one(counts_K ** (-power))


@weights.register("effective_number", help="w_k ∝ (1-β)/(1-β^n_k)", source=CLASS_BALANCED)
def effective_number(
    counts_K: Tensor,
    *,
    beta: Annotated[
        float,
        Knob(
            "β: 0 none, 1 inverse frequency",
            0,
            0.9999999,
            search=(0.9, 0.99999),
            scale="complement",
        ),
    ] = 0.9999,
) -> Tensor:
    """The inverse effective number of samples, scaled to mean 1."""
    n_K = counts_K.double()  # 1 - β^n cancels badly in float32 for β near 1
    return _mean_one((1 - beta) / (1 - beta**n_K)).to(counts_K.dtype)


def strength(schedule: str, cooldown: float, progress: float) -> float:
    """How much of the weights acts, in [0, 1].

    `linear` and `cosine` rise from 0 to 1 through the cool-down. `cumulative` is GLMC's
    (Du et al. 2023, arXiv 2305.08661): the plain loss has the share 1 - t², the weighted one t².

    Args:
        cooldown: share of the cool-down done; 0 in the trunk, above 0 from its first step on.
        progress: t, share of the whole run done.
    """
    return {
        "never": 0.0,
        "always": 1.0,
        "deferred": float(cooldown > 0),
        "linear": cooldown,
        "cosine": (1 - math.cos(math.pi * cooldown)) / 2,
        "cumulative": progress**2,
    }[schedule]


def _mean_one(w_K: Tensor) -> Tensor:
    return w_K / w_K.mean()
