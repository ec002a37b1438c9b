"""Time per image on this machine, measured with the real training loop on a subset of the images.

Shapes: K classes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from imbtune.config.train_config import TrainConfig, active
from imbtune.data.splits import Images, Splits
from imbtune.training.device.device_data import DeviceData
from imbtune.training.loop import train_epoch
from imbtune.training.phases import Epoch, whole_run
from imbtune.training.state import TrainState

MIN_EPOCH_SECONDS = 0.3  # of a timed epoch: then its fixed costs hardly matter
TIMED_SECONDS = 1.0  # total time for which each configuration is timed, at least


@dataclass(frozen=True)
class Speed:
    """Seconds per image, in training and in evaluation.

    Attributes:
        pass_seconds: seconds per image pass (one image forward and backward), the mean over the
            measured configurations.
        low: seconds per image pass of the fastest configuration.
        high: seconds per image pass of the slowest configuration.
        image_seconds: seconds per evaluated image; 0 where `pass_seconds` includes evaluation.
    """

    pass_seconds: float
    low: float
    high: float
    image_seconds: float = 0.0

    def shared(self, trials: int) -> Speed:
        """The speed of each of `trials` trials on one device whose total speed stays the same."""
        return Speed(*(trials * seconds for seconds in vars(self).values()))


def measure_speed(
    configs: Sequence[TrainConfig], splits: Splits, device: torch.device, threads: int
) -> Speed:
    """Time training epochs and evaluations of each configuration, one after another.

    Not timed: generated images, whose cost is counted in image passes, and what a worker computes
    once for all of its trials (neighbours by pixels).

    Args:
        configs: at least one.
        splits: the data; a stratified subset of them is used.
        device: where to train.
        threads: CPU threads of a trial.
    """
    with torch_threads(threads):
        plain = [without_generated_images(config) for config in configs]
        data = DeviceData(timing_subset(plain[0], splits, device), device)
        passes, images = zip(*(_median_seconds(config, data) for config in plain), strict=True)
    return Speed(statistics.mean(passes), min(passes), max(passes), statistics.mean(images))


def without_generated_images(config: TrainConfig) -> TrainConfig:
    """The configuration with `generate: none`."""
    return TrainConfig.from_settings(active({**config.flat(), "generate": "none"}))


def stratified_subset(images: Images, size: int, classes: int) -> Images:
    """About `size` of the images, with the class proportions of all of them.

    Each class keeps its first images, their number rounded up, so every class that has images
    keeps at least one. All images where there are no more than `size`.
    """
    if size >= len(images):
        return images
    counts_K = images.counts(classes)
    keep_K = np.ceil(counts_K * (size / len(images))).astype(np.int64)
    order_N = np.argsort(images.labels, kind="stable")
    starts_K = np.cumsum(counts_K) - counts_K
    return images.take(
        np.concatenate([order_N[s : s + n] for s, n in zip(starts_K, keep_K, strict=True)])
    )


def timing_subset(config: TrainConfig, splits: Splits, device: torch.device) -> Splits:
    """A stratified subset on which an epoch takes at least `MIN_EPOCH_SECONDS`, or all images."""
    classes, size = len(splits.classes), 2 * config.batch_size
    while True:
        train = stratified_subset(splits.train, size, classes)
        held_out = stratified_subset(splits.held_out, size, classes)
        subset = replace(splits, train=train, held_out=held_out)
        data = DeviceData(subset, device)
        state = TrainState(config, data)
        _time_epoch(state, data)  # warms up
        if size >= len(splits.train) or _time_epoch(state, data).training >= MIN_EPOCH_SECONDS:
            return subset
        size *= 2


def _median_seconds(config: TrainConfig, data: DeviceData) -> tuple[float, float]:
    """Median seconds per image pass and per evaluated image."""
    state = TrainState(config, data)
    _time_epoch(state, data)  # warms up
    timed = [_time_epoch(state, data)]
    while sum(sum(seconds) for seconds in timed) < TIMED_SECONDS:
        timed.append(_time_epoch(state, data))
    passes = state.passes / (len(timed) + 1)
    training, evaluation = (statistics.median(each) for each in zip(*timed, strict=True))
    return training / passes, evaluation / len(data.held_out_labels_M)


class _Seconds(NamedTuple):
    training: float
    evaluation: float


def _time_epoch(state: TrainState, data: DeviceData) -> _Seconds:
    """Time one epoch and one evaluation, each until the device has finished."""
    started = time.perf_counter()
    train_epoch(state, data, first_epoch(state.config))
    synchronise(data.device)
    trained = time.perf_counter()
    _ = state.evaluation(data).failure  # waits for it
    return _Seconds(trained - started, time.perf_counter() - trained)


def first_epoch(config: TrainConfig) -> Epoch:
    """The first epoch of a whole run."""
    return whole_run(config.epochs, config.schedule.shared)[0]


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished all work launched so far."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use `count` CPU threads; restore the previous number on exit."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
