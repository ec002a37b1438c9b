"""The CPUs and GPUs of each worker of a final training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from imbtune.errors import ConfigError
from imbtune.tuning.cluster.resources import Node


@dataclass(frozen=True)
class WorkerShare:
    """What each worker gets.

    Attributes:
        cpus: whole CPUs, and as many threads.
        gpus: 1, or 0 where no machine has a GPU.
    """

    cpus: int
    gpus: int

    def __str__(self) -> str:
        return f"{self.cpus} CPU" + (" + 1 GPU" if self.gpus else "")


def plan_workers(nodes: Sequence[Node], workers: int, where: str) -> WorkerShare:
    """Give each worker a GPU, or without GPUs an even share of the CPUs.

    Args:
        nodes: the machines.
        workers: at least 1.
        where: names the machines, for the message: `this machine`, `the cluster`.

    Raises:
        ConfigError: more workers than GPUs, or without GPUs than CPUs.
    """
    has_gpus = any(node.gpus for node in nodes)
    able = [node for node in nodes if node.gpus] if has_gpus else nodes
    most = _fit(able, 1, has_gpus)
    if workers > most:
        raise ConfigError(
            f"--workers {workers}: {where} has room for {most}, a {'GPU' if has_gpus else 'CPU'} "
            f"each: give at most {most}"
        )
    shares = range(1, max(node.cpus for node in able) + 1)
    cpus = max(cpus for cpus in shares if _fit(able, cpus, has_gpus) >= workers)
    return WorkerShare(cpus, int(has_gpus))


def _fit(nodes: Sequence[Node], cpus: int, on_gpus: bool) -> int:
    """How many workers with so many CPUs, and with a GPU each, fit on the machines."""
    return sum(
        min(node.cpus // cpus, node.gpus) if on_gpus else node.cpus // cpus for node in nodes
    )
