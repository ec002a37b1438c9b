"""The losses: one margin-softmax, where each loss is a set of per-class vectors.

    z′   = s·(Δ ⊙ z - m_y·1[y] - |δ|⊙c) + ι,     δ ~ N(0, 1/3) clipped to [-1, 1]
    loss = (1 - p_y)^γ · [(1 - ε_y)·CE(z′, y) + ε_y·mean_k CE(z′, k)]

A loss is a function `counts_K -> MarginSoftmax`: from the training images of each class, float32
(K,), to the vectors. A plugin's loss may return any function of logits and labels instead
(:data:`LossFunction`). Shapes: B a batch, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from imbtune.registry import Knob, Registry

FOCAL = "Lin et al. 2017, arXiv 1708.02002"
LDAM = "Cao et al. 2019, arXiv 1906.07413"
BALANCED_SOFTMAX = "Ren et al. 2020, arXiv 2007.10740"
LOGIT_ADJUSTMENT = "Menon et al. 2021, arXiv 2007.07314"
CDT = "Ye et al. 2020, arXiv 2001.01385"
VS = "Kini et al. 2021, arXiv 2103.01550"
GCL = "Li et al. 2022, arXiv 2305.11733"
LABEL_AWARE = "Zhong et al. 2021, arXiv 2104.00466"


class MarginSoftmax(NamedTuple):
    """The vectors of one loss. All float32, on the device of the logits.

    Attributes:
        scale: s, ().
        slope_K: Δ, multiplies the logits.
        margin_K: m, subtracted from the logit of the true class before scaling.
        bias_K: ι, added to the scaled logits.
        focus: γ, the exponent of the focal factor, ().
        cloud_K: c, the largest noise that is subtracted from a logit before scaling.
        smooth_K: ε in [0, 1], the share of the label that is spread over all classes, for samples
            of this class.
        focus_gradient: 1 where the focal factor is differentiated too, 0 where it is a constant
            weight, ().
    """

    scale: Tensor
    slope_K: Tensor
    margin_K: Tensor
    bias_K: Tensor
    focus: Tensor
    cloud_K: Tensor
    smooth_K: Tensor
    focus_gradient: Tensor


LossFunction = Callable[[Tensor, Tensor], Tensor]  # (logits_BK, labels_B) -> loss_B

losses = Registry("loss", "the loss: a margin-softmax with its own per-class vectors")


def margin_softmax(
    logits_BK: Tensor, labels_B: Tensor, vectors: MarginSoftmax, noise_BK: Tensor | None = None
) -> Tensor:
    """The loss of each sample, in the shape of `labels_B`.

    Args:
        logits_BK: float32 (B, K).
        labels_B: int64 classes (B,), or (L, B) for L labels of each sample.
        noise_BK: |δ| in [0, 1] from :func:`cloud_noise`; None for no noise.
    """
    shift_BK = F.one_hot(labels_B, logits_BK.shape[1]) * vectors.margin_K
    if noise_BK is not None:
        shift_BK = shift_BK + noise_BK * vectors.cloud_K
    shifted_BK = vectors.scale * (vectors.slope_K * logits_BK - shift_BK) + vectors.bias_K
    log_p_BK = F.log_softmax(shifted_BK, dim=-1)
    log_p_B = log_p_BK.gather(-1, labels_B[..., None]).squeeze(-1)
    smooth_B = vectors.smooth_K[labels_B]
    entropy_B = -torch.lerp(log_p_B, log_p_BK.mean(-1), smooth_B)
    # 1 - p_y is -expm1(log p_y); clamped, since the power has no finite gradient at p_y = 1
    constant_B = log_p_B.detach()
    focal_log_p_B = constant_B + vectors.focus_gradient * (log_p_B - constant_B)
    focal_B = torch.clamp(-torch.expm1(focal_log_p_B), min=1e-12) ** vectors.focus
    return focal_B * entropy_B


def cloud_noise(
    shape_BK: tuple[int, int],
    device: torch.device | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """|δ| with δ ~ N(0, 1/3) clipped to [-1, 1], (B, K); 1/3 is the standard deviation.

    Args:
        shape_BK: B and K.
        device: of the result; None for torch's default.
        generator: on that device; None for torch's global generator.
    """
    return (torch.randn(shape_BK, device=device, generator=generator) / 3).abs().clamp(max=1)


def _vectors(
    counts_K: Tensor,
    *,
    scale: float | Tensor = 1.0,
    slope_K: Tensor | None = None,
    margin_K: Tensor | None = None,
    bias_K: Tensor | None = None,
    focus: float | Tensor = 0.0,
    cloud_K: Tensor | None = None,
    smooth_K: Tensor | None = None,
    focus_gradient: float = 1.0,
) -> MarginSoftmax:
    """The vectors of a loss; those that are not given leave cross-entropy unchanged."""
    zeros_K = torch.zeros_like(counts_K)
    return MarginSoftmax(
        torch.as_tensor(scale, dtype=counts_K.dtype, device=counts_K.device),
        torch.ones_like(counts_K) if slope_K is None else slope_K,
        zeros_K if margin_K is None else margin_K,
        zeros_K if bias_K is None else bias_K,
        torch.as_tensor(focus, dtype=counts_K.dtype, device=counts_K.device),
        zeros_K if cloud_K is None else cloud_K,
        zeros_K if smooth_K is None else smooth_K,
        torch.as_tensor(focus_gradient, dtype=counts_K.dtype, device=counts_K.device),
    )


def plain_cross_entropy(vectors: MarginSoftmax) -> MarginSoftmax:
    """Cross-entropy with the same scale s, for retraining the same head after training."""
    return _vectors(torch.zeros_like(vectors.bias_K), scale=vectors.scale)


@losses.register("ce", help="cross-entropy")
def ce(counts_K: Tensor) -> MarginSoftmax:
    """Cross-entropy: s = Δ = 1, the other vectors 0."""
    return _vectors(counts_K)


@losses.register("focal", help="cross-entropy with less weight on easy samples", source=FOCAL)
def focal(
    counts_K: Tensor,
    *,
    gamma: Annotated[float, Knob("focusing exponent γ", 0, 10, search=(0, 3))] = 1.0,
) -> MarginSoftmax:
    """(1 - p_y)^γ · CE, with γ = `gamma`; γ = 0 is cross-entropy."""
    return _vectors(counts_K, focus=gamma)


_SCALE = Knob("s, multiplies the logits of the cosine head", 1, 100, search=(10, 50), scale="log")


@losses.register(
    "ldam", help="larger margins for rarer classes, on a cosine head", source=LDAM, head="cosine"
)
def ldam(
    counts_K: Tensor,
    *,
    margin: Annotated[
        float, Knob("the largest margin, that of the rarest class", 0, 2, search=(0.1, 0.9))
    ] = 0.5,
    scale: Annotated[float, _SCALE] = 30.0,
) -> MarginSoftmax:
    """m_k ∝ n_k^(-1/4), scaled so that the largest is `margin`; s = `scale`; a cosine head."""
    m_K = counts_K**-0.25
    return _vectors(counts_K, scale=scale, margin_K=margin * m_K / m_K.max())


@losses.register("balanced_softmax", help="logits + log n_k", source=BALANCED_SOFTMAX)
def balanced_softmax(counts_K: Tensor) -> MarginSoftmax:
    """ι_k = log n_k: logit adjustment with τ = 1, up to a constant."""
    return _vectors(counts_K, bias_K=counts_K.log())


_TEMPERATURE = Knob("τ, multiplies the log prior that is added", 0, 10, search=(0, 2.5))
_SLOPE = Knob("γ of the logit factors Δ_k = (n_k/n_max)^γ", 0, 2, search=(0, 0.5))


@losses.register("logit_adjustment", help="logits + τ·log prior", source=LOGIT_ADJUSTMENT)
def logit_adjustment(
    counts_K: Tensor, *, tau: Annotated[float, _TEMPERATURE] = 1.0
) -> MarginSoftmax:
    """ι_k = τ·log π_k, with τ = `tau` and π_k the class's share of the training images."""
    return _vectors(counts_K, bias_K=tau * _log_prior(counts_K))


