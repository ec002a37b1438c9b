"""One training step: its batch, its loss, its gradient.

Shapes: B samples of a batch, L labels per sample (1, or 2 where images are mixed), K classes,
C channels, H and W pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from imbtune.methods.losses import LossFunction, MarginSoftmax, margin_softmax
from imbtune.training.distributed.workers import ALONE, Workers
from imbtune.training.model import freeze_running_statistics


class Batch(NamedTuple):
    """The input of one step.

    Attributes:
        images_BCHW: normalised float images, mixed where the run mixes.
        labels_LB: classes of x_i; where images are mixed, a second row with the classes of x_j.
        shares_LB: weight of each label's loss: g·w[y_i], and (1-g)·w[y_j] where images are mixed.
            g is the label rule's share of y_i in [0, 1], w the class weights.
        norm: divisor of the weighted sum of losses, ().
        noise_BK: for GCL, how far each logit is lowered at random, in [0, 1]; else None.
    """

    images_BCHW: Tensor
    labels_LB: Tensor
    shares_LB: Tensor
    norm: Tensor
    noise_BK: Tensor | None = None

    def of_classes(self, chosen_K: Tensor) -> Batch:
        """The batch with the loss of each label multiplied by its class's entry (0 or 1)."""
        return self._replace(shares_LB=self.shares_LB * chosen_K[self.labels_LB])


class SharpnessAware(NamedTuple):
    """Which part of the loss SAM or ImbSAM differentiates at the perturbed weights.

    Attributes:
        classes_K: 1 for the classes whose loss is sharpness-aware (all, for SAM), else 0.
        rho: length ρ of the perturbation, ().
        has_other_classes: whether some class is 0 in `classes_K`.
    """

    classes_K: Tensor
    rho: Tensor
    has_other_classes: bool


class StepModel(NamedTuple):
    """A network with its loss. Whatever differs between trials of one network is a tensor.

    Attributes:
        network: the model that is trained.
        autocast: precision of the forward pass.
        vectors: per-class vectors of the margin-softmax loss.
        own_loss: a user-defined loss, used instead of `vectors`; else None.
        sharpness_aware: for SAM and ImbSAM; else None.
        workers: the processes that train the run; SAM's perturbation follows their common gradient.
    """

    network: nn.Module
    autocast: torch.autocast
    vectors: MarginSoftmax
    own_loss: LossFunction | None = None
    sharpness_aware: SharpnessAware | None = None
    workers: Workers = ALONE

    def logits(self, images_BCHW: Tensor) -> Tensor:
        """Float32 logits (B, K) of normalised images."""
        with self.autocast:
            logits_BK: Tensor = self.network(channels_last(images_BCHW))
        return logits_BK.float()


def channels_last(images_BCHW: Tensor) -> Tensor:
    """The images in torch's channels_last memory format."""
    return images_BCHW.contiguous(memory_format=torch.channels_last)


def objective(logits_BK: Tensor, batch: Batch, model: StepModel) -> Tensor:
    """The batch's loss, (): Σ(a·ℓ(z, y_i) + b·ℓ(z, y_j)) / `batch.norm`.

    A mixed label is two hard labels, weighted by a and b, the rows of `batch.shares_LB`.
    """
    if model.own_loss:
        hard = [model.own_loss(logits_BK, labels_B) for labels_B in batch.labels_LB]
        loss_LB = torch.stack(hard)
    else:
        loss_LB = margin_softmax(logits_BK, batch.labels_LB, model.vectors, batch.noise_BK)
    # Sum over a sample's labels first: a second label of share 0 then changes no bit of the sum.
    return (batch.shares_LB * loss_LB).sum(0).sum() / batch.norm


def gradient(model: StepModel, batch: Batch) -> Tensor:
    """Store the gradient of the batch's loss in the parameters' `.grad`.

    Of several workers, each has that of its part of the batch.

    Returns:
        The loss at the current weights, (), detached.
    """
    if model.sharpness_aware:
        return _sharpness_aware_gradient(model, batch, model.sharpness_aware)
    loss = objective(model.logits(batch.images_BCHW), batch, model)
    loss.backward()
    return loss.detach()


def _sharpness_aware_gradient(model: StepModel, batch: Batch, sharp: SharpnessAware) -> Tensor:
    """SAM (arXiv 2010.01412) for all classes, or ImbSAM (arXiv 2308.07815) for some.

    The loss is L = L_rest + L_sharp; for SAM L_rest is empty:

        e = ρ·∇L_sharp(w)/‖∇L_sharp(w)‖,     gradient = ∇L_rest(w) + ∇L_sharp(w + e)

    The second forward pass normalises with the batch's statistics and leaves batch norm's running
    statistics unchanged.
    """
    weights: list[Tensor] = list(model.network.parameters())
    sharp_batch, rest = batch.of_classes(sharp.classes_K), batch.of_classes(1 - sharp.classes_K)
    logits_BK = model.logits(batch.images_BCHW)
    loss = objective(logits_BK, sharp_batch, model)
    uphill = torch.autograd.grad(loss, weights, retain_graph=sharp.has_other_classes)
    model.workers.sum(uphill)
    if sharp.has_other_classes:
        loss_rest = objective(logits_BK, rest, model)
        loss_rest.backward()
        loss = loss + loss_rest
    start = [w.detach().clone() for w in weights]
    length = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(uphill)))
    with torch.no_grad():
        step = sharp.rho / length.clamp(min=1e-12)
        torch._foreach_add_(weights, [g * step for g in uphill])
    with freeze_running_statistics(model.network):
        objective(model.logits(batch.images_BCHW), sharp_batch, model).backward()
    with torch.no_grad():
        torch._foreach_copy_(weights, start)
    return loss.detach()
