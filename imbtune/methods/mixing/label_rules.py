"""Label rules: the share of y_i in the label of a mixed image.

A label rule is a function `(lam_B, n_i_B, n_j_B) -> g_B` on float32 tensors (B,), B a batch:

    lam_B:         λ in [0, 1], the share of x_i in the image
    n_i_B, n_j_B:  training images of the classes of x_i and x_j
    g_B:           g in [0, 1], the share of y_i in the label; y_j has 1 - g
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

label_rules = Registry("label", "the share of the first image in the label")


@label_rules.register("linear", help="g = λ", source=MIXUP)
def linear_label(lam_B: Tensor, n_i_B: Tensor, n_j_B: Tensor) -> Tensor:
    """g = λ: the label is mixed in the same proportion as the image. (B,)"""
    return lam_B


@label_rules.register("hard", help="g = 1: the label of x_i", source=SMOTE)
def hard_label(lam_B: Tensor, n_i_B: Tensor, n_j_B: Tensor) -> Tensor:
    """g = 1: the label of x_i. In SMOTE both images of a pair have the same label. (B,)"""
    return torch.ones_like(lam_B)


@label_rules.register(
    "remix", help="the whole label to the rarer class if its image has enough weight", source=REMIX
)
def remix_label(
    lam_B: Tensor,
    n_i_B: Tensor,
    n_j_B: Tensor,
    *,
    kappa: Annotated[
        Scalar,
        Knob(
            "κ, the ratio of class sizes above which one class counts as rare",
            1,
            search=(1.5, 10),
            scale="log",
        ),
    ] = 3.0,
    tau: Annotated[
        Scalar,
        Knob(
            "τ, share of the frequent class's image below which it loses the label",
            0,
            1,
            search=(0, 1),
        ),
    ] = 0.5,
) -> Tensor:
    """g = 0 if n_i/n_j ≥ κ and λ < τ; 1 if n_i/n_j ≤ 1/κ and 1-λ < τ; else λ. (B,)"""
    ratio_B = n_i_B / n_j_B
    g_B = torch.where((ratio_B <= 1 / kappa) & (1 - lam_B < tau), torch.ones_like(lam_B), lam_B)
    return torch.where((ratio_B >= kappa) & (lam_B < tau), torch.zeros_like(lam_B), g_B)


@label_rules.register(
    "margin_aware",
    help="g = ½ where the two classes' margins meet, linear on both sides",
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
    """Margin-aware Mixup: g = 1 - x/(2m) for x ≤ m, and (1-x)/(2(1-m)) for x > m. (B,)

    x = 1-λ is the share of x_j, γ_k = n_k^(-ω) the margin of class k, and m = γ_i/(γ_i+γ_j). At
    x = m both formulas give ½: the two labels weigh the same where the distances to x_i and x_j
    are as γ_i to γ_j, which is closer to the image of the more frequent class.
    """
    # m = 1/(1 + (n_i/n_j)^ω) needs one power only; clamped, since x = m = 0 would be 0/0
    m_B = (1 / (1 + (n_i_B / n_j_B) ** omega)).clamp(min=1e-30)
    x_B = 1 - lam_B
    return torch.where(x_B <= m_B, 1 - x_B / (2 * m_B), (1 - x_B) / (2 * (1 - m_B)))
