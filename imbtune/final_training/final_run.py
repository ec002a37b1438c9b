"""One final run: a configuration is trained with one seed on all training data, and tested once.

`imbtune train` (:mod:`.retrain`) and `imbtune compare` (:mod:`imbtune.comparison`) train their runs
here.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from imbtune.config.train_config import TrainConfig
from imbtune.data.load import DataSource, load
from imbtune.data.splits import Splits, final_splits, with_calibration
from imbtune.errors import diverging_at
from imbtune.inference.calibration import Calibration, calibrate
from imbtune.metrics.from_confusion import recalls
from imbtune.metrics.metric import Metric, compute
from imbtune.metrics.predictions import Predictions
from imbtune.registry import Part
from imbtune.strict_json import nan_for_null
from imbtune.training.apply_posthoc import apply_posthoc
from imbtune.training.device.device_data import DeviceData
from imbtune.training.device.image_store import Resident, Streamed
from imbtune.training.evaluation.margins import Margins, example_margins, image_logits
from imbtune.training.loop import EpochLog, train_epoch
from imbtune.training.model import check_model_fits
from imbtune.training.phases import whole_run
from imbtune.training.plugin_checks import check_plugins
from imbtune.training.state import TrainState
from imbtune.training.weight_average import WeightAverage

REPORTED_LOSSES = 10  # of one run
KEPT = "training images of each class that were kept out of the training (--calibrate)"

Values = dict[str, float | None]  # of metrics, by name


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
        without: the metrics of the same run without something of it: `averaging`, the weights of
            the last step; `temperature`, the probabilities as trained.
    """

    seed: int
    metrics: Values
    recall_K: list[float]
    confusion_KK: list[list[int]]
    margins: dict[str, list[float]]
    seconds: float
    without: dict[str, Values] = field(default_factory=dict)

    def __repr__(self) -> str:
        balanced = self.metrics["balanced_accuracy"]
        return f"FinalRun(seed {self.seed}): test balanced accuracy {balanced:.4f}"

    def to_dict(self) -> dict[str, object]:
        """The run's entry in `metrics.json`."""
        return {
            "seed": self.seed,
            "metrics": self.metrics,
            "recall_K": self.recall_K,
            "confusion_KK": self.confusion_KK,
            "margins": self.margins,
            "seconds": self.seconds,
            "without": self.without,
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
            content["without"],
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
        calibration: the temperature; None without images for it.
    """

    run: FinalRun
    state: TrainState
    margins: dict[str, Margins]
    logits_MK: Tensor
    calibration: Calibration | None

    def finished(self) -> FinishedSeed:
        """What is kept of it."""
        weights = {name: tensor.cpu() for name, tensor in self.state.model.state_dict().items()}
        logits_MK = self.logits_MK.cpu()
        return FinishedSeed(self.run, self.margins, weights, logits_MK, self.calibration)


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
    calibration: Calibration | None


def reported_loss(progress: Progress) -> float | None:
    """The loss after about every tenth of the run; else None, since reading it takes time."""
    trained, epochs = progress.trained, progress.epochs
    if trained % max(1, epochs // REPORTED_LOSSES) or trained == epochs:
        return None
    return progress.epoch_log.loss


def load_final_splits(
    config: TrainConfig,
    data_source: DataSource,
    plugins: Iterable[Part] = (),
    share: float | None = None,
) -> Splits:
    """Load all training images and the test images, and check that the network accepts them.

    Args:
        plugins: the user's parts, which are tried on the data.
        share: of each class's training images that train nothing, for a temperature; None for none.

    Raises:
        ImbtuneError: the data, the network or a plugin cannot be used.
    """
    dataset = load(config.data.name, config.data.knobs, data_source)
    splits = final_splits(dataset, config.data.shared)
    if share is not None:
        splits = with_calibration(splits, share, config.data.shared.subset_seed)
    check_plugins(plugins, splits)
    check_model_fits(config, splits)
    return splits


def train_seed(
    config: TrainConfig,
    data: DeviceData,
    after_epoch: Callable[[Progress], None],
    checkpoint: bytes | None = None,
    ema: float | None = None,
    objectives: Sequence[Metric] = (),
) -> TrainedSeed:
    """Train a configuration with its seed, and test the finished model, once.

    All random draws follow from the seed and the epoch, so a run that continues from a checkpoint
    has the result of an uninterrupted one, to the last bit.

    Args:
        data: the training images and, held out, the test images.
        after_epoch: is called after every epoch.
        checkpoint: of the same run (:meth:`Progress.checkpoint`); None to begin it.
        ema: the decay of a moving average of the weights, which then is the finished model; None
            for the weights of the last step.
        objectives: metrics whose knobs count for the metrics of their names.

    Raises:
        DivergenceError: a loss or a logit is not finite; the message has the epoch.
    """
    run = SeedRun(config, data, checkpoint, objectives, ema)
    for progress in run.epochs():
        after_epoch(progress)
    return run.finish()


class SeedRun:
    """A run that is trained an epoch at a time: first all of `epochs()`, then `finish()`.

    The arguments are those of :func:`train_seed`.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: DeviceData,
        checkpoint: bytes | None = None,
        objectives: Sequence[Metric] = (),
        ema: float | None = None,
    ) -> None:
        self._config, self._data, self._started = config, data, time.monotonic()
        self._objectives = objectives
        self._state, self._trained, self._seconds_before = TrainState(config, data), 0, 0.0
        if ema is not None:
            self._state.average = WeightAverage(self._state.model, ema)
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
        """Test the finished model; DivergenceError where its logits are not finite.

        It is tested in float32, as it is used, also where it was trained in bfloat16.
        """
        config, data, state = self._config, self._data, self._state
        with diverging_at(f"epoch {config.epochs}"):
            without = self._complete()
            with state.in_float32():
                predictions = state.predictions(data)
                metrics = compute(predictions, self._objectives)
                calibration = self._calibration()
                if calibration:
                    without["temperature"] = metrics
                    scaled = with_temperature(predictions, calibration.temperature)
                    metrics = compute(scaled, self._objectives)
                temperature = calibration.temperature if calibration else 1.0
                margins = {
                    split: example_margins(state, data, images, labels, temperature)
                    for split, (images, labels) in _parts(data).items()
                }
        confusion_KK = predictions.confusion.matrix_KK
        run = FinalRun(
            seed=config.seed,
            metrics=metrics,
            recall_K=recalls(confusion_KK).tolist(),
            confusion_KK=confusion_KK.tolist(),
            margins=_class_means(margins, len(data.classes)),
            seconds=self._seconds(),
            without=without,
        )
        return TrainedSeed(run, state, margins, predictions.logits_NK, calibration)

    def _complete(self) -> dict[str, Values]:
        """Average the weights, apply the post-hoc method; returns the metrics without average."""
        config, data, state, without = self._config, self._data, self._state, dict[str, Values]()
        if state.average:
            with state.temporarily(state.methods):
                apply_posthoc(state, data, config.epochs)
                with state.in_float32():
                    without["averaging"] = compute(state.predictions(data), self._objectives)
            state.average.apply()
        apply_posthoc(state, data, config.epochs)
        return without

    def _calibration(self) -> Calibration | None:
        """The temperature of the finished model; None without images for it."""
        data = self._data
        if data.calibration is None:
            return None
        logits_NK = image_logits(self._state, data, data.calibration)
        return calibrate(logits_NK, data.calibration_labels_N, KEPT, data.classes, data.counts_K)

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started


def with_temperature(predictions: Predictions, temperature: float) -> Predictions:
    """The same predictions with the logits divided by a temperature."""
    return replace(predictions, logits_NK=predictions.logits_NK.double() / temperature)


def _parts(data: DeviceData) -> dict[str, tuple[Resident | Streamed, Tensor]]:
    """The images of each split, and their classes."""
    parts = {
        "train": (data.train, data.labels_N),
        "test": (data.held_out, data.held_out_labels_M),
    }
    if data.calibration is not None:
        parts["calibration"] = (data.calibration, data.calibration_labels_N)
    return parts


def _class_means(margins: dict[str, Margins], classes: int) -> dict[str, list[float]]:
    """The mean margin of each class (K,), by kind and split."""
    return {
        f"{kind}_{split}": mean_K.tolist()
        for split, of_split in margins.items()
        for kind, mean_K in zip(
            ("margin", "probability_margin"), of_split.class_means(classes), strict=True
        )
    }
