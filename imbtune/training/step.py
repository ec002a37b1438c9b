"""One step: its batch, its objective, its gradient. Shapes: B a batch, L its labels: one,
or two where images are mixed, K classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from imbtune.methods.losses import LossFunction, MarginSoftmax, margin_softmax
from imbtune.training.model import statistics_kept


class Batch(NamedTuple):
    """What one step learns from.

    images_BCHW: mixed, as network input. labels_LB: the classes of x_i, and where images are mixed
    those of x_j. shares_LB: g·w[y_i] and (1-g)·w[y_j], with g the label rule's share of y_i and w
    the class weights. norm: what the weighted sum of losses is divided by, (). noise_BK: how far
    each logit is lowered at random, in [0, 1], for a loss that asks for it (GCL).
    """

    images_BCHW: Tensor
    labels_LB: Tensor
    shares_LB: Tensor
    norm: Tensor
    noise_BK: Tensor | None = None

    def of_classes(self, chosen_K: Tensor) -> Batch:
        """The share of the batch's loss that belongs to some classes (1) and not to others (0)."""
        return self._replace(shares_LB=self.shares_LB * chosen_K[self.labels_LB])


class Sharp(NamedTuple):
    """Where the gradient is taken at the worst point near by: for the loss of the classes that are
    1 in `classes_K`; how far, `rho`, (). has_rest: whether there are other classes."""

    classes_K: Tensor
    rho: Tensor
    has_rest: bool


class Learner(NamedTuple):
    """What a step learns with. All that trials of one network differ in are tensors.

    own_loss: of the user's, in the place of the vectors. sharp: for SAM and ImbSAM.
    """

    model: nn.Module
    autocast: torch.autocast
    vectors: MarginSoftmax
    own_loss: LossFunction | None = None
    sharp: Sharp | None = None

    def logits(self, images_BCHW: Tensor) -> Tensor:
        """The model's float32 logits (B, K) of normalised images."""
        with self.autocast:
            logits_BK: Tensor = self.model(channels_last(images_BCHW))
        return logits_BK.float()


def channels_last(images_BCHW: Tensor) -> Tensor:
    """The images, with the channels of a pixel side by side in memory."""
    return images_BCHW.contiguous(memory_format=torch.channels_last)


def objective(logits_BK: Tensor, batch: Batch, learner: Learner) -> Tensor:
    """The mixed label as two hard ones: Σ(a·ℓ(z, y_i) + b·ℓ(z, y_j)) over `batch.norm`."""
    if learner.own_loss:
        hard = [learner.own_loss(logits_BK, labels_B) for labels_B in batch.labels_LB]
        loss_LB = torch.stack(hard)
    else:
        loss_LB = margin_softmax(logits_BK, batch.labels_LB, learner.vectors, batch.noise_BK)
    # an image's labels first: a second one without a share then changes no bit of the sum
    return (batch.shares_LB * loss_LB).sum(0).sum() / batch.norm


def gradient(learner: Learner, batch: Batch) -> Tensor:
    """Leave the step's gradient on the parameters; the loss at the weights, detached."""
    if learner.sharp:
        return _sharp_gradient(learner, batch, learner.sharp)
    loss = objective(learner.logits(batch.images_BCHW), batch, learner)
    loss.backward()
    return loss.detach()


def _sharp_gradient(learner: Learner, batch: Batch, sharp: Sharp) -> Tensor:
    """SAM (arXiv 2010.01412), for some classes ImbSAM (arXiv 2308.07815).

    With L = L_rest + L_sharp, the loss of the other classes and of the sharp ones (all, for SAM):

        e = ρ·∇L_sharp(w)/‖∇L_sharp(w)‖,     gradient = ∇L_rest(w) + ∇L_sharp(w + e)

    The second pass uses the batch's own statistics and leaves batch norm's running ones alone.
    """
    weights: list[Tensor] = list(learner.model.parameters())
    sharp_batch, rest = batch.of_classes(sharp.classes_K), batch.of_classes(1 - sharp.classes_K)
    logits_BK = learner.logits(batch.images_BCHW)
    loss = objective(logits_BK, sharp_batch, learner)
    uphill = torch.autograd.grad(loss, weights, retain_graph=sharp.has_rest)
    if sharp.has_rest:
        loss_rest = objective(logits_BK, rest, learner)
        loss_rest.backward()
        loss = loss + loss_rest
    start = [w.detach().clone() for w in weights]
    length = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(uphill)))
    with torch.no_grad():
        step = sharp.rho / length.clamp(min=1e-12)
        torch._foreach_add_(weights, [g * step for g in uphill])
    with statistics_kept(learner.model):
        objective(learner.logits(batch.images_BCHW), sharp_batch, learner).backward()
    with torch.no_grad():
        torch._foreach_copy_(weights, start)
    return loss.detach()
