"""Optimizers. The training loop sets the learning rate before each step, from the schedule.

An optimizer is a function `(parameters) -> torch.optim.Optimizer` whose `lr` is a tensor. For one
with a `sharpness` (:class:`SharpSGD`), the training loop computes the gradient at the point of
largest loss near the weights.
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

optimizers = Registry("optimizer", "the optimizer and its peak learning rate")

_RATE = Knob("peak learning rate", 0, 10, search=(0.01, 0.5), scale="log")
_DECAY = Knob("weight decay", 0, 1, search=(1e-4, 1e-2), scale="log", source="arXiv 2203.14197")
_MOMENTUM = Knob("momentum", 0, 0.999, search=(0.8, 0.98))
_NESTEROV = Knob("Nesterov momentum")
_RHO = Knob(
    "ρ, distance from the weights to the point of the gradient",
    0,
    10,
    search=(0.02, 1),
    scale="log",
)


class Sharpness(NamedTuple):
    """Where the gradient is computed: at w + ρ·g/‖g‖, for the loss of some classes.

    Attributes:
        rho: ρ, at least 0.
        below: the classes with fewer training images than this; infinity for all classes.
    """

    rho: float
    below: float


class SharpSGD(torch.optim.SGD):
    """SGD with a sharpness-aware gradient, which the training loop computes."""

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
    """torch's fused SGD.

    The learning rate is a tensor, so that one CUDA graph serves all learning rates.
    """
    return _sgd(torch.optim.SGD, parameters, lr, weight_decay, momentum, nesterov)


@optimizers.register("sam", help="SGD, gradient at the worst point nearby", source=SAM)
def sam(
    parameters: list[Parameter],
    *,
    lr: Annotated[float, _RATE] = 0.1,
    weight_decay: Annotated[float, _DECAY] = 2e-4,
    momentum: Annotated[float, _MOMENTUM] = 0.9,
    nesterov: Annotated[bool, _NESTEROV] = False,
    rho: Annotated[float, _RHO] = 0.1,
) -> Optimizer:
    """Sharpness-aware minimisation: the gradient at w + ρ·g/‖g‖. A step costs two passes."""
    optimizer = _sgd(SharpSGD, parameters, lr, weight_decay, momentum, nesterov)
    optimizer.sharpness = Sharpness(rho, math.inf)
    return optimizer


@optimizers.register("imbsam", help="SAM for the loss of the rare classes only", source=IMBSAM)
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
        Knob("η, a class with fewer images is rare", 1, search=(20, 500), scale="log"),
    ] = 100,
) -> Optimizer:
    """The gradient of the frequent classes' loss at w, plus that of the rare classes' loss at
    w + ρ·g/‖g‖, with g the gradient of the rare classes' loss.

    The authors' code also doubles the rare classes' loss. The paper does not, nor does imbtune.
    """
    optimizer = _sgd(SharpSGD, parameters, lr, weight_decay, momentum, nesterov)
    optimizer.sharpness = Sharpness(rho, below)
    return optimizer


@optimizers.register("adamw", help="Adam with decoupled weight decay", source="arXiv 1711.05101")
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
    """torch's fused AdamW, with the learning rate as a tensor."""
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
    """The learning rate as a scalar tensor on the device of the parameters."""
    return torch.tensor(lr, device=parameters[0].device)
