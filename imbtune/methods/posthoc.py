"""After training: what is done to a finished model's head. The backbone stays as it is.

A part either works out how the logits are changed, or asks for a second training stage:

    (counts_K, norms_K, scale) -> Adjustment | Retraining | None

counts_K: training images of each class. norms_K: lengths of the head's class vectors (ones for a
cosine head). scale: s of the loss, by which the softmax multiplies the logits. Shape: K classes.
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
    """The finished model's logits become scale_K ⊙ z + bias_K."""

    scale_K: Tensor
    bias_K: Tensor


@dataclass(frozen=True)
class Retraining:
    """A second stage: class-balanced batches, cross-entropy, the backbone frozen.

    head: learn a new head; False: learn one factor for each logit of the head that is there.
    share: its length as a share of the run. lr: its peak learning rate, which a cosine takes to 0.
    """

    head: bool
    share: float
    lr: float


posthoc_methods = Registry("after", "what is done to the head after training")

_SHARE = Knob("length of the second stage, as a share of the run", 0.01, 1, search=(0.05, 0.3))
_LR = Knob("peak learning rate of the second stage", 0, 10, search=(0.01, 0.5), scale="log")


@posthoc_methods.register("none", help="nothing")
def nothing(counts_K: Tensor, norms_K: Tensor, scale: Tensor) -> None:
    """The model as it was trained."""


@posthoc_methods.register(
    "logit_adjustment", help="post-hoc: logits - τ·log prior", source=LOGIT_ADJUSTMENT
)
def logit_adjustment(
    counts_K: Tensor,
    norms_K: Tensor,
    scale: Tensor,
    *,
    tau: Annotated[
        float, Knob("τ, how much of the log prior is taken away", 0, 10, search=(0, 2.5))
    ] = 1.0,
) -> Adjustment:
    """argmax_k s·z_k - τ·log π_k, with π the class shares of the training set."""
    log_prior_K = (counts_K / counts_K.sum()).log()
    return Adjustment(torch.ones_like(norms_K), -tau * log_prior_K / scale)


@posthoc_methods.register("tau_norm", help="class vectors divided by ‖w_k‖^τ", source=DECOUPLING)
def tau_norm(
    counts_K: Tensor,
    norms_K: Tensor,
    scale: Tensor,
    *,
    tau: Annotated[
        float, Knob("τ: 0 as trained, 1 all class vectors of one length", 0, 10, search=(0, 2))
    ] = 1.0,
) -> Adjustment:
    """z_k/‖w_k‖^τ. It changes nothing on a cosine head, whose vectors have one length."""
    return Adjustment(norms_K**-tau, torch.zeros_like(norms_K))


@posthoc_methods.register(
    "crt", help="the head trained again, on balanced batches", source=DECOUPLING
)
def classifier_retraining(
    counts_K: Tensor,
    norms_K: Tensor,
    scale: Tensor,
    *,
    share: Annotated[float, _SHARE] = 0.1,
    lr: Annotated[float, _LR] = 0.1,
) -> Retraining:
    """cRT: a head from new weights on the frozen backbone, batch norm's statistics included."""
    return Retraining(True, share, lr)


@posthoc_methods.register(
    "lws", help="a factor for each logit, learnt on balanced batches", source=DECOUPLING
)
def learnable_weight_scaling(
    counts_K: Tensor,
    norms_K: Tensor,
    scale: Tensor,
    *,
    share: Annotated[float, _SHARE] = 0.1,
    lr: Annotated[float, _LR] = 0.1,
) -> Retraining:
    """LWS: logits f_k·z_k with only the factors f_k learnt, from 1 on."""
    return Retraining(False, share, lr)
