"""Train a trial segment by segment and score it at each rung.

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
    """Loss and confusion matrix after one epoch.

    Asynchronous on a GPU: the first read of `loss` or `confusion_KK` synchronises. Until then the
    caller can launch an epoch of another trial.

    Attributes:
        epoch: the epoch that was trained.
        segment: the segment that it belongs to.
        log: learning rate and losses of its steps.
        passes: image passes of the trial so far, forward and backward.
    """

    epoch: Epoch
    segment: Segment
    log: EpochLog
    passes: int
    _confusion: Tensor

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return self.log.lr

    @property
    def loss(self) -> float:
        """The mean training loss of the epoch's steps; the first read synchronises."""
        return self.log.loss

    @cached_property
    def confusion_KK(self) -> NDArray[np.int64]:
        """The confusion matrix of the held-out images; the first read synchronises."""
        confusion_KK: NDArray[np.int64] = self._confusion.cpu().numpy()
        return confusion_KK


@dataclass(frozen=True)
class RungResult:
    """The score of a finished model of `segment.budget` epochs.

    Attributes:
        segment: the segment that was trained.
        confusion_KK: confusion matrix of the scored model on the held-out images.
        passes: image passes of the trial so far, forward and backward.
        branch_passes: image passes of the scored copy alone, post-hoc training included.
        state: the trunk, without the branch; training continues from it.
        margins: margins on training and held-out images; None below the full budget.
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
    segments: Sequence[Segment],
    state: TrainState | None = None,
) -> Iterator[EpochResult | RungResult]:
    """Train the segments of a trial; yield a result after every epoch and every segment.

    Args:
        variants: the trial's configuration, or several that differ in cool-down-only settings
            (:func:`imbtune.config.cooldown_only.trunk_settings`). The trunk is trained with the
            first one; each cool-down branch uses the methods of its own variant.
        data: training and held-out images on the device.
        segments: at least one, in training order (:func:`imbtune.training.phases.rung_segments`).
        state: the trunk to continue from; ignored where the first segment is `fresh`.
    """
    methods = [RunMethods.from_config(config, data.train_counts_K) for config in variants]
    full_budget = segments[-1].budget
    passes_before = 0  # image passes of the states that `fresh` segments have replaced
    for segment in segments:
        if state is None or segment.fresh:
            passes_before += state.passes if state else 0
            state = None  # frees its memory and its graphed model before the new state needs them
            state = TrainState(variants[0], data)
        yield from _train_epochs(state, data, segment, segment.epochs, passes_before)
        with state.temporarily(methods[segment.variant]):
            trunk_passes = state.passes
            yield from _train_epochs(state, data, segment, segment.branch, passes_before)
            apply_posthoc(state, data, segment.budget)
            margins = class_margins(state, data) if segment.budget == full_budget else None
            confusion_KK = state.evaluate(data)
        yield RungResult(
            segment,
            confusion_KK,
            passes_before + state.passes,
            state.passes - trunk_passes,
            state,
            margins,
        )


def _train_epochs(
    state: TrainState,
    data: DeviceData,
    segment: Segment,
    epochs: Iterable[Epoch],
    passes_before: int,
) -> Iterator[EpochResult]:
    for epoch in epochs:
        log = train_epoch(state, data, epoch)
        passes = passes_before + state.passes
        yield EpochResult(epoch, segment, log, passes, state.confusion(data))
