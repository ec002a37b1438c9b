"""The path of a trial through its rungs.

Shapes: K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbtune.config import TrainConfig
from imbtune.training.device_data import DeviceData
from imbtune.training.finish import finish
from imbtune.training.loop import TrainState, train_epoch
from imbtune.training.margins import ClassMargins, class_margins
from imbtune.training.progress import Epoch, Stretch


@dataclass(frozen=True)
class EpochResult:
    """What an epoch left: the learning rate of its last step, its mean training loss, and the
    confusion matrix after it."""

    epoch: Epoch
    lr: float
    loss: float
    confusion_KK: NDArray[np.int64]
    passes: int  # image passes so far in the trial


@dataclass(frozen=True)
class RungResult:
    """A rung reached: the model scored there is a finished one of `stretch.budget` epochs.

    margins: of training and held-out examples, at the last rung; None below it.
    """

    stretch: Stretch
    confusion_KK: NDArray[np.int64]
    passes: int
    margins: ClassMargins | None = None


def climb(
    config: TrainConfig, data: DeviceData, path: list[Stretch]
) -> Iterator[EpochResult | RungResult]:
    """Train a trial along its path: a result for every epoch, and one for every rung."""
    earlier = 0  # passes of states that a fresh one has replaced
    state: TrainState | None = None
    for stretch in path:
        if state is None or stretch.fresh:
            earlier += state.passes if state else 0
            state = TrainState(config, data)
        yield from _train(state, data, stretch.epochs, earlier)
        with state.kept():
            yield from _train(state, data, stretch.branch, earlier)
            finish(state, data, stretch.budget)
            margins = class_margins(state, data) if stretch is path[-1] else None
            confusion_KK = state.evaluate(data)
        yield RungResult(stretch, confusion_KK, earlier + state.passes, margins)


def _train(
    state: TrainState, data: DeviceData, epochs: Iterable[Epoch], earlier: int
) -> Iterator[EpochResult]:
    for epoch in epochs:
        lr, loss = train_epoch(state, data, epoch)
        confusion_KK = state.evaluate(data)
        yield EpochResult(epoch, lr, loss, confusion_KK, earlier + state.passes)
