"""Batch norm whose mean and variance are those of the whole batch, over all workers.

torch's SyncBatchNorm does it on GPUs, and refuses tensors on the CPU. :class:`GlobalBatchNorm` is
the same arithmetic for CPUs.

Shapes: B this worker's samples, C channels, the dots any number of pixel dimensions.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from imbtune.training.distributed.workers import Workers


class _Total(torch.autograd.Function):
    """The sum of a tensor over the workers, differentiable. Each worker uses the sum, so the
    gradient of its term is the sum of their gradients."""

    @staticmethod
    def forward(_ctx: Any, term: Tensor) -> Tensor:
        total = term.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, slope: Tensor) -> Tensor:
        slope = slope.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(slope)
        return slope


def _total(term: Tensor) -> Tensor:
    total: Tensor = _Total.apply(term)
    return total


class GlobalBatchNorm(_BatchNorm):
    """Batch norm over the samples of all workers. Evaluation mode is that of torch's layers.

    Every worker must run the layer, and its backward pass, equally often.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, …)."""
        if not self.training:
            return super().forward(x)
        # in float32 at least: a sum over a batch in bfloat16 has three digits
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        dims = [0, *range(2, x.ndim)]
        count = wide.new_tensor([wide.numel() / wide.shape[1]])
        total_C1 = _total(torch.cat([wide.sum(dims), count]))
        count = total_C1[-1].detach()
        mean_C = total_C1[:-1] / count
        centred = wide - self._spread(mean_C, x)
        variance_C = _total(centred.square().sum(dims)) / count
        self._track(mean_C.detach(), variance_C.detach() * count / (count - 1).clamp(min=1))
        factor_C = torch.rsqrt(variance_C + self.eps)
        if self.affine:
            factor_C = factor_C * self.weight
        normalised = centred * self._spread(factor_C, x)
        if self.affine:
            normalised = normalised + self._spread(self.bias, x)
        return normalised.to(x.dtype)

    def _track(self, mean_C: Tensor, variance_C: Tensor) -> None:
        """Update the running statistics; the variance is the unbiased one, as in torch."""
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = self.momentum
        if momentum is None:  # the mean of all batches
            momentum = 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean_C.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance_C.to(self.running_var.dtype), momentum)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions."""

    @staticmethod
    def _spread(values_C: Tensor, x: Tensor) -> Tensor:
        return values_C.view(1, -1, *[1] * (x.ndim - 2))


def use_global_batch_norm(model: nn.Module, workers: Workers, device: torch.device) -> None:
    """Replace the batch-norm layers inside a model by ones over all workers.

    Weights, statistics and their names stay. With one worker, nothing changes.
    """
    if workers.size == 1:
        return
    on_cpu = device.type == "cpu"
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, _BatchNorm):
                convert = _converted if on_cpu else nn.SyncBatchNorm.convert_sync_batchnorm
                setattr(parent, name, convert(layer))


def _converted(layer: _BatchNorm) -> GlobalBatchNorm:
    """A layer with the same tensors as the given one."""
    new = GlobalBatchNorm(
        layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
    )
    new.training = layer.training
    new._parameters, new._buffers = layer._parameters, layer._buffers
    return new
