"""Post-hoc methods (slot `after`): changes to the head of a trained model. The backbone stays.

A method is a function `(counts_K, norms_K, scale) -> Adjustment | Retraining | None`, which either
changes the logits or asks for a second training stage. K classes:

    counts_K:  training images of each class, float32 (K,)
    norms_K:   L2 norms of the head's class vectors, (K,); ones for a cosine head
    scale:     s of the loss, by which the softmax multiplies the logits, ()
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from imbtune.methods.losses import MarginSoftmax, gcl_second_stage, label_aware_smoothing
from imbtune.registry import Knob, Registry

LOGIT_ADJUSTMENT = "Menon et al. 2021, arXiv 2007.07314"
DECOUPLING = "Kang et al. 2020, arXiv 1910.09217"
GCL = "Li et al. 2022, arXiv 2305.11733"
MISLAS = "Zhong et al. 2021, arXiv 2104.00466"


@dataclass(frozen=True)
class Adjustment:
    """The model's logits z become scale_K ⊙ z + bias_K. Both (K,)."""

    scale_K: Tensor
    bias_K: Tensor


@dataclass(frozen=True)
class Retraining:
    """A second training stage: class-balanced batches, the backbone frozen.

    Args:
        head: `new`: train a new head; `kept`: train the existing one further; `frozen`.
        share: the stage's length, as a share of the run.
        lr: its peak learning rate, which decays to 0 along a cosine.
        factors: also train one factor for each logit.
        head_lr: the head's learning rate as a multiple of `lr`, which the factors have.
        loss: of the stage; None is cross-entropy at the scale of the first stage's loss.
        mixup: mix the batches by Mixup with λ ~ U(0, 1).
        rate_by_epoch: the learning rate changes between epochs only, as in the authors' code.
        batch_norm: `frozen`, or `adapting`: batches are normalised by their own statistics, and
            the running statistics follow them.
    """

    head: Literal["new", "kept", "frozen"]
    share: float
    lr: float
    factors: bool = False
    head_lr: float = 1.0
    loss: MarginSoftmax | None = None
    mixup: bool = False
    rate_by_epoch: bool = False
    batch_norm: Literal["frozen", "adapting"] = "frozen"


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
    return Retraining("new", share, lr)


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
    return Retraining("frozen", share, lr, factors=True)


@posthoc_methods.register(
    "gcl", help="GCL's second stage: the head, with GCL, Mixup and balanced batches", source=GCL
)
def gcl_retraining(
    counts_K: Tensor,
    norms_K: Tensor,
    scale: Tensor,
    *,
    share: Annotated[float, _SHARE] = 0.15,
    lr: Annotated[float, _LR] = 0.002,
    noise: Annotated[float, Knob("largest noise on the rarest class's cosine", 0, 2)] = 0.5,
    stage_scale: Annotated[float, Knob("s of the second stage", 1, 100)] = 20.0,
    margin: Annotated[float, Knob("m, subtracted from the true class's cosine", 0, 2)] = 0.1,
    gamma: Annotated[float, Knob("γ of the focal weight", 0, 10)] = 1.0,
) -> Retraining:
    """The existing head is trained with the GCL loss, on class-balanced batches with Mixup.

    The defaults are those of the authors' code for CIFAR-LT: 30 epochs after 200, s = 20, m = 0.1,
    γ = 1, half of the noise, and a peak rate of a fiftieth of the run's 0.1.
    """
    loss = gcl_second_stage(counts_K, noise=noise, scale=stage_scale, margin=margin, gamma=gamma)
    return Retraining("kept", share, lr, loss=loss, mixup=True, rate_by_epoch=True)


@posthoc_methods.register(
    "mislas",
    help="MiSLAS's second stage: head and factors, with label-aware smoothing",
    source=MISLAS,
)
def mislas_retraining(
    counts_K: Tensor,
    norms_K: Tensor,
    scale: Tensor,
    *,
    share: Annotated[float, _SHARE] = 0.05,
    lr: Annotated[float, _LR] = 0.1,
    head_lr: Annotated[float, Knob("the head's learning rate as a multiple of lr", 0, 1)] = 0.5,
    smooth_head: Annotated[float, Knob("ε of the largest class", 0, 1, search=(0.1, 0.5))] = 0.3,
    smooth_tail: Annotated[float, Knob("ε of the smallest class", 0, 1, search=(0, 0.2))] = 0.0,
    shift_bn: Annotated[
        bool, Knob("batch norm adapts to the balanced batches; false: it is frozen")
    ] = False,
) -> Retraining:
    """Label-aware smoothing on class-balanced batches: the existing head and one factor per logit.

    The defaults are those of the authors' code for CIFAR-10-LT with ratio 100: 10 epochs after 200.
    Their CIFAR-100-LT has head_lr 0.2, smooth_head 0.4, smooth_tail 0.1 and shift_bn.
    """
    loss = label_aware_smoothing(counts_K, smooth_head=smooth_head, smooth_tail=smooth_tail)
    return Retraining(
        "kept",
        share,
        lr,
        factors=True,
        head_lr=head_lr,
        loss=loss._replace(scale=scale),
        rate_by_epoch=True,
        batch_norm="adapting" if shift_bn else "frozen",
    )
