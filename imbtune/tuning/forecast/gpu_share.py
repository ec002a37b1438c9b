"""`--gpus-per-trial auto`: measures how many trials should share a GPU."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from imbtune.config.plugin_module import PluginModule
from imbtune.config.plugins import register
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

TOGETHER = (1, 2, 4, 8)  # numbers of trials on a GPU that are measured
MIN_GAIN = 1.1  # more trials share a GPU only if they train faster together by this factor
MAX_MEMORY = 0.9  # share of a GPU's memory that may be used: other trials may need more


def settle_share(request: SearchRequest, splits: Splits, log: Log) -> SearchRequest:
    """Replace `--gpus-per-trial auto` by a measured share of a GPU; other requests are unchanged.

    It is measured before the trials start, on one GPU of each kind. Of the shares that the kinds
    need, it is the largest: as many trials fit on a GPU of any kind. Without GPUs it is 0.
    """
    if request.gpus_per_trial != AUTO:
        return request
    nodes = [node for node in cluster_nodes() if node.gpus]
    if not nodes:
        log("--gpus-per-trial auto: no machine has a GPU, so trials train on CPUs.\n")
        return replace(request, gpus_per_trial=0.0)
    counts = candidates(nodes, request.runs, request.cpus_per_trial, request.max_concurrent)
    threads = max(1, min(node.cpus // node.gpus for node in nodes))
    kinds = one_of_each_kind(nodes)
    on = "a GPU" if len(kinds) == 1 else f"a GPU of each kind ({', '.join(map(_name, kinds))})"
    log(f"--gpus-per-trial auto: measuring {_trials(counts)} at a time on {on} …")
    settings = [config.flat() for config in sample(request)]
    given = ray.put(splits)
    running = [
        ray.remote(_measure)
        .options(
            num_gpus=1,
            num_cpus=counts[-1],
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
        )
        .remote(settings, given, counts, threads, request.pack, request.space.imports)
        for node in kinds.values()
    ]
    measured = dict(zip(kinds, ray.get(running), strict=True))
    chosen = min(choose(*each) for each in measured.values())
    log(_line(measured, chosen))
    return replace(request, gpus_per_trial=1 / chosen)


def one_of_each_kind(nodes: Sequence[Node]) -> dict[str, Node]:
    """A machine with each kind of GPU, by the name of the kind; of several, that with most CPUs."""
    found: dict[str, Node] = {}
    for node in nodes:
        if node.gpu_kind not in found or node.cpus > found[node.gpu_kind].cpus:
            found[node.gpu_kind] = node
    return found


def candidates(
    nodes: Sequence[Node], trials: int, cpus: int | None, concurrent: int | None
) -> list[int]:
    """The numbers of trials per GPU to measure, rising from 1.

    More trials than there are CPUs for, or than the search runs at a time, are left out.

    Args:
        nodes: machines with GPUs.
        trials: runs of the search.
        cpus: per trial; None for 1.
        concurrent: trials at a time; None for no limit.
    """
    cpus_per_gpu = min(node.cpus // node.gpus for node in nodes)
    at_once = math.ceil(min(concurrent or trials, trials) / sum(node.gpus for node in nodes))
    most = min(cpus_per_gpu // (cpus or 1), at_once)
    return [count for count in TOGETHER if count <= max(1, most)]


def choose(measured: Sequence[SharedDeviceResult], total: float) -> int:
    """Choose how many trials share a GPU.

    Starting from 1 trial, a higher number is chosen if the trials use at most 90 % of the memory,
    and together train at least 1.1 times as fast as the number chosen so far.

    Args:
        measured: by rising number of trials, from 1; `memory` includes the CUDA contexts.
        total: memory of the GPU in bytes.
    """
    chosen = measured[0]
    for more in measured[1:]:
        if more.memory <= MAX_MEMORY * total and more.rate >= MIN_GAIN * chosen.rate:
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
    """Measure on the machine that this runs on; returns also the GPU's memory in bytes."""
    register(imports)
    configs = [TrainConfig.from_settings(each) for each in settings]
    device = pick_device()
    with explain_out_of_memory(1.0):
        measured = measure_shared_device(configs, splits, device, counts, threads, pack, imports)
    if device.type == "cpu":  # Ray counts a GPU that torch cannot use
        return measured, math.inf
    total = torch.cuda.get_device_properties(device).total_memory
    contexts = [CONTEXT * (1 if pack else one.trials) for one in measured]
    with_contexts = [
        replace(one, memory=one.memory + context)
        for one, context in zip(measured, contexts, strict=True)
    ]
    return with_contexts, float(total)


def _line(measured: Mapping[str, tuple[list[SharedDeviceResult], float]], chosen: int) -> str:
    """What was measured, by the kind of GPU, and what was chosen; one line."""
    figures = [
        _figures("a GPU" if len(measured) == 1 else _name(kind), *each)
        for kind, each in measured.items()
    ]
    every = ", the largest share that a kind needs" if len(measured) > 1 else ""
    return (
        f"--gpus-per-trial auto: {'; '.join(figures)}; chosen: --gpus-per-trial {1 / chosen:g}"
        f"{every}\n"
    )


def _figures(gpu: str, measured: Sequence[SharedDeviceResult], total: float) -> str:
    rates = _join([f"{one.rate:,.0f}" for one in measured])
    memory = _join([f"{one.memory / 2**30:.1f}" for one in measured])
    used = f" and use {memory} of its {total / 2**30:.0f} GiB" if math.isfinite(total) else ""
    trials = [one.trials for one in measured]
    train = "trains" if trials == [1] else "train"
    return f"{_trials(trials)} on {gpu} {train} {rates} images per second{used}"


def _trials(counts: Sequence[int]) -> str:
    """`1 trial`, or `1 / 2 / 4 trials`."""
    return f"{_join(counts)} trial{'s' * (list(counts) != [1])}"


def _name(kind: str) -> str:
    return kind or "one of an unknown kind"


def _join(values: Sequence[object]) -> str:
    return " / ".join(map(str, values))
