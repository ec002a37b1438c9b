"""The path of a trial through its rungs.

Shapes: K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from imbtune.config.train_config import TrainConfig
from imbtune.training.apply_posthoc import apply_posthoc
from imbtune.training.device.device_data import DeviceData
from imbtune.training.evaluation.margins import ClassMargins, class_margins
from imbtune.training.loop import EpochLog, train_epoch
from imbtune.training.phases import Epoch, Segment
from imbtune.training.run_methods import RunMethods
from imbtune.training.state import TrainState


@dataclass(frozen=True, eq=False)
class EpochResult:
    """What an epoch left. segment: what it is trained for. passes: image passes so far in the
    trial. On a GPU the epoch is only launched: to read its loss or confusion the first time waits,
    so another trial's can be launched before."""

    epoch: Epoch
    segment: Segment
    log: EpochLog
    passes: int
    _confusion: Tensor

    @property
    def lr(self) -> float:
        """The learning rate of its last step."""
        return self.log.lr

    @property
    def loss(self) -> float:
        """Its mean training loss."""
        return self.log.loss

    @cached_property
    def confusion_KK(self) -> NDArray[np.int64]:
        """The confusion matrix after it."""
        confusion_KK: NDArray[np.int64] = self._confusion.cpu().numpy()
        return confusion_KK


@dataclass(frozen=True)
class RungResult:
    """A rung reached: the model scored there is a finished one of `segment.budget` epochs.

    passes: image passes so far in the trial. branch_passes: those of the copy that was scored.
    state: the trunk, as it goes on from here. margins: of training and held-out examples, at the
    last rung; None below it.
    """

    segment: Segment
    confusion_KK: NDArray[np.int64]
    passes: int
    branch_passes: int
    state: TrainState
    margins: ClassMargins | None = None


def train_through_rungs(
    variants: Sequence[TrainConfig],
    data: DeviceData,
    path: list[Segment],
    state: TrainState | None = None,
) -> Iterator[EpochResult | RungResult]:
    """Train a trial along its path: a result for every epoch, and one for every segment.

    Args:
        variants: the trial's configuration, or several that differ in cool-down-only settings
            (:func:`imbtune.config.cooldown_only.trunk_settings`). The trunk is trained with the
            first one; each cool-down branch uses the methods of its own variant.
        state: what to go on from, where the path does not begin afresh.
    """
    methods = [RunMethods.from_config(config, data.train_counts_K) for config in variants]
    earlier, top = 0, path[-1].budget  # earlier: passes of states that a fresh one has replaced
    for segment in path:
        if state is None or segment.fresh:
            earlier += state.passes if state else 0
            state = None  # first, so that the new one gets its memory and its graphed model
            state = TrainState(variants[0], data)
        yield from _train(state, data, segment, segment.epochs, earlier)
        with state.temporarily(methods[segment.variant]):
            before = state.passes
            yield from _train(state, data, segment, segment.branch, earlier)
            apply_posthoc(state, data, segment.budget)
            margins = class_margins(state, data) if segment.budget == top else None
            confusion_KK = state.evaluate(data)
        branch = state.passes - before
        yield RungResult(segment, confusion_KK, earlier + state.passes, branch, state, margins)


def _train(
    state: TrainState, data: DeviceData, segment: Segment, epochs: Iterable[Epoch], earlier: int
) -> Iterator[EpochResult]:
    for epoch in epochs:
        log = train_epoch(state, data, epoch)
        yield EpochResult(epoch, segment, log, earlier + state.passes, state.confusion(data))
