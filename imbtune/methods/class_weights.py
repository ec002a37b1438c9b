"""Class weights in the loss, and in which part of a run they act.

    w_K(t) = 1 + strength(t)·(w_K - 1)

A part is a function `counts_K -> w_K`: from the training images of each class, float32 (K,), to
weights (K,), at least 0, with mean 1 over the classes. The strength in [0, 1] follows the schedule:
deferred re-weighting (DRW) switches it from 0 to 1 where the cool-down begins.
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
    """The knobs of every weighting scheme."""

    schedule: Annotated[
        str,
        Knob(
            "when the weights act: from the start of the cool-down (deferred), rising during it "
            "(linear, cosine), or rising during the whole run as t² (cumulative)",
            choices=("never", "always", "deferred", "linear", "cosine", "cumulative"),
            source=DRW,
            cooldown_only_choices=("never", "deferred", "linear", "cosine"),
            off_choices=("never",),
        ),
    ] = "deferred"
    start: Annotated[
        float,
        Knob(
            "share of the cool-down after which deferred, linear and cosine weights begin to act",
            0,
            0.99,
            cooldown_only=True,
        ),
    ] = 0.0
    reduction: Annotated[
        str,
        Knob(
            "what the weighted sum of losses is divided by: the weights of both labels "
            "(weighted_mean), for each of the two labels its own weights "
            "(weighted_mean_per_label), or the batch size (mean), which makes the gradient smaller",
            choices=("weighted_mean", "weighted_mean_per_label", "mean"),
        ),
    ] = "weighted_mean"


weights = Registry("weights", "class weights in the loss, and when they act", WeightOptions)


@weights.register("none", help="weight 1 for every class", bare=True)
def no_weights(counts_K: Tensor) -> Tensor:
    """w_k = 1. (K,)"""
    return torch.ones_like(counts_K)


@weights.register("inverse", help="w_k ∝ n_k^(-p)")
def inverse(
    counts_K: Tensor,
    *,
    power: Annotated[
        float, Knob("p: 1 is inverse frequency, 0 no weights", 0, 4, search=(0.25, 1.5))
    ] = 1.0,
) -> Tensor:
    """w_k ∝ n_k^(-power), scaled to mean 1. (K,)"""
    return _mean_one(counts_K ** (-power))


@weights.register("effective_number", help="w_k ∝ (1-β)/(1-β^n_k)", source=CLASS_BALANCED)
def effective_number(
    counts_K: Tensor,
    *,
    beta: Annotated[
        float,
        Knob(
            "β: 0 is no weights, towards 1 inverse frequency",
            0,
            0.9999999,
            search=(0.9, 0.99999),
            scale="complement",
        ),
    ] = 0.9999,
) -> Tensor:
    """w_k ∝ (1-β)/(1-β^n_k), the inverse effective number of samples, scaled to mean 1. (K,)"""
    n_K = counts_K.double()  # in float32, 1 - β^n loses its digits for β near 1
    return _mean_one((1 - beta) / (1 - beta**n_K)).to(counts_K.dtype)


def strength(options: WeightOptions, cooldown: float, progress: float) -> float:
    """The strength of the class weights, in [0, 1].

    `linear` and `cosine` rise from 0 at `start` to 1 at the end of the cool-down. `cumulative` is
    GLMC's (Du et al. 2023, arXiv 2305.08661): the plain loss has the share 1 - t², the weighted
    one t².

    Args:
        options: their schedule and its start.
        cooldown: share of the cool-down that is done; 0 in the trunk, above 0 from the first step
            of the cool-down on.
        progress: t, the share of the run that is done.
    """
    done = max(0.0, (cooldown - options.start) / (1 - options.start))
    return {
        "never": 0.0,
        "always": 1.0,
        "deferred": float(cooldown > options.start),
        "linear": done,
        "cosine": (1 - math.cos(math.pi * done)) / 2,
        "cumulative": progress**2,
    }[options.schedule]


def _mean_one(w_K: Tensor) -> Tensor:
    return w_K / w_K.mean()
