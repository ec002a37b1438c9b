"""One final run: a configuration is trained with one seed on all training data, and tested once.

`imbtune train` (:mod:`.retrain`) and `imbtune compare` (:mod:`imbtune.comparison`) train their runs
here.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from imbtune.config.train_config import TrainConfig
from imbtune.data.load import DataSource, load
from imbtune.data.splits import Splits, final_splits
from imbtune.errors import diverging_at
from imbtune.inference.calibration import Calibration
from imbtune.metrics.from_confusion import recalls
from imbtune.metrics.metric import Metric, compute
from imbtune.registry import Part
from imbtune.strict_json import nan_for_null
from imbtune.training.apply_posthoc import apply_posthoc
from imbtune.training.device.device_data import DeviceData
from imbtune.training.evaluation.margins import Margins, example_margins
from imbtune.training.loop import EpochLog, train_epoch
from imbtune.training.model import check_model_fits
from imbtune.training.phases import whole_run
from imbtune.training.plugin_checks import check_plugins
from imbtune.training.state import TrainState

REPORTED_LOSSES = 10  # of one run


@dataclass(frozen=True)
class FinalRun:
    """A final training with one seed.

    Attributes:
        seed: of the run.
        metrics: on the test images, each in its own range; None where undefined.
        recall_K: recall of each class (K,); NaN for a class without test images.
        confusion_KK: number of test images by their class (row) and the predicted class (column).
        margins: mean margin of each class (K,) on training and test images, by name.
        seconds: duration of the run.
    """

    seed: int
    metrics: dict[str, float | None]
    recall_K: list[float]
    confusion_KK: list[list[int]]
    margins: dict[str, list[float]]
    seconds: float

    def to_dict(self) -> dict[str, object]:
        """The run's entry in `metrics.json`."""
        return {
            "seed": self.seed,
            "metrics": self.metrics,
            "recall_K": self.recall_K,
            "confusion_KK": self.confusion_KK,
            "margins": self.margins,
            "seconds": self.seconds,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> FinalRun:
        """The inverse of :meth:`to_dict`, as read from JSON."""
        return cls(
            content["seed"],
            content["metrics"],
            nan_for_null(content["recall_K"]),
            content["confusion_KK"],
            {name: nan_for_null(mean_K) for name, mean_K in content["margins"].items()},
            content["seconds"],
        )


@dataclass(frozen=True, eq=False)
class Progress:
    """A run after one of its epochs.

    Attributes:
        trained: epochs trained so far.
        epochs: of the whole run.
        epoch_log: of the last epoch; reading its loss waits for the device.
        state: the model in training.
        seconds: of training so far, those before an interruption included.
    """

    trained: int
    epochs: int
    epoch_log: EpochLog
    state: TrainState
    seconds: float

    def checkpoint(self) -> bytes:
        """The content of a checkpoint, from which :func:`train_seed` can continue the run."""
        content = io.BytesIO()
        state = self.state.snapshot()
        torch.save({"trained": self.trained, "seconds": self.seconds, "state": state}, content)
        return content.getvalue()


@dataclass(frozen=True, eq=False)
class TrainedSeed:
    """A finished run.

    Attributes:
        run: its result on the test images.
        state: the finished model.
        margins: of every example, by split: `train` and `test`.
        logits_MK: of the test images, times the loss's scale, on the device.
    """

    run: FinalRun
    state: TrainState
    margins: dict[str, Margins]
    logits_MK: Tensor

    def finished(self) -> FinishedSeed:
        """What is kept of it."""
        weights = {name: tensor.cpu() for name, tensor in self.state.model.state_dict().items()}
        return FinishedSeed(self.run, self.margins, weights, self.logits_MK.cpu())


@dataclass(frozen=True, eq=False)
class FinishedSeed:
    """What is kept of a finished run, on the host.

    Attributes:
        run: its result on the test images.
        margins: of every example, by split: `train` and `test`.
        weights: the model's `state_dict`.
        logits_MK: of the test images, times the loss's scale.
        calibration: the temperature; None without one.
    """

    run: FinalRun
    margins: dict[str, Margins]
    weights: dict[str, Tensor]
    logits_MK: Tensor
    calibration: Calibration | None = None


def reported_loss(progress: Progress) -> float | None:
    """The loss after about every tenth of the run; else None, since reading it takes time."""
    trained, epochs = progress.trained, progress.epochs
    if trained % max(1, epochs // REPORTED_LOSSES) or trained == epochs:
        return None
    return progress.epoch_log.loss


def load_final_splits(
    config: TrainConfig, data_source: DataSource, plugins: Iterable[Part] = ()
) -> Splits:
    """Load all training images and the test images, and check that the network accepts them.

    Args:
        plugins: the user's parts, which are tried on the data.

    Raises:
        ImbtuneError: the data, the network or a plugin cannot be used.
    """
    dataset = load(config.data.name, config.data.knobs, data_source)
    splits = final_splits(dataset, config.data.shared)
    check_plugins(plugins, splits)
    check_model_fits(config, splits)
    return splits


def train_seed(
    config: TrainConfig,
    data: DeviceData,
    after_epoch: Callable[[Progress], None],
    checkpoint: bytes | None = None,
) -> TrainedSeed:
    """Train a configuration with its seed, and test the finished model, once.

    All random draws follow from the seed and the epoch, so a run that continues from a checkpoint
    has the result of an uninterrupted one, to the last bit.

    Args:
        data: the training images and, held out, the test images.
        after_epoch: is called after every epoch.
        checkpoint: of the same run (:meth:`Progress.checkpoint`); None to begin it.

    Raises:
        DivergenceError: a loss or a logit is not finite; the message has the epoch.
    """
    run = SeedRun(config, data, checkpoint)
    for progress in run.epochs():
        after_epoch(progress)
    return run.finish()


class SeedRun:
    """A run that is trained an epoch at a time: first all of `epochs()`, then `finish()`.

    The arguments are those of :func:`train_seed`, and the `objective` of a comparison, whose knobs
    count for the metric of its name.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: DeviceData,
        checkpoint: bytes | None = None,
        objective: Metric | None = None,
    ) -> None:
        self._config, self._data, self._started = config, data, time.monotonic()
        self._objective = objective
        self._state, self._trained, self._seconds_before = TrainState(config, data), 0, 0.0
        if checkpoint is not None:
            saved = torch.load(io.BytesIO(checkpoint), map_location=data.device, weights_only=True)
            self._state.restore(saved["state"])
            self._trained, self._seconds_before = saved["trained"], saved["seconds"]

    def epochs(self) -> Iterator[Progress]:
        """Train one epoch after another; DivergenceError where one diverges."""
        epochs = whole_run(self._config.epochs, self._config.schedule.shared)
        for done, epoch in enumerate(epochs[self._trained :], self._trained + 1):
            with diverging_at(f"epoch {done}"):
                epoch_log = train_epoch(self._state, self._data, epoch)
                epoch_log.check()
            yield Progress(done, len(epochs), epoch_log, self._state, self._seconds())

    def finish(self) -> TrainedSeed:
        """Test the finished model; DivergenceError where its logits are not finite."""
        config, data, state = self._config, self._data, self._state
        with diverging_at(f"epoch {config.epochs}"):
            apply_posthoc(state, data, config.epochs)
            predictions = state.predictions(data)
            metrics = compute(predictions, [self._objective] if self._objective else [])
            margins = {
                "train": example_margins(state, data, data.train, data.labels_N),
                "test": example_margins(state, data, data.held_out, data.held_out_labels_M),
            }
        confusion_KK = predictions.confusion.matrix_KK
        run = FinalRun(
            seed=config.seed,
            metrics=metrics,
            recall_K=recalls(confusion_KK).tolist(),
            confusion_KK=confusion_KK.tolist(),
            margins=_class_means(margins, len(data.classes)),
            seconds=self._seconds(),
        )
        return TrainedSeed(run, state, margins, predictions.logits_NK)

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started


def _class_means(margins: dict[str, Margins], classes: int) -> dict[str, list[float]]:
    """The mean margin of each class (K,), by kind and split."""
    return {
        f"{kind}_{split}": mean_K.tolist()
        for split, of_split in margins.items()
        for kind, mean_K in zip(
            ("margin", "probability_margin"), of_split.class_means(classes), strict=True
        )
    }
