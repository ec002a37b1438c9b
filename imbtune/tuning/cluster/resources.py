"""Plans the CPUs and GPUs of each trial, and checks that a machine has them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from imbtune.errors import ConfigError

DEFAULT_SHARE = 0.25  # of a GPU per trial
MAX_UNUSED = 0.05  # share of a GPU that may stay unused when as many trials as fit run on it


@dataclass(frozen=True)
class Node:
    """The CPUs and GPUs of a machine."""

    cpus: int
    gpus: int


@dataclass(frozen=True)
class Resources:
    """What each trial gets.

    Attributes:
        cpus: whole CPUs per trial.
        gpus: GPUs per trial: 0, a fraction 1/n of one GPU, or a whole number.
        concurrent: trials that run at a time; if it grows, when the search starts.
        grows: whether more trials run at a time when machines join the cluster, and fewer when
            machines leave it.
    """

    cpus: int
    gpus: float
    concurrent: int
    grows: bool = False


def check_gpu_fraction(gpus: float) -> None:
    """Check GPUs per trial: 0, 1/n (0.5, 0.25, 0.3333, …) or a whole number.

    A trial never uses parts of two GPUs, so other fractions would leave part of each GPU unused.

    Raises:
        ConfigError: another number.
    """
    if not math.isfinite(gpus) or gpus < 0:
        raise ConfigError(
            f"--gpus-per-trial {gpus:g} is not possible: give 0, 1/n or a whole number"
        )
    if gpus > 1 and gpus != int(gpus):
        raise ConfigError(
            f"--gpus-per-trial {gpus:g} is not possible, a trial cannot use parts of several GPUs: "
            "give 1/n or a whole number"
        )
    if 0 < gpus < 1:
        fit = int(1 / gpus + 1e-9)
        if gpus < 0.01 or 1 - fit * gpus > MAX_UNUSED:
            better = math.floor(10000 / (fit + 1)) / 10000 if gpus >= 0.01 else 0.01
            raise ConfigError(
                f"--gpus-per-trial {gpus:g} is not possible, {fit} trials would leave "
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
    """Plan what each trial gets.

    Args:
        nodes: the machines.
        trials: runs to train, which limits how many run at a time.
        cpus: per trial; None for an even share of a machine's CPUs among the trials on its GPUs,
            and 1 without GPUs.
        gpus: per trial; None for 0.25 if a machine has a GPU, else 0.
        concurrent: trials at a time; None for as many as fit.
        may_grow: whether the nodes are a cluster that may start more machines on demand. If it has
            no GPU yet, `gpus` and `concurrent` are used unchecked.

    Raises:
        ConfigError: more than any machine has.
    """
    most_gpus = max(n.gpus for n in nodes)
    gpus = (DEFAULT_SHARE if most_gpus else 0.0) if gpus is None else gpus
    check_gpu_fraction(gpus)
    if may_grow and gpus and not most_gpus and concurrent:
        return Resources(cpus or 1, gpus, min(concurrent, trials))
    if gpus > most_gpus:
        have = f"a machine here has {most_gpus} at most" if most_gpus else "no machine has a GPU"
        fix = f"give {most_gpus} or less" if most_gpus else "give 0"
        if may_grow and not most_gpus:
            fix += "; if machines with GPUs start later, give --max-concurrent too"
        raise ConfigError(f"--gpus-per-trial {gpus:g}: {have}: {fix}")
    able = [n for n in nodes if n.gpus >= gpus]  # machines that can run a trial
    if cpus is None:
        cpus = max(1, min(n.cpus // on_gpus(n, gpus) for n in able)) if gpus else 1
    most_cpus = max(n.cpus for n in able)
    if not 1 <= cpus <= most_cpus:
        raise ConfigError(
            f"--cpus-per-trial {cpus}: give 1 to {most_cpus}, the CPUs of one machine"
        )
    fit = sum(_fit(node, cpus, gpus) for node in able)
    return Resources(cpus, gpus, min(concurrent or fit, trials), may_grow and not concurrent)


def capacity(nodes: list[Node], resources: Resources) -> int:
    """How many trials with these resources fit on the machines."""
    return sum(_fit(node, resources.cpus, resources.gpus) for node in nodes)


def pack_size(node: Node, resources: Resources) -> int:
    """The most trials that a packed worker can have: those that fit on one GPU of the node, or
    without GPUs those that fit on its CPUs."""
    location = Node(node.cpus, math.ceil(resources.gpus))
    return max(1, min(_fit(location, resources.cpus, resources.gpus), resources.concurrent))


def _fit(node: Node, cpus: int, gpus: float) -> int:
    fit = node.cpus // cpus
    return min(fit, on_gpus(node, gpus)) if gpus else fit


def on_gpus(node: Node, gpus: float) -> int:
    """How many trials with `gpus` GPUs each fit on a machine's GPUs."""
    return node.gpus * int(1 / gpus + 1e-9) if gpus <= 1 else node.gpus // int(gpus)
