"""One step: its batch, its objective, its gradient. Shapes: B a batch, L its labels: one,
or two where images are mixed, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from imbtune.methods.losses import cloud_noise, margin_softmax
from imbtune.training.model import statistics_kept

if TYPE_CHECKING:
    from imbtune.training.loop import TrainState


class Batch(NamedTuple):
    """What one step learns from.

    images_BCHW: mixed, as network input. labels_LB: the classes of x_i, and where images are mixed
    those of x_j. shares_LB: g·w[y_i] and (1-g)·w[y_j], with g the label rule's share of y_i and w
    the class weights. norm: what the weighted sum of losses is divided by, ().
    """

    images_BCHW: Tensor
    labels_LB: Tensor
    shares_LB: Tensor
    norm: Tensor

    def of_classes(self, chosen_K: Tensor) -> Batch:
        """The share of the batch's loss that belongs to some classes (1) and not to others (0)."""
        return self._replace(shares_LB=self.shares_LB * chosen_K[self.labels_LB])


def objective(logits_BK: Tensor, batch: Batch, state: TrainState) -> Tensor:
    """The mixed label as two hard ones: Σ(a·ℓ(z, y_i) + b·ℓ(z, y_j)) over `batch.norm`."""
    if state.own_loss:
        hard = [state.own_loss(logits_BK, labels_B) for labels_B in batch.labels_LB]
        loss_LB = torch.stack(hard)
    else:
        noise_BK = cloud_noise(logits_BK)
        loss_LB = margin_softmax(logits_BK, batch.labels_LB, state.vectors, noise_BK)
    return (batch.shares_LB * loss_LB).sum() / batch.norm


def gradient(state: TrainState, batch: Batch) -> Tensor:
    """Leave the step's gradient on the parameters; the loss at the weights, detached."""
    if state.sharp_K is not None:
        return _sharp_gradient(state, batch, state.sharp_K)
    loss = objective(state.logits(batch.images_BCHW), batch, state)
    loss.backward()
    return loss.detach()


def _sharp_gradient(state: TrainState, batch: Batch, sharp_K: Tensor) -> Tensor:
    """SAM (arXiv 2010.01412), for some classes ImbSAM (arXiv 2308.07815).

    With L = L_rest + L_sharp, the loss of the other classes and of the sharp ones (all, for SAM):

        e = ρ·∇L_sharp(w)/‖∇L_sharp(w)‖,     gradient = ∇L_rest(w) + ∇L_sharp(w + e)

    The second pass uses the batch's own statistics and leaves batch norm's running ones alone.
    """
    weights = [w for group in state.optimizer.param_groups for w in group["params"]]
    sharp, rest = batch.of_classes(sharp_K), batch.of_classes(1 - sharp_K)
    logits_BK = state.logits(batch.images_BCHW)
    loss = objective(logits_BK, sharp, state)
    uphill = torch.autograd.grad(loss, weights, retain_graph=state.has_rest)
    if state.has_rest:
        loss_rest = objective(logits_BK, rest, state)
        loss_rest.backward()
        loss = loss + loss_rest
    start = [w.detach().clone() for w in weights]
    length = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(uphill)))
    with torch.no_grad():
        step = state.rho / length.clamp(min=1e-12)
        torch._foreach_add_(weights, [g * step for g in uphill])
    with statistics_kept(state.model):
        objective(state.logits(batch.images_BCHW), sharp, state).backward()
    with torch.no_grad():
        torch._foreach_copy_(weights, start)
    return loss.detach()
