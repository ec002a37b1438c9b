"""M2m, major-to-minor translation (Kim et al. 2020, arXiv 2004.00431).

Gradient steps translate an image of a frequent class i into one of a rare class k. They start from
the image x plus a little noise:

    x ← clip(x - η·∇/‖∇‖),   ∇ the gradient of   CE(g(x), k) + λ·f(x)_i

with g the seed network and f the network in training. The result is accepted if g gives class k at
least the probability γ; otherwise the real image of class k is used. The seed network is trained
separately, on the training images only. The reference package uses f as the seed network, too, and
reloads it by its evaluation score.

The draws that depend only on the class counts are made on the host beforehand (`draw_sources`), so
that `translate` has fixed shapes and needs no synchronisation with the device. Shapes: S steps, B a
batch, N images, C channels, H and W pixels, K classes.
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
NOISE = 0.5  # largest L2 norm of an image's noise, for pixels in [0, 1]; the authors' value


def draw_sources(
    labels_SB: Ints, host_labels_N: Ints, counts_K: Ints, beta: float, rng: np.random.Generator
) -> tuple[Ints, NDArray[np.bool_]]:
    """Draw the samples that are translated, and the images that they are translated from.

    A sample of class k is selected with probability (n_max - n_k)/n_max. Its source class i is
    drawn with probability ∝ 1 - β^max(n_i - n_k, 0), and then rejected with probability
    β^(n_i - n_k). This rejection, the paper's, depends only on the class counts, so all samples
    are known before a network runs.

    Args:
        labels_SB: the target labels of class-balanced batches.
        host_labels_N: the label of each training image.
        counts_K: training images of each class.
        beta: β.
        rng: makes the draws.

    Returns:
        The index of each sample's source image, int64 (S, B), 0 where there is none; and whether
        the sample is translated, bool (S, B).
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
    order_N = np.argsort(host_labels_N, kind="stable")  # the images, ordered by class
    within_SB = np.floor(rng.random(labels_SB.shape) * counts_K[source_SB]).astype(np.int64)
    first_K = np.cumsum(counts_K) - counts_K
    return np.where(translate_SB, order_N[first_K[source_SB] + within_SB], 0), translate_SB


def acceptance(counts_K: Ints, beta: float) -> Floats:
    """1 - β^max(n_i - n_k, 0) for target class k (row) and source class i (column), (K, K)."""
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
    noise_BCHW: Tensor,
    *,
    net_scale: float | Tensor = 1.0,
    seed_scale: float | Tensor = 1.0,
) -> tuple[Tensor, Tensor]:
    """Translate the selected images of a batch.

    The networks run in evaluation mode, get their modes back, and their parameters get no
    gradients. The lengths of step and noise are for pixels in [0, 1], before normalisation.

    Args:
        net: f, the network in training. It maps normalised images to logits (B, K).
        seed_net: g, likewise.
        images_BCHW: the source images, normalised.
        source_labels_B: their classes.
        target_labels_B: the classes to translate to.
        translate_B: bool, which images to translate.
        originals_BCHW: real images of the target classes, normalised.
        spec: the knobs.
        low_C: the normalised value of a pixel of 0, per channel.
        high_C: the normalised value of a pixel of 255, per channel.
        noise_BCHW: is added to the source images, for pixels in [0, 1]; from :func:`image_noise`.
        net_scale: factor of the logits of `net` for the softmax: the loss's s for a cosine head,
            else 1.
        seed_scale: the same for `seed_net`.

    Returns:
        The batch (B, C, H, W): translated images where they are accepted, else the originals; and
        where they are accepted, bool (B,).
    """
    low, span = low_C.view(-1, 1, 1), (high_C - low_C).view(-1, 1, 1)
    pixels_BCHW = ((images_BCHW.detach() - low) / span).clamp(0, 1)
    pixels_BCHW = (pixels_BCHW + noise_BCHW).clamp(0, 1)
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
        made_BCHW = torch.lerp(low, high_C.view(-1, 1, 1), pixels_BCHW)  # exact at 0 and 1
        # gradients stay enabled: autocast caches the weights that it casts, and the next forward
        # pass would use weights that were cast without gradients
        logits_BK = (seed_scale * seed_net(made_BCHW).float()).detach()
    accepted_B = translate_B & (_pick(logits_BK.softmax(dim=1), target_labels_B) >= spec.gamma)
    chosen_BCHW = torch.where(accepted_B.view(-1, 1, 1, 1), made_BCHW, originals_BCHW)
    return chosen_BCHW, accepted_B


def image_noise(
    shape_BCHW: tuple[int, ...], device: torch.device, generator: torch.Generator | None = None
) -> Tensor:
    """Uniform noise in [-0.5, 0.5), where each image's norm is scaled down to at most `NOISE`.

    The authors' code takes the norm over the whole batch, per channel, so that larger batches have
    less noise. Here, as in their gradient step, the norm is that of each image.

    Args:
        shape_BCHW: of the batch.
        device: of the result.
        generator: on that device; None for torch's global generator.
    """
    noise_BCHW = torch.rand(shape_BCHW, generator=generator, device=device)
    noise_BCHW -= 0.5
    return noise_BCHW * (NOISE / _norm(noise_BCHW).clamp(min=NOISE))


def _norm(x_BCHW: Tensor) -> Tensor:
    """The L2 norm of each image, (B, 1, 1, 1)."""
    norm: Tensor = torch.linalg.vector_norm(x_BCHW, dim=(1, 2, 3), keepdim=True)
    return norm


def _pick(values_BK: Tensor, labels_B: Tensor) -> Tensor:
    """The value of each sample's label, (B,)."""
    return values_BK.gather(1, labels_B[:, None]).squeeze(1)