@losses.register("vs", help="logit factors and logit adjustment together", source=VS)
def vs(
    counts_K: Tensor,
    *,
    slope: Annotated[float, _SLOPE] = 0.3,
    tau: Annotated[float, _TEMPERATURE] = 1.0,
) -> MarginSoftmax:
    """Δ_k = (n_k/n_max)^γ and ι_k = τ·log π_k, with γ = `slope`; γ = τ = 0 is cross-entropy."""
    slope_K = (counts_K / counts_K.max()) ** slope
    return _vectors(counts_K, slope_K=slope_K, bias_K=tau * _log_prior(counts_K))


@losses.register("cdt", help="class-dependent temperatures: logit factors only", source=CDT)
def cdt(counts_K: Tensor, *, slope: Annotated[float, _SLOPE] = 0.3) -> MarginSoftmax:
    """Δ_k = (n_k/n_max)^γ, with γ = `slope`: VS with τ = 0."""
    return _vectors(counts_K, slope_K=(counts_K / counts_K.max()) ** slope)


@losses.register(
    "gcl", help="noise on the logits of rare classes, on a cosine head", source=GCL, head="cosine"
)
def gcl(
    counts_K: Tensor,
    *,
    noise: Annotated[
        float,
        Knob("largest noise on the rarest class's cosine", 0, 2, search=(0.1, 1)),
    ] = 0.5,
    scale: Annotated[float, _SCALE] = 30.0,
) -> MarginSoftmax:
    """Gaussian clouded logits: c_k = `noise`·(log n_max - log n_k)/(log n_max - log n_min).

    The noise is drawn for all logits of a sample, and the default is 0.5, as in the authors' code
    for CIFAR-LT.
    """
    gap_K = counts_K.max().log() - counts_K.log()
    return _vectors(counts_K, scale=scale, cloud_K=noise * gap_K / gap_K.max().clamp(min=1e-12))


