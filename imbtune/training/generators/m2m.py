"""M2m, major-to-minor translation (Kim et al. 2020, arXiv 2004.00431).

An image of a frequent class i becomes one of a rare class k: from x plus a little noise,

    x ← clip(x - η·∇/|∇|),   ∇ of   CE(g(x), k) + λ·f(x)_i

with g the seed network and f the network in training. It is kept where g gives k at least γ;
elsewhere the real image of class k stays. The seed network is a network of its own, trained on the
training images alone; the reference package passes f twice and reloads it by its evaluation score.

What depends on the class counts alone is drawn on the host beforehand (`draw_sources`), so that
`translate` has fixed shapes and nothing to wait for. Shapes: S steps, B a batch, N images, C
channels, K classes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from imbtune.methods.image_generation import M2m
from imbtune.training.model import evaluating

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
NOISE = 0.5  # L2 norm of the random start at most, in pixels of [0, 1]; the authors' number


def draw_sources(
    labels_SB: Ints, host_labels_N: Ints, counts_K: Ints, beta: float, rng: np.random.Generator
) -> tuple[Ints, NDArray[np.bool_]]:
    """Which image each sample is translated from, and whether it is translated at all.

    A target of class k is asked for with probability (n_max - n_k)/n_max. Its source class i comes
    with probability ∝ 1 - β^max(n_i - n_k, 0), and is then turned down with probability
    β^(n_i - n_k), the paper's rejection, which looks at no image. So a draw is either certain or
    off before a network runs.

    Args:
        labels_SB: the target labels of class-balanced batches.
        host_labels_N: the label of every training image; counts_K: images of each class.

    Returns:
        The source's row among the images (S, B), 0 where there is none; and where there is one.
    """
    kept_KK = acceptance(counts_K, beta)
    n_SB = counts_K[labels_SB]
    asked_SB = rng.random(labels_SB.shape) * counts_K.max() < counts_K.max() - n_SB
    asked_SB &= (kept_KK.sum(axis=1) > 0)[labels_SB]
    source_SB = np.zeros(labels_SB.shape, dtype=np.int64)
    for target in np.unique(labels_SB[asked_SB]):
        rows = asked_SB & (labels_SB == target)
        odds_K = kept_KK[target] / kept_KK[target].sum()
        source_SB[rows] = rng.choice(len(counts_K), int(rows.sum()), p=odds_K)
    translate_SB = asked_SB & (rng.random(labels_SB.shape) < kept_KK[labels_SB, source_SB])
    order_N = np.argsort(host_labels_N, kind="stable")  # the images, class after class
    within_SB = np.floor(rng.random(labels_SB.shape) * counts_K[source_SB]).astype(np.int64)
    first_K = np.cumsum(counts_K) - counts_K
    return np.where(translate_SB, order_N[first_K[source_SB] + within_SB], 0), translate_SB


def acceptance(counts_K: Ints, beta: float) -> Floats:
    """1 - β^max(n_i - n_k, 0) of source class i (column) for target class k (row), (K, K)."""
    larger_KK = np.maximum(counts_K[None, :] - counts_K[:, None], 0)
    accepted: Floats = 1 - np.float64(beta) ** larger_KK
    return accepted


def translate(
    net: nn.Module,
    seed_net: nn.Module,
    images_BCHW: Tensor,
    source_labels_B: Tensor,
    target_labels_B: Tensor,
    translate_B: Tensor,
    originals_BCHW: Tensor,
    spec: M2m,
    low_C: Tensor,
    high_C: Tensor,
    *,
    net_scale: float | Tensor = 1.0,
    seed_scale: float | Tensor = 1.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """The batch with translated images where they are asked for and good enough, and where (B,).

    Neither network is changed: both are in evaluation mode inside and in their own after it, and no
    gradient reaches a parameter. Step and noise are measured in pixels of [0, 1], whatever the
    normalisation.

    Args:
        net: f, in training; maps normalised images to logits (B, K).
        seed_net: g; maps normalised images to logits (B, K).
        images_BCHW: the source images, normalised.
        originals_BCHW: real images of the target classes, normalised.
        translate_B: where a translation is asked for.
        low_C: the normalised values of pixels that are 0.
        high_C: the normalised values of pixels that are 255.
        net_scale: what turns the logits of `net` into those of a softmax: the loss's s for a cosine
            head, else 1.
        seed_scale: the same for `seed_net`.
        generator: draws the noise, on the images' device; None is torch's own.
    """
    low, span = low_C.view(-1, 1, 1), (high_C - low_C).view(-1, 1, 1)
    pixels_BCHW = ((images_BCHW.detach() - low) / span).clamp(0, 1)
    pixels_BCHW = (pixels_BCHW + _noise(pixels_BCHW, generator)).clamp(0, 1)
    with evaluating(net), evaluating(seed_net), torch.enable_grad():
        for _ in range(spec.steps):
            pixels_BCHW.requires_grad_()
            shown_BCHW = pixels_BCHW * span + low
            seed_BK = seed_scale * seed_net(shown_BCHW).float()
            forget_B = _pick(net_scale * net(shown_BCHW).float(), source_labels_B)
            loss = F.cross_entropy(seed_BK, target_labels_B, reduction="sum")
            (slope_BCHW,) = torch.autograd.grad(loss + spec.lam * forget_B.sum(), pixels_BCHW)
            step_BCHW = spec.step_size * slope_BCHW / (_norm(slope_BCHW) + 1e-10)
            pixels_BCHW = (pixels_BCHW.detach() - step_BCHW).clamp(0, 1)
        made_BCHW = torch.lerp(low, high_C.view(-1, 1, 1), pixels_BCHW)  # its ends are exact
        # with gradients on: autocast would keep weights that it cast without for later forwards
        logits_BK = (seed_scale * seed_net(made_BCHW).float()).detach()
    accepted_B = translate_B & (_pick(logits_BK.softmax(dim=1), target_labels_B) >= spec.gamma)
    chosen_BCHW = torch.where(accepted_B.view(-1, 1, 1, 1), made_BCHW, originals_BCHW)
    return chosen_BCHW, accepted_B


def _noise(pixels_BCHW: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform noise, each image's scaled down to the norm NOISE where it is longer.

    The authors' code takes the norm over a whole batch of each channel, so that its noise shrinks
    as the batch grows; here it is an image's own, as their step is.
    """
    noise_BCHW = torch.rand(
        pixels_BCHW.shape, generator=generator, device=pixels_BCHW.device, dtype=pixels_BCHW.dtype
    )
    noise_BCHW -= 0.5
    return noise_BCHW * (NOISE / _norm(noise_BCHW).clamp(min=NOISE))


def _norm(x_BCHW: Tensor) -> Tensor:
    """The L2 norm of each image, (B, 1, 1, 1)."""
    norm: Tensor = torch.linalg.vector_norm(x_BCHW, dim=(1, 2, 3), keepdim=True)
    return norm


def _pick(values_BK: Tensor, labels_B: Tensor) -> Tensor:
    return values_BK.gather(1, labels_B[:, None]).squeeze(1)
