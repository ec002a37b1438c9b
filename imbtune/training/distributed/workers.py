"""The processes that train one run together, and what they exchange.

Each worker holds the whole network and all images, draws the plan of the whole batch, and computes
the loss of its part of it. The divisor of the loss is that of the whole batch, so the gradient of
one process is the sum of the workers' gradients, whatever the sizes of their parts.

This is torch.distributed alone: the process group may come from Ray Train, from `torchrun`, or from
`torch.distributed.init_process_group`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor

from imbtune.errors import ConfigError

DRIFT = 1e-3  # relative; rounding on different hardware stays far below it


@dataclass(frozen=True)
class Workers:
    """How many processes train a run, and which of them this one is.

    With one worker, every method leaves its arguments as they are.

    Attributes:
        rank: of this process, from 0.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def of_process_group(cls) -> Self:
        """Those of torch's default process group, which must be initialised."""
        return cls(dist.get_rank(), dist.get_world_size())

    def part(self, batch: int) -> slice:
        """This worker's samples of a batch. The parts differ by one sample at most.

        Args:
            batch: samples of the whole batch, at least `size`.
        """
        return slice(batch * self.rank // self.size, batch * (self.rank + 1) // self.size)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the workers, in one exchange.

        Not torch's DistributedDataParallel: it takes one backward pass for each forward pass, and
        SAM has two gradients in a step, of which the first is no weight's `.grad`.
        """
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        pieces = flat.split([tensor.numel() for tensor in tensors])
        with torch.no_grad():
            for tensor, piece in zip(tensors, pieces, strict=True):
                tensor.copy_(piece.view_as(tensor))

    def take_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by that of the first worker.

        The workers compute the same values, but not to the last bit where their hardware differs.
        """
        if self.size == 1:
            return
        for tensor in tensors:
            sent = tensor.contiguous()
            dist.broadcast(sent.view(torch.uint8) if sent.dtype == torch.bool else sent, src=0)
            if sent is not tensor:
                tensor.copy_(sent)

    def check_same_weights(self, weights: Sequence[Tensor]) -> None:
        """Check that the workers still have the same weights; synchronises with the device.

        Raises:
            ConfigError: they differ by more than rounding.
        """
        if self.size == 1:
            return
        norms = torch.stack(torch._foreach_norm([weight.detach() for weight in weights])).float()
        extremes = torch.cat([norms, -norms])
        dist.all_reduce(extremes, dist.ReduceOp.MAX)
        highest, lowest = extremes.chunk(2)
        if (highest + lowest > DRIFT * highest).any():  # False for nan, which the loss shows
            raise ConfigError(
                "the weights of the workers differ after an epoch, as they do where an optimizer "
                "draws random numbers: train without --workers"
            )


ALONE = Workers()
