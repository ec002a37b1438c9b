"""What a device gives to trials that share it, measured with the real loop: speed and memory.

A pack's trials are trained in one process, each in a CUDA stream of its own; others in a process
each. Either way they all train the same configuration on a part of the images, at the same time.
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

from imbtune.config.plugins import PluginModule, register
from imbtune.config.train_config import TrainConfig
from imbtune.data.splits import Splits
from imbtune.registry import Value
from imbtune.runtime import keep_freed_memory
from imbtune.training.cost.timing import enough, first_epoch, threads_set, wait, without_generated
from imbtune.training.device.device_data import DeviceData
from imbtune.training.loop import train_epoch
from imbtune.training.state import TrainState

ROUNDS, TIMED = 3, 2.0  # epochs that warm up, and seconds that are timed at least


@dataclass(frozen=True)
class Sharing:
    """What `trials` at once on a device do.

    memory: bytes that torch reserves of it for all of them together, what recorded steps keep
    included; 0 on a CPU. rate: image passes a
    second, of all of them together.
    """

    trials: int
    memory: int
    rate: float


def measure_sharing(
    configs: Sequence[TrainConfig],
    splits: Splits,
    device: torch.device,
    counts: Sequence[int],
    threads: int,
    pack: bool,
    imports: Sequence[PluginModule] = (),
) -> list[Sharing]:
    """Train 1, 2, … trials at once, as many as `counts` says; up to the first that do not fit.

    The configuration is the one of `configs` that takes most memory. Generated images are left out.

    Args:
        counts: rising.
        threads: of the CPU, for all trials together.
        pack: whether trials share a process, as they then will.
        imports: the user's own parts, for the other processes.
    """
    plain = [without_generated(config) for config in configs]
    with threads_set(threads):
        part = enough(plain[0], splits, device)
        alone = [_train_together(config, part, device, 1, seconds=0) for config in plain]
    config = plain[int(np.argmax([one.memory for one in alone]))]
    rest = _bytes(splits) - _bytes(part) if device.type == "cuda" else 0  # images to come on top
    measured: list[Sharing] = []
    for trials in counts:
        try:
            if pack:
                with threads_set(threads):
                    found = _train_together(config, part, device, trials)
            else:
                found = _in_processes(config, part, device, trials, threads, imports)
        except torch.OutOfMemoryError:
            if not measured:  # a whole GPU is too little
                raise
            break
        memory = found.memory + rest * (1 if pack else trials)
        measured.append(Sharing(trials, memory, found.rate))
    return measured


def _in_processes(
    config: TrainConfig,
    part: Splits,
    device: torch.device,
    trials: int,
    threads: int,
    imports: Sequence[PluginModule],
) -> Sharing:
    spawn = multiprocessing.get_context("spawn")  # CUDA does not outlive a fork
    with spawn.Manager() as manager, ProcessPoolExecutor(trials, mp_context=spawn) as processes:
        together = manager.Barrier(trials)
        each = max(1, threads // trials)
        given = (config.flat(), imports, part, device, each, together)
        futures = [processes.submit(_in_process, *given) for _ in range(trials)]
        errors = [error for future in futures if (error := future.exception())]
        # the first that fails breaks the barrier for the others
        for error in sorted(errors, key=lambda e: isinstance(e, threading.BrokenBarrierError)):
            raise error
        found = [future.result() for future in futures]
    return Sharing(trials, sum(one.memory for one in found), sum(one.rate for one in found))


def _in_process(
    settings: Mapping[str, Value],
    imports: Sequence[PluginModule],
    part: Splits,
    device: torch.device,
    threads: int,
    together: threading.Barrier,
) -> Sharing:
    torch.set_num_threads(threads)
    try:
        register(imports)
        config = TrainConfig.from_settings(settings)
        return _train_together(config, part, device, 1, together.wait)
    except BaseException:
        together.abort()
        raise


def _train_together(
    config: TrainConfig,
    part: Splits,
    device: torch.device,
    trials: int,
    meet: Callable[[], object] = lambda: None,
    seconds: float = TIMED,
) -> Sharing:
    """Train so many trials in this process, for `seconds` behind the warm-up.

    Args:
        meet: called between warm-up and timing, and again at the end.
    """
    on_gpu = device.type == "cuda"
    keep_freed_memory()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    data = DeviceData(part, device)
    wait(device)
    streams = [torch.cuda.Stream(device) if on_gpu else None for _ in range(trials)]
    lanes = []
    for stream in streams:
        with torch.cuda.stream(stream):
            lanes.append((TrainState(config, data), stream))
    epoch = first_epoch(config)

    def train() -> None:
        launched = []
        for state, stream in lanes:
            with torch.cuda.stream(stream):
                launched.append((train_epoch(state, data, epoch), state.confusion(data)))
        for (log, confusion), (_, stream) in zip(launched, lanes, strict=True):
            with torch.cuda.stream(stream):
                _ = log.loss, confusion.cpu()

    for _ in range(ROUNDS):
        train()
    meet()
    before, started = _passes(lanes), time.perf_counter()
    while time.perf_counter() - started < seconds:
        train()
    rate = (_passes(lanes) - before) / (time.perf_counter() - started)
    meet()  # nobody stops while another is still timed
    memory = torch.cuda.max_memory_reserved(device) if on_gpu else 0
    return Sharing(trials, memory, rate)


def _passes(lanes: Sequence[tuple[TrainState, object]]) -> int:
    return sum(state.passes for state, _ in lanes)


def _bytes(splits: Splits) -> int:
    """Of the images that lie on the device, none where they are streamed."""
    images = (splits.train.pixels, splits.held_out.pixels)
    return sum(pixels.nbytes for pixels in images if isinstance(pixels, np.ndarray))
