"""Averages a model's weights while it is trained: an exponential moving average (EMA).

After every step, average = DECAY · average + (1 - DECAY) · weights (Polyak & Juditsky 1992). Batch
norm's running means and variances are averaged in the same way, as in torchvision's reference
training, so that they belong to the averaged weights; counts are those of the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from imbtune.errors import ConfigError

FIRST_SHARE = 0.05  # the largest weight that the first step may have in the finished average


class AverageState(TypedDict):
    """What an average goes on from."""

    steps: int
    tensors: list[Tensor]


class WeightAverage:
    """The moving average of a model's weights.

    Args:
        model: in training; it stays as it is.
        decay: in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._names = [n for n, t in model.state_dict().items() if t.is_floating_point()]
        self._model, self._decay, self._steps = model, decay, 0
        self._average = [tensor.clone() for tensor in self._weights()]
        self._update = get_ema_multi_avg_fn(decay)

    def _weights(self) -> list[Tensor]:
        """Those of the model, not copied, and its buffers."""
        found = self._model.state_dict()
        return [found[name] for name in self._names]

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights after a step into the average; the first ones are the average."""
        weights = self._weights()
        if self._steps:
            self._update(self._average, weights, self._steps)
        else:
            for average, weight in zip(self._average, weights, strict=True):
                average.copy_(weight)
        self._steps += 1

    def apply(self) -> None:
        """Give the model the averaged weights."""
        averaged = dict(zip(self._names, self._average, strict=True))
        self._model.load_state_dict({**self._model.state_dict(), **averaged})

    def state(self) -> AverageState:
        """What it goes on from; the tensors are not copied."""
        return {"steps": self._steps, "tensors": self._average}

    def restore(self, state: Mapping[str, object]) -> None:
        """Go on from the state of an average of the same model."""
        steps, tensors = state["steps"], state["tensors"]
        assert isinstance(steps, int) and isinstance(tensors, Sequence)
        self._steps = steps
        for average, saved in zip(self._average, tensors, strict=True):
            average.copy_(saved)


def check_decay(decay: float, steps: int) -> None:
    """ConfigError where the first step would be more than a twentieth of the finished average.

    Args:
        decay: in (0, 1).
        steps: of the whole run.
    """
    share = decay**steps
    if share > FIRST_SHARE:
        most = FIRST_SHARE ** (1 / steps)
        shown = int(most * 10_000) / 10_000
        raise ConfigError(
            f"--ema {decay:g}: after the {steps:,} steps of this run the average would still be "
            f"{100 * share:.0f} % the weights of the first step: give at most {shown:g}"
        )
