"""Optimisers. The learning rate is set at every step from the schedule.

An optimiser is a function `(parameters) -> torch.optim.Optimizer` whose rate is one tensor. One
with a `sharpness` (:class:`SharpSGD`) gets its gradient at the worst point near the weights, which
the training loop works out.
"""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from imbtune.registry import Knob, Registry

SAM = "Foret et al. 2021, arXiv 2010.01412"
IMBSAM = "Zhou et al. 2023, arXiv 2308.07815"

optimizers = Registry("optimizer", "the optimiser and its peak learning rate")

_RATE = Knob("peak learning rate", 0, 10, search=(0.01, 0.5), scale="log")
_DECAY = Knob("weight decay", 0, 1, search=(1e-4, 1e-2), scale="log", source="arXiv 2203.14197")
_MOMENTUM = Knob("momentum", 0, 0.999, search=(0.8, 0.98))
_NESTEROV = Knob("look ahead along the momentum")
_RHO = Knob("ρ, how far the worst point is looked for", 0, 10, search=(0.02, 1), scale="log")


class Sharpness(NamedTuple):
    """Where the gradient is taken: at w + ρ·g/‖g‖, for the loss of some classes.

    rho: ρ. below: the classes with fewer training images than this; infinity is all of them.
    """

    rho: float
    below: float


class SharpSGD(torch.optim.SGD):
    """SGD that asks the loop for a sharpness-aware gradient."""

    sharpness: Sharpness


@optimizers.register("sgd", help="SGD with momentum")
def sgd(
    parameters: list[Parameter],
    *,
    lr: Annotated[float, _RATE] = 0.1,
    weight_decay: Annotated[float, _DECAY] = 2e-4,
    momentum: Annotated[float, _MOMENTUM] = 0.9,
    nesterov: Annotated[bool, _NESTEROV] = False,
) -> Optimizer:
    """torch's fused SGD; the rate is a tensor, so that a step holds no constant of a trial."""
    return _sgd(torch.optim.SGD, parameters, lr, weight_decay, momentum, nesterov)


@optimizers.register("sam", help="SGD with the gradient of the worst point near by", source=SAM)
def sam(
    parameters: list[Parameter],
    *,
    lr: Annotated[float, _RATE] = 0.1,
    weight_decay: Annotated[float, _DECAY] = 2e-4,
    momentum: Annotated[float, _MOMENTUM] = 0.9,
    nesterov: Annotated[bool, _NESTEROV] = False,
    rho: Annotated[float, _RHO] = 0.1,
) -> Optimizer:
    """Sharpness-aware minimisation on the whole loss; a step costs two."""
    optimizer = _sgd(SharpSGD, parameters, lr, weight_decay, momentum, nesterov)
    optimizer.sharpness = Sharpness(rho, math.inf)
    return optimizer


@optimizers.register("imbsam", help="SAM for the loss of rare classes only", source=IMBSAM)
def imbsam(
    parameters: list[Parameter],
    *,
    lr: Annotated[float, _RATE] = 0.1,
    weight_decay: Annotated[float, _DECAY] = 2e-4,
    momentum: Annotated[float, _MOMENTUM] = 0.9,
    nesterov: Annotated[bool, _NESTEROV] = False,
    rho: Annotated[float, _RHO] = 0.05,
    below: Annotated[
        int,
        Knob("η, rare classes have fewer training images", 1, search=(20, 500), scale="log"),
    ] = 100,
) -> Optimizer:
    """Plain gradient of the frequent classes' loss, sharpness-aware one of the rare classes'.

    The authors' code also doubles the rare classes' loss, which the paper does not; not here.
    """
    optimizer = _sgd(SharpSGD, parameters, lr, weight_decay, momentum, nesterov)
    optimizer.sharpness = Sharpness(rho, below)
    return optimizer


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


_SGD = TypeVar("_SGD", bound=torch.optim.SGD)


def _sgd(
    kind: type[_SGD],
    parameters: list[Parameter],
    lr: float,
    weight_decay: float,
    momentum: float,
    nesterov: bool,
) -> _SGD:
    return kind(
        parameters,
        lr=_rate(parameters, lr),
        momentum=momentum,
        weight_decay=weight_decay,
        nesterov=nesterov and momentum > 0,
        fused=True,
    )


def _rate(parameters: list[Parameter], lr: float) -> Tensor:
    return torch.tensor(lr, device=parameters[0].device)
