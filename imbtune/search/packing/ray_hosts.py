"""Packs on Ray: Tune's actor of a trial is a proxy, and a host trains the trials of its place.

A place is a GPU, or a machine for trials without one. Proxies hold the trials' resources, so that
Tune places, stops and reuses them as ever; they do not import torch. The registry, which belongs
to the driver, starts the hosts and so owns them: they end with it, whichever proxies come and go.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from imbtune.runtime import fewer_collections
from imbtune.search.cluster.connection import node_of
from imbtune.search.cluster.resources import Resources, pack_size

if TYPE_CHECKING:  # they import torch
    from imbtune.data.splits import Splits
    from imbtune.search.worker.trial_runner import TrialRunner, WorkerSettings

# glibc's other arenas, which threads have, hold nothing above 64 MiB: a pack's thread would give it
# back and ask for it again at every step. Read when a process starts.
ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}

Place = tuple[str, tuple[str, ...]]  # Ray's IDs of a machine, and of the trial's GPUs on it


class PackedTrial(tune.Trainable):
    """Ray's view of a trial whose training the host of its place does."""

    def setup(self, config: dict[str, Any], hosts: Any = None) -> None:
        """Find the host of the place."""
        context = ray.get_runtime_context()
        gpus = tuple(sorted(context.get_accelerator_ids()["GPU"]))
        self._hosts, self._place = hosts, (context.get_node_id(), gpus)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the seat for another trial, at another host if the last one is gone."""
        self._host = ray.get(self._hosts.worker_of.remote(self._place))
        self._begins: dict[str, Any] | None = new_config
        return True

    def step(self) -> dict[str, Any]:
        """The host's next report."""
        begins, self._begins = self._begins, None
        report: dict[str, Any] = ray.get(self._host.step.remote(os.getpid(), begins))
        return report

    def cleanup(self) -> None:
        """Free the seat."""
        self._host.leave.remote(os.getpid())


class WorkerRegistry:
    """The registry, an actor: the host of each place, started when it is first asked for.

    Args:
        splits: a reference into Ray's object store, wrapped in a list: Ray would otherwise pass the
            object itself.
        worker_settings: the same of the worker settings.
    """

    def __init__(self, splits: list[Any], worker_settings: list[Any], resources: Resources) -> None:
        self._given, self._resources = (splits[0], worker_settings[0]), resources
        self._hosts: dict[Place, Any] = {}

    async def worker_of(self, place: Place) -> Any:
        """The host of a place; a new one where it has died, or its GPU has failed."""
        host = self._hosts.get(place)
        if host and not await _works(host) and self._hosts.get(place) is host:
            ray.kill(self._hosts.pop(place))
        if place not in self._hosts:
            self._hosts[place] = self._start(place)
        return self._hosts[place]

    def _start(self, place: Place) -> Any:
        machine, gpus = place
        size = pack_size(node_of(machine), self._resources)
        host = ray.remote(PackedWorkerActor).options(
            num_cpus=0, scheduling_strategy=_on(machine), runtime_env={"env_vars": ONE_ARENA}
        )
        return host.remote(*self._given, gpus, size)


async def _works(host: Any) -> bool:
    try:
        return bool(await host.works.remote())
    except RayActorError:
        return False


class PackedWorkerActor:
    """The process that trains the pack of a place, an actor. It asks Ray for nothing: the proxies
    have asked for it.

    Args:
        gpus: Ray's IDs of the place's GPUs.
        size: trials that may come at once.
    """

    def __init__(
        self, splits: Splits, worker_settings: WorkerSettings, gpus: tuple[str, ...], size: int
    ) -> None:
        # as Ray does it for a process that has asked for them; CUDA reads it at its first call
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        with fewer_collections():
            from imbtune.search.packing.packed_worker import PackedWorker
            from imbtune.search.worker.gpu_memory import explained
            from imbtune.search.worker.trial_runner import TrialRunner, prepare

        worker_settings = replace(worker_settings, threads=worker_settings.threads * size)
        with explained(worker_settings.gpus):
            data = prepare(splits, worker_settings, bool(gpus), size)
        node = ray.get_runtime_context().get_node_id()

        def make(config: dict[str, Any]) -> TrialRunner:
            return TrialRunner(worker_settings, data, node, config)

        self._pack = PackedWorker(make, data.device, worker_settings.gpus, _lives)

    async def step(self, seat: int, begins: dict[str, Any] | None) -> dict[str, Any]:
        """The next report of the seat's trial; `begins`, the config of a new one."""
        return await asyncio.wrap_future(self._pack.step(seat, begins))

    async def leave(self, seat: int) -> None:
        """Free the seat."""
        self._pack.leave(seat)

    async def works(self) -> bool:
        """Whether trials can still be trained here."""
        return self._pack.broken is None


@contextmanager
def packed(splits: Splits, worker_settings: WorkerSettings, resources: Resources) -> Iterator[Any]:
    """The trainable of packed trials, for Tune; their hosts end with the block."""
    here = _on(ray.get_runtime_context().get_node_id())  # it lives as long as the driver's machine
    registry: Any = ray.remote(WorkerRegistry).options(num_cpus=0, scheduling_strategy=here)
    hosts = registry.remote([ray.put(splits)], [ray.put(worker_settings)], resources)
    try:
        yield tune.with_parameters(PackedTrial, hosts=hosts)
    finally:
        ray.kill(hosts)


def _on(machine: str) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(machine, soft=False)


def _lives(pid: int) -> bool:
    """Whether a process of this machine has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