def gcl_second_stage(
    counts_K: Tensor, *, noise: float, scale: float, margin: float, gamma: float
) -> MarginSoftmax:
    """The loss of GCL's second stage: GCL with a margin of every class and a focal weight.

    As in the authors' code, the focal factor (1 - p_y)^γ is a constant weight of the sample: no
    gradient passes through it.

    Args:
        counts_K: training images of each class (K,).
        noise: largest noise on the rarest class's cosine.
        scale: s.
        margin: m, of every class.
        gamma: γ of the focal factor.
    """
    return gcl(counts_K, noise=noise, scale=scale)._replace(
        margin_K=torch.full_like(counts_K, margin),
        focus=torch.full_like(counts_K[0], gamma),
        focus_gradient=torch.zeros_like(counts_K[0]),
    )


@losses.register(
    "label_aware_smoothing",
    help="more label smoothing for larger classes",
    source=LABEL_AWARE,
)
def label_aware_smoothing(
    counts_K: Tensor,
    *,
    smooth_head: Annotated[float, Knob("ε of the largest class", 0, 1, search=(0.1, 0.5))] = 0.3,
    smooth_tail: Annotated[float, Knob("ε of the smallest class", 0, 1, search=(0, 0.2))] = 0.0,
    curve: Annotated[
        str, Knob("shape of ε as a function of n_k", choices=("concave", "linear", "convex"))
    ] = "concave",
) -> MarginSoftmax:
    """ε_k = `smooth_tail` + (`smooth_head` - `smooth_tail`)·f(x).

    x is (n_k - n_min)/(n_max - n_min). f(x) is sin(πx/2) for `concave`, x for `linear`, and
    1 - cos(πx/2) for `convex`. As in the authors' code, ε is spread over all K classes, the true
    one included; in the paper over the other K-1.
    """
    span = (counts_K.max() - counts_K.min()).clamp(min=1)
    x_K = (counts_K - counts_K.min()) / span
    rise_K = {
        "concave": torch.sin(torch.pi / 2 * x_K),
        "linear": x_K,
        "convex": 1 - torch.cos(torch.pi / 2 * x_K),
    }[curve]
    return _vectors(counts_K, smooth_K=smooth_tail + (smooth_head - smooth_tail) * rise_K)


def _log_prior(counts_K: Tensor) -> Tensor:
    return (counts_K / counts_K.sum()).log()
