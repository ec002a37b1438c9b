"""`--gpus-per-trial auto`: how many trials share a GPU, chosen by what a GPU has done with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ray
import torch

from imbtune.config.plugins import PluginModule, register
from imbtune.config.train_config import TrainConfig
from imbtune.data.splits import Splits
from imbtune.progress import Log
from imbtune.registry import Value
from imbtune.study.request import AUTO, SearchRequest
from imbtune.training.cost.shared_device import SharedDeviceResult, measure_shared_device
from imbtune.training.state import pick_device
from imbtune.tuning.cluster.connection import cluster_nodes
from imbtune.tuning.cluster.resources import Node
from imbtune.tuning.forecast.trial_speed import sample
from imbtune.tuning.worker.gpu_memory import CONTEXT, explain_out_of_memory

TOGETHER = (1, 2, 4, 8)  # trials on a GPU that are measured
GAIN = 1.1  # of the rate of all together, without which no more trials share a GPU
ROOM = 0.9  # of a GPU's memory may be planned with: trials differ


def settle_share(request: SearchRequest, splits: Splits, log: Log) -> SearchRequest:
    """The request with a share of a GPU in the place of `auto`, if it has that: measured on a
    machine that has a GPU, while nothing else of the search runs; 0 where none has."""
    if request.gpus_per_trial != AUTO:
        return request
    nodes = [node for node in cluster_nodes() if node.gpus]
    if not nodes:
        log("--gpus-per-trial auto: no machine here has a GPU, so 0.\n")
        return replace(request, gpus_per_trial=0.0)
    counts = candidates(nodes, request.runs, request.cpus_per_trial, request.max_concurrent)
    threads = max(1, min(node.cpus // node.gpus for node in nodes))
    log(f"--gpus-per-trial auto: measuring {_listed(counts)} at a time on a GPU …")
    measure = ray.remote(_measure).options(num_gpus=1, num_cpus=counts[-1])
    measured, total = ray.get(
        measure.remote(
            [config.flat() for config in sample(request)],
            splits,
            counts,
            threads,
            request.pack,
            request.space.imports,
        )
    )
    chosen = choose(measured, total)
    log(_line(measured, total, chosen))
    return replace(request, gpus_per_trial=1 / chosen)


def candidates(
    nodes: Sequence[Node], trials: int, cpus: int | None, concurrent: int | None
) -> list[int]:
    """How many trials at a time may share a GPU of any of the nodes, which all have some: those
    that have a CPU each, and as many as there will be."""
    cpus_a_gpu = min(node.cpus // node.gpus for node in nodes)
    at_once = math.ceil(min(concurrent or trials, trials) / sum(node.gpus for node in nodes))
    most = min(cpus_a_gpu // (cpus or 1), at_once)
    return [count for count in TOGETHER if count <= max(1, most)]


def choose(measured: Sequence[SharedDeviceResult], total: float) -> int:
    """The most trials that fit into the memory with room, and together train at least a tenth
    faster than the next fewer that were chosen so.

    Args:
        measured: rising, from 1 trial; `memory` with all that their processes take.
        total: bytes of the GPU.
    """
    chosen = measured[0]
    for more in measured[1:]:
        if more.memory <= ROOM * total and more.rate >= GAIN * chosen.rate:
            chosen = more
    return chosen.trials


def _measure(
    settings: list[dict[str, Value]],
    splits: Splits,
    counts: list[int],
    threads: int,
    pack: bool,
    imports: Sequence[PluginModule],
) -> tuple[list[SharedDeviceResult], float]:
    """On a machine with a GPU: what was measured there, and the GPU's memory in bytes."""
    register(imports)
    configs = [TrainConfig.from_settings(each) for each in settings]
    device = pick_device()
    with explain_out_of_memory(1.0):
        measured = measure_shared_device(configs, splits, device, counts, threads, pack, imports)
    if device.type == "cpu":  # a GPU that Ray counts and torch cannot use
        return measured, math.inf
    total = torch.cuda.get_device_properties(device).total_memory
    contexts = [CONTEXT * (1 if pack else one.trials) for one in measured]
    whole = [
        replace(one, memory=one.memory + context)
        for one, context in zip(measured, contexts, strict=True)
    ]
    return whole, float(total)


def _line(measured: Sequence[SharedDeviceResult], total: float, chosen: int) -> str:
    rates = _listed([f"{one.rate:,.0f}" for one in measured])
    memory = _listed([f"{one.memory / 2**30:.1f}" for one in measured])
    of = f" and take {memory} of its {total / 2**30:.0f} GiB" if math.isfinite(total) else ""
    return (
        f"--gpus-per-trial auto: {_listed([one.trials for one in measured])} trials on a GPU train "
        f"{rates} images a second{of}: {1 / chosen:g}\n"
    )


def _listed(values: Sequence[Any]) -> str:
    return " / ".join(map(str, values))
