"""Optimisers. The learning rate is set at every step from the schedule."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from imbtune.registry import Knob, Registry

optimizers = Registry("optimizer", "the optimiser and its peak learning rate")

_DECAY = Knob("weight decay", 0, 1, search=(1e-4, 1e-2), scale="log", source="arXiv 2203.14197")


@optimizers.register("sgd", help="SGD with momentum")
def sgd(
    parameters: list[Parameter],
    *,
    lr: Annotated[float, Knob("peak learning rate", 0, 10, search=(0.01, 0.5), scale="log")] = 0.1,
    weight_decay: Annotated[float, _DECAY] = 2e-4,
    momentum: Annotated[float, Knob("momentum", 0, 0.999, search=(0.8, 0.98))] = 0.9,
    nesterov: Annotated[bool, Knob("look ahead along the momentum")] = False,
) -> Optimizer:
    """torch's fused SGD; the rate is a tensor, so that a step holds no constant of a trial."""
    return torch.optim.SGD(
        parameters,
        lr=_rate(parameters, lr),
        momentum=momentum,
        weight_decay=weight_decay,
        nesterov=nesterov and momentum > 0,
        fused=True,
    )


@optimizers.register("adamw", help="Adam with decoupled decay", source="arXiv 1711.05101")
def adamw(
    parameters: list[Parameter],
    *,
    lr: Annotated[
        float, Knob("peak learning rate", 0, 10, search=(1e-4, 1e-2), scale="log")
    ] = 1e-3,
    weight_decay: Annotated[
        float, Knob("weight decay", 0, 1, search=(1e-3, 0.5), scale="log")
    ] = 0.05,
) -> Optimizer:
    """torch's fused AdamW."""
    return torch.optim.AdamW(
        parameters, lr=_rate(parameters, lr), weight_decay=weight_decay, fused=True
    )


def _rate(parameters: list[Parameter], lr: float) -> Tensor:
    return torch.tensor(lr, device=parameters[0].device)
