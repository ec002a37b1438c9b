"""How long training takes on this machine, measured with the real loop on a part of the images.

Shapes: N training images, K classes.
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

ENOUGH = 0.3  # seconds that a timed epoch takes at least: what it does once then matters little
TIMED = 1.0  # seconds that each configuration is timed for


@dataclass(frozen=True)
class Speed:
    """What training costs in time.

    pass_seconds: of an image pass, forward and backward, the mean over configurations. low, high:
    the same for the fastest and the slowest of them. image_seconds: of an image that is evaluated;
    0 where `pass_seconds` has it in it.
    """

    pass_seconds: float
    low: float
    high: float
    image_seconds: float = 0.0

    def shared(self, trials: int) -> Speed:
        """Of each of so many trials that share a device, where none gains by the others."""
        return Speed(*(trials * seconds for seconds in vars(self).values()))


def measure_speed(
    configs: Sequence[TrainConfig], splits: Splits, device: torch.device, threads: int
) -> Speed:
    """Time an epoch of each configuration, and the evaluation, one after another.

    Generated images are left out: their cost is counted in image passes. What an actor works out
    once for all of its trials (neighbours among pixels) is not timed either.

    Args:
        configs: at least one.
        threads: of the CPU, as a trial has them.
    """
    with threads_set(threads):
        plain = [without_generated(config) for config in configs]
        data = DeviceData(enough(plain[0], splits, device), device)
        passes, images = zip(*(_medians(config, data) for config in plain), strict=True)
    return Speed(statistics.mean(passes), min(passes), max(passes), statistics.mean(images))


def without_generated(config: TrainConfig) -> TrainConfig:
    """The configuration as it is timed: its image passes, without the making of images."""
    return TrainConfig.from_settings(active({**config.flat(), "generate": "none"}))


def stratified(images: Images, wanted: int, classes: int) -> Images:
    """About `wanted` of the images, of every class the same share, and at least one where it has
    any; all of them where there are no more."""
    if wanted >= len(images):
        return images
    counts_K = images.counts(classes)
    keep_K = np.ceil(counts_K * (wanted / len(images))).astype(np.int64)
    order_N = np.argsort(images.labels, kind="stable")
    starts_K = np.cumsum(counts_K) - counts_K
    return images.take(
        np.concatenate([order_N[s : s + n] for s, n in zip(starts_K, keep_K, strict=True)])
    )


def enough(config: TrainConfig, splits: Splits, device: torch.device) -> Splits:
    """So many of the images that an epoch takes long enough to be timed, or all of them."""
    classes, wanted = len(splits.classes), 2 * config.batch_size
    while True:
        train = stratified(splits.train, wanted, classes)
        held = stratified(splits.held_out, wanted, classes)
        part = replace(splits, train=train, held_out=held)
        data = DeviceData(part, device)
        state = TrainState(config, data)
        _time(state, data)  # warms up
        if wanted >= len(splits.train) or _time(state, data).training >= ENOUGH:
            return part
        wanted *= 2


def _medians(config: TrainConfig, data: DeviceData) -> tuple[float, float]:
    """Seconds of an image pass, and of an image evaluated."""
    state = TrainState(config, data)
    _time(state, data)  # warms up
    timed = [_time(state, data)]
    while sum(sum(seconds) for seconds in timed) < TIMED:
        timed.append(_time(state, data))
    passes = state.passes / (len(timed) + 1)
    training, evaluation = (statistics.median(each) for each in zip(*timed, strict=True))
    return training / passes, evaluation / len(data.held_out_labels_M)


class _Seconds(NamedTuple):
    training: float
    evaluation: float


def _time(state: TrainState, data: DeviceData) -> _Seconds:
    """An epoch and an evaluation, each to its end on the device."""
    started = time.perf_counter()
    train_epoch(state, data, first_epoch(state.config))
    wait(data.device)
    trained = time.perf_counter()
    state.evaluate(data)
    return _Seconds(trained - started, time.perf_counter() - trained)


def first_epoch(config: TrainConfig) -> Epoch:
    """The first epoch of a whole run."""
    return whole_run(config.epochs, config.schedule.shared)[0]


def wait(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def threads_set(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
