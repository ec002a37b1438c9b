"""Parts that make a training diverge where a test wants it, and configurations that use them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import torch
from torch import Tensor

from imbtune.methods.class_weights import weights
from imbtune.methods.losses import LossFunction, losses
from imbtune.methods.posthoc import Adjustment, posthoc_methods
from imbtune.registry import Knob

# With a shrinkage of lr·decay = 10 a step, the weights grow until they overflow (SGD, no plugin)
GROWING: dict[str, Any] = {
    "optimizer.lr": 10.0,
    "optimizer.weight_decay": 1.0,
    "optimizer.momentum": 0.999,
    "batch_size": 10,
}
FROM_THE_FIRST: dict[str, Any] = {"loss": "bad_loss"}
ONLY_SCORED: dict[str, Any] = {"after": "bad_after"}  # trunk and cool-down are healthy
IN_THE_COOLDOWN: dict[str, Any] = {"weights": "bad_weights", "weights.schedule": "deferred"}


@contextmanager
def bad_parts() -> Iterator[None]:
    """A loss that is inf, one that raises, class weights of 0, and a bias that is not finite."""

    @losses.register("bad_loss", help="for this test")
    def bad_loss(
        counts_K: Tensor, *, value: Annotated[float, Knob("value", -1e38, 1e38)] = 1e38
    ) -> LossFunction:
        def loss(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
            return logits_BK.logsumexp(1) * value * 1e38  # overflows

        return loss

    @losses.register("raising_loss", help="for this test")
    def raising_loss(counts_K: Tensor) -> LossFunction:
        raise RuntimeError("no loss")

    @weights.register("bad_weights", help="for this test")
    def bad_weights(counts_K: Tensor) -> Tensor:
        return torch.zeros_like(counts_K)  # Σ w·ℓ / Σ w is 0/0

    @posthoc_methods.register("bad_after", help="for this test")
    def bad_after(counts_K: Tensor, norms_K: Tensor, scale: Tensor) -> Adjustment:
        return Adjustment(torch.ones_like(counts_K), counts_K * torch.inf)

    try:
        yield
    finally:
        losses.remove("bad_loss")
        losses.remove("raising_loss")
        weights.remove("bad_weights")
        posthoc_methods.remove("bad_after")
