"""What a trial asks of the machine or cluster, checked before anything starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from imbtune.errors import ConfigError

SHARE = 0.25  # of a GPU, where a trial's is not given
WASTE = 0.05  # of a GPU that may stay unused beside as many trials as fit


@dataclass(frozen=True)
class Node:
    """A machine's share: whole CPUs and GPUs."""

    cpus: int
    gpus: int


@dataclass(frozen=True)
class Resources:
    """Of one trial, and how many run at once."""

    cpus: int
    gpus: float
    concurrent: int


def check_gpu_fraction(gpus: float) -> None:
    """ConfigError for a share of a GPU that cannot be packed: trials never span two GPUs.

    Shares are 1/n (0.5, 0.25, 0.3333 …), or whole numbers.
    """
    if not math.isfinite(gpus) or gpus < 0:
        raise ConfigError(f"--gpus-per-trial {gpus:g} cannot be: give 0, 1/n or a whole number")
    if gpus > 1 and gpus != int(gpus):
        raise ConfigError(
            f"--gpus-per-trial {gpus:g} cannot be: a trial gets a share of one GPU, or whole ones"
        )
    if 0 < gpus < 1:
        fit = int(1 / gpus + 1e-9)
        if gpus < 0.01 or 1 - fit * gpus > WASTE:
            better = math.floor(10000 / (fit + 1)) / 10000 if gpus >= 0.01 else 0.01
            raise ConfigError(
                f"--gpus-per-trial {gpus:g} cannot be: {fit} trials leave "
                f"{1 - fit * gpus:.2f} of a GPU unused: give 1/n, such as {better:g}"
            )


def plan_resources(
    nodes: list[Node],
    trials: int,
    cpus: int | None,
    gpus: float | None,
    concurrent: int | None,
    may_grow: bool = False,
) -> Resources:
    """What each trial gets; what is not given follows from the nodes.

    Without `gpus`: a quarter of a GPU where there are any, else none. Without `cpus`: an even
    share of a node's CPUs for the trials on its GPUs, else 1. Without `concurrent`: as many as fit.

    Args:
        may_grow: the nodes are a cluster, which may start more on demand. Where it has no GPU yet,
            `gpus` and `concurrent` are then taken at their word.

    Raises:
        ConfigError: more than any node has.
    """
    most_gpus = max(n.gpus for n in nodes)
    gpus = (SHARE if most_gpus else 0.0) if gpus is None else gpus
    check_gpu_fraction(gpus)
    if may_grow and gpus and not most_gpus and concurrent:
        return Resources(cpus or 1, gpus, min(concurrent, trials))
    if gpus > most_gpus:
        have = f"{most_gpus} GPUs" if most_gpus else "no GPU"
        grow = "; if it is still to be started, give --max-concurrent too"
        raise ConfigError(
            f"--gpus-per-trial {gpus:g}: no machine here has that, the best has {have}"
            + (grow if may_grow and not most_gpus else "")
        )
    able = [n for n in nodes if n.gpus >= gpus]  # a CPU-only head node has no say in GPU trials
    if cpus is None:
        cpus = max(1, min(n.cpus // on_gpus(n, gpus) for n in able)) if gpus else 1
    most_cpus = max(n.cpus for n in able)
    if not 1 <= cpus <= most_cpus:
        raise ConfigError(f"--cpus-per-trial {cpus}: give 1 to {most_cpus}, what one machine has")
    fit = sum(_fit(node, cpus, gpus) for node in able)
    return Resources(cpus, gpus, min(concurrent or fit, trials))


def pack_size(node: Node, resources: Resources) -> int:
    """The most trials that a process of a pack can have: those of one GPU of the node, or of all
    of its CPUs."""
    place = Node(node.cpus, math.ceil(resources.gpus))
    return max(1, min(_fit(place, resources.cpus, resources.gpus), resources.concurrent))


def _fit(node: Node, cpus: int, gpus: float) -> int:
    fit = node.cpus // cpus
    return min(fit, on_gpus(node, gpus)) if gpus else fit


def on_gpus(node: Node, gpus: float) -> int:
    """How many trials with so much of a GPU each fit on a machine's GPUs, 0 if it has too few."""
    return node.gpus * int(1 / gpus + 1e-9) if gpus <= 1 else node.gpus // int(gpus)
