"""Speed and memory of trials that share a device, measured with the real training loop.

All trials train the same configuration on a subset of the images at the same time: the trials of a
pack in one process, each in its own CUDA stream; otherwise one process per trial.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from imbtune.config.plugin_module import PluginModule
from imbtune.config.plugins import register
from imbtune.config.train_config import TrainConfig
from imbtune.data.splits import Splits
from imbtune.registry import Value
from imbtune.runtime import keep_freed_memory
from imbtune.training.cost.timing import (
    first_epoch,
    synchronise,
    timing_subset,
    torch_threads,
    without_generated_images,
)
from imbtune.training.device.device_data import DeviceData
from imbtune.training.loop import train_epoch
from imbtune.training.state import TrainState

WARM_UP_EPOCHS = 3
TIMED_SECONDS = 2.0  # at least


@dataclass(frozen=True)
class SharedDeviceResult:
    """Memory and speed of `trials` trials that train on one device at the same time.

    Attributes:
        trials: number of trials.
        memory: bytes of device memory that torch reserves for all of them together, captured CUDA
            graphs included; 0 on a CPU.
        rate: image passes per second of all of them together.
    """

    trials: int
    memory: int
    rate: float


def measure_shared_device(
    configs: Sequence[TrainConfig],
    splits: Splits,
    device: torch.device,
    counts: Sequence[int],
    threads: int,
    pack: bool,
    imports: Sequence[PluginModule] = (),
) -> list[SharedDeviceResult]:
    """Measure each number of trials in `counts`, until one does not fit into the device's memory.

    All trials train the one of `configs` that takes most memory, without generated images.

    Args:
        configs: at least one.
        splits: the data; a stratified subset of them is used. `memory` of the results is
            extrapolated to all images.
        device: where to train.
        counts: numbers of trials, increasing.
        threads: CPU threads for all trials together.
        pack: whether the trials share a process, as in the search that is planned.
        imports: modules with user-defined parts, for the processes of `pack=False`.

    Returns:
        One result per count that fits, in order.

    Raises:
        torch.OutOfMemoryError: the first count does not fit.
    """
    plain = [without_generated_images(config) for config in configs]
    with torch_threads(threads):
        subset = timing_subset(plain[0], splits, device)
        single = [_train_concurrently(config, subset, device, 1, seconds=0) for config in plain]
    config = plain[int(np.argmax([result.memory for result in single]))]
    # Bytes of the images that the subset leaves out; a search has them in device memory too.
    missing = _image_bytes(splits) - _image_bytes(subset) if device.type == "cuda" else 0
    measured: list[SharedDeviceResult] = []
    for trials in counts:
        try:
            if pack:
                with torch_threads(threads):
                    result = _train_concurrently(config, subset, device, trials)
            else:
                result = _train_in_processes(config, subset, device, trials, threads, imports)
        except torch.OutOfMemoryError:
            if not measured:
                raise
            break
        memory = result.memory + missing * (1 if pack else trials)
        measured.append(SharedDeviceResult(trials, memory, result.rate))
    return measured


def _train_in_processes(
    config: TrainConfig,
    subset: Splits,
    device: torch.device,
    trials: int,
    threads: int,
    imports: Sequence[PluginModule],
) -> SharedDeviceResult:
    """Train `trials` trials at the same time, one per process."""
    spawn = multiprocessing.get_context("spawn")  # CUDA cannot be used after a fork
    with spawn.Manager() as manager, ProcessPoolExecutor(trials, mp_context=spawn) as processes:
        barrier = manager.Barrier(trials)
        own_threads = max(1, threads // trials)
        arguments = (config.flat(), imports, subset, device, own_threads, barrier)
        futures = [processes.submit(_train_in_process, *arguments) for _ in range(trials)]
        errors = [error for future in futures if (error := future.exception())]
        # A process that fails breaks the barrier of the others: raise the cause, not that error.
        for error in sorted(errors, key=lambda e: isinstance(e, threading.BrokenBarrierError)):
            raise error
        results = [future.result() for future in futures]
    memory = sum(result.memory for result in results)
    return SharedDeviceResult(trials, memory, sum(result.rate for result in results))


def _train_in_process(
    settings: Mapping[str, Value],
    imports: Sequence[PluginModule],
    subset: Splits,
    device: torch.device,
    threads: int,
    barrier: threading.Barrier,
) -> SharedDeviceResult:
    torch.set_num_threads(threads)
    try:
        register(imports)
        config = TrainConfig.from_settings(settings)
        return _train_concurrently(config, subset, device, 1, barrier.wait)
    except BaseException:
        barrier.abort()
        raise


def _train_concurrently(
    config: TrainConfig,
    subset: Splits,
    device: torch.device,
    trials: int,
    wait_for_others: Callable[[], object] = lambda: None,
    seconds: float = TIMED_SECONDS,
) -> SharedDeviceResult:
    """Train `trials` trials in this process at the same time, and time them.

    Args:
        config: of every trial.
        subset: the images.
        device: where to train.
        trials: on a GPU each trains in its own CUDA stream, on a CPU they train in turn.
        wait_for_others: called before and after timing, to synchronise with other processes.
        seconds: how long to time after the warm-up, at least.
    """
    on_gpu = device.type == "cuda"
    keep_freed_memory()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    data = DeviceData(subset, device)
    synchronise(device)
    streams = [torch.cuda.Stream(device) if on_gpu else None for _ in range(trials)]
    runs = []
    for stream in streams:
        with torch.cuda.stream(stream):
            runs.append((TrainState(config, data), stream))
    epoch = first_epoch(config)

    def train() -> None:
        launched = []
        for state, stream in runs:
            with torch.cuda.stream(stream):
                launched.append((train_epoch(state, data, epoch), state.evaluation(data)))
        for (log, evaluation), (_, stream) in zip(launched, runs, strict=True):
            with torch.cuda.stream(stream):
                _ = log.loss, evaluation.failure  # reads both; a run may diverge, its time counts

    for _ in range(WARM_UP_EPOCHS):
        train()
    wait_for_others()
    before, started = _total_passes(runs), time.perf_counter()
    while time.perf_counter() - started < seconds:
        train()
    rate = (_total_passes(runs) - before) / (time.perf_counter() - started)
    wait_for_others()  # no process exits and frees its memory while another is timed
    memory = torch.cuda.max_memory_reserved(device) if on_gpu else 0
    return SharedDeviceResult(trials, memory, rate)


def _total_passes(runs: Sequence[tuple[TrainState, object]]) -> int:
    return sum(state.passes for state, _ in runs)


def _image_bytes(splits: Splits) -> int:
    """Bytes of the images in device memory; 0 where they are streamed."""
    images = (splits.train.pixels, splits.held_out.pixels)
    return sum(pixels.nbytes for pixels in images if isinstance(pixels, np.ndarray))
