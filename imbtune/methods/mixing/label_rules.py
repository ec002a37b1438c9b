"""Label rule: how much of the label stays with x_i.

A label rule is a function `(lam_B, n_i_B, n_j_B) -> g_B` of λ, the share of x_i in the image, and
the training images of both classes; g in [0, 1] is the share of y_i in the label. Shape: B a batch.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from imbtune.registry import Knob, Registry

MAMIX = "Cheng & Lin 2023, arXiv 2308.15457"
MIXUP = "Zhang et al. 2018, arXiv 1710.09412"
REMIX = "Chou et al. 2020, arXiv 2007.03943"
SMOTE = "Chawla et al. 2002, doi 10.1613/jair.953"

Scalar = float | Tensor

label_rules = Registry("label", "how much of the label stays with the first image")


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
