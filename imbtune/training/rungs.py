"""Train a trial segment by segment and score it at each rung.

Shapes: K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbtune.config.train_config import TrainConfig
from imbtune.errors import DivergenceError, diverging_at
from imbtune.metrics.predictions import Predictions
from imbtune.training.apply_posthoc import apply_posthoc
from imbtune.training.device.device_data import DeviceData
from imbtune.training.evaluation.margins import ClassMargins, class_margins
from imbtune.training.evaluation.metrics import Evaluation
from imbtune.training.loop import EpochLog, train_epoch
from imbtune.training.phases import Epoch, Segment, without_variant
from imbtune.training.run_methods import RunMethods
from imbtune.training.state import TrainState


@dataclass(frozen=True, eq=False)
class EpochResult:
    """Loss and confusion matrix after one epoch.

    Asynchronous on a GPU: the first read of `failure`, `loss` or `confusion_KK` synchronises. Until
    then the caller can launch an epoch of another trial.

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
    _evaluation: Evaluation

    @property
    def failure(self) -> str | None:
        """What is wrong if the loss or a logit is not finite, in words; else None.

        Then training ends here: the next result is a :class:`Diverged`.
        """
        return self.log.failure or self._evaluation.failure

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return self.log.lr

    @property
    def loss(self) -> float:
        """The mean training loss of the epoch's steps; the first read synchronises."""
        return self.log.loss

    @property
    def confusion_KK(self) -> NDArray[np.int64]:
        """The confusion matrix of the held-out images; the first read synchronises.

        Raises:
            DivergenceError: a logit is not finite.
        """
        return self._evaluation.confusion_KK


@dataclass(frozen=True)
class RungResult:
    """The score of a finished model of `segment.budget` epochs.

    Attributes:
        segment: the segment that was trained.
        following: the segment that is trained next; None at the end.
        predictions: of the scored model on the held-out images, on the device.
        passes: image passes of the trial so far, forward and backward.
        branch_passes: image passes of the scored copy alone, post-hoc training included.
        state: the trunk, without the branch; training continues from it.
        margins: margins on training and held-out images; None below the full budget.
    """

    segment: Segment
    following: Segment | None
    predictions: Predictions
    passes: int
    branch_passes: int
    state: TrainState
    margins: ClassMargins | None = None

    @property
    def confusion_KK(self) -> NDArray[np.int64]:
        """The confusion matrix of the scored model on the held-out images."""
        return self.predictions.confusion.matrix_KK


@dataclass(frozen=True)
class Diverged:
    """A loss or logits that are not finite: some variants are not trained further.

    Attributes:
        segment: the segment that was trained.
        following: the segment that is trained next; None at the end.
        variants: indices of the variants: all of them on the trunk, one in a cool-down branch.
        reason: when and what, as in "epoch 12: the loss is not finite (nan)".
        branch_passes: image passes of a branch that diverged.
        state: the trunk, without the branch; training continues from it.
    """

    segment: Segment
    following: Segment | None
    variants: Sequence[int]
    reason: str
    branch_passes: int
    state: TrainState


Result = EpochResult | RungResult | Diverged


def train_through_rungs(
    variants: Sequence[TrainConfig],
    data: DeviceData,
    segments: Sequence[Segment],
    state: TrainState | None = None,
) -> Iterator[Result]:
    """Train the segments of a trial; yield a result after every epoch and every segment.

    A trunk that diverges ends the trial. A cool-down branch that diverges ends its own variant; the
    other variants are trained further.

    Args:
        variants: the trial's configuration, or several that differ in cool-down-only settings
            (:func:`imbtune.config.cooldown_only.trunk_settings`). The trunk is trained with the
            first one; each cool-down branch uses the methods of its own variant.
        data: training and held-out images on the device.
        segments: at least one, in training order (:func:`imbtune.training.phases.rung_segments`).
        state: the trunk to continue from; ignored where the first segment is `fresh`.
    """
    methods = [RunMethods.from_config(config, data.train_counts_K) for config in variants]
    full_budget, left = segments[-1].budget, list(segments)
    passes_before = 0  # image passes of the states that `fresh` segments have replaced
    while left:
        segment, *left = left
        if state is None or segment.fresh:
            passes_before += state.passes if state else 0
            state = None  # frees its memory and its graphed model before the new state needs them
            state = TrainState(variants[0], data)
        try:
            yield from _train_epochs(state, data, segment, segment.epochs, passes_before)
        except DivergenceError as error:
            yield Diverged(segment, None, range(len(variants)), str(error), 0, state)
            return
        trunk_passes = state.passes
        try:
            with state.temporarily(methods[segment.variant]):
                yield from _train_epochs(state, data, segment, segment.branch, passes_before)
                with diverging_at(f"epoch {segment.budget}"):
                    margins, predictions = _score(state, data, segment.budget, full_budget)
        except DivergenceError as error:
            left = without_variant(left, segment.variant)
            branch_passes = state.passes - trunk_passes
            yield Diverged(
                segment, _first(left), [segment.variant], str(error), branch_passes, state
            )
        else:
            yield RungResult(
                segment,
                _first(left),
                predictions,
                passes_before + state.passes,
                state.passes - trunk_passes,
                state,
                margins,
            )


def _first(segments: Sequence[Segment]) -> Segment | None:
    return segments[0] if segments else None


def _train_epochs(
    state: TrainState,
    data: DeviceData,
    segment: Segment,
    epochs: Iterable[Epoch],
    passes_before: int,
) -> Iterator[EpochResult]:
    """Train epochs.

    Raises:
        DivergenceError: the last result has a `failure`, or a generator of images diverged.
    """
    for epoch in epochs:
        with diverging_at(_name(epoch)):
            log = train_epoch(state, data, epoch)
            passes = passes_before + state.passes
            result = EpochResult(epoch, segment, log, passes, state.evaluation(data))
            yield result
            if result.failure:
                raise DivergenceError(result.failure)


def _name(epoch: Epoch) -> str:
    """The epoch in words, from 1; for the cool-down of a lower rung also which one."""
    rung = f" (cool-down of {epoch.budget} epochs)" if epoch.budget < epoch.full else ""
    return f"epoch {epoch.index + 1}{rung}"


def _score(
    state: TrainState, data: DeviceData, budget: int, full_budget: int
) -> tuple[ClassMargins | None, Predictions]:
    """Apply the post-hoc method and score the model: its margins, at the full budget, and its
    predictions of the held-out images.

    Raises:
        DivergenceError: a logit, or the loss of the post-hoc method, is not finite.
    """
    apply_posthoc(state, data, budget)
    predictions = state.predictions(data)
    margins = class_margins(state, data) if budget == full_budget else None
    return margins, predictions
