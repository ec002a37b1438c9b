"""Post-hoc methods (slot `after`): changes to the head of a trained model. The backbone stays.

A method is a function `(counts_K, norms_K, scale) -> Adjustment | Retraining | None`, which either
changes the logits or asks for a second training stage. K classes:

    counts_K:  training images of each class, float32 (K,)
    norms_K:   L2 norms of the head's class vectors, (K,); ones for a cosine head
    scale:     s of the loss, by which the softmax multiplies the logits, ()
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from imbtune.registry import Knob, Registry

LOGIT_ADJUSTMENT = "Menon et al. 2021, arXiv 2007.07314"
DECOUPLING = "Kang et al. 2020, arXiv 1910.09217"


@dataclass(frozen=True)
class Adjustment:
    """The model's logits z become scale_K ⊙ z + bias_K. Both (K,)."""

    scale_K: Tensor
    bias_K: Tensor


@dataclass(frozen=True)
class Retraining:
    """A second training stage: class-balanced batches, cross-entropy, the backbone frozen.

    Args:
        head: train a new head; False: train one factor for each logit of the existing head.
        share: the stage's length, as a share of the run.
        lr: its peak learning rate, which decays to 0 along a cosine.
    """

    head: bool
    share: float
    lr: float


posthoc_methods = Registry("after", "changes to the head after training", cooldown_only=True)

_SHARE = Knob("length of the second stage, as a share of the run", 0.01, 1, search=(0.05, 0.3))
_LR = Knob("peak learning rate of the second stage", 0, 10, search=(0.01, 0.5), scale="log")


@posthoc_methods.register("none", help="no change")
def nothing(counts_K: Tensor, norms_K: Tensor, scale: Tensor) -> None:
    """None: the model stays as it was trained."""


@posthoc_methods.register(
    "logit_adjustment", help="post-hoc: logits - τ·log prior", source=LOGIT_ADJUSTMENT
)
def logit_adjustment(
    counts_K: Tensor,
    norms_K: Tensor,
    scale: Tensor,
    *,
    tau: Annotated[
        float, Knob("τ, multiplies the log prior that is subtracted", 0, 10, search=(0, 2.5))
    ] = 1.0,
) -> Adjustment:
    """argmax_k s·z_k - τ·log π_k, with π_k the class's share of the training images."""
    log_prior_K = (counts_K / counts_K.sum()).log()
    return Adjustment(torch.ones_like(norms_K), -tau * log_prior_K / scale)


@posthoc_methods.register("tau_norm", help="class vectors divided by ‖w_k‖^τ", source=DECOUPLING)
def tau_norm(
    counts_K: Tensor,
    norms_K: Tensor,
    scale: Tensor,
    *,
    tau: Annotated[
        float, Knob("τ: 0 no change, 1 all class vectors of norm 1", 0, 10, search=(0, 2))
    ] = 1.0,
) -> Adjustment:
    """z_k/‖w_k‖^τ. No effect on a cosine head, which normalises its class vectors itself."""
    return Adjustment(norms_K**-tau, torch.zeros_like(norms_K))


@posthoc_methods.register(
    "crt", help="a new head, trained on class-balanced batches", source=DECOUPLING
)
def classifier_retraining(
    counts_K: Tensor,
    norms_K: Tensor,
    scale: Tensor,
    *,
    share: Annotated[float, _SHARE] = 0.1,
    lr: Annotated[float, _LR] = 0.1,
) -> Retraining:
    """cRT: a new head is trained; the backbone, batch-norm statistics included, is frozen."""
    return Retraining(True, share, lr)


@posthoc_methods.register(
    "lws", help="a factor for each logit, trained on class-balanced batches", source=DECOUPLING
)
def learnable_weight_scaling(
    counts_K: Tensor,
    norms_K: Tensor,
    scale: Tensor,
    *,
    share: Annotated[float, _SHARE] = 0.1,
    lr: Annotated[float, _LR] = 0.1,
) -> Retraining:
    """LWS: logits f_k·z_k, where only the factors f_k are trained, starting from 1."""
    return Retraining(False, share, lr)
