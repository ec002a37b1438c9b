"""Packed trials on Ray: Tune's actor of a trial is a proxy, and a shared worker trains the trials.

There is one packed worker for each GPU, or for each machine where trials have no GPU. Proxies hold
the trials' resources, so that Ray Tune places, stops and reuses them as usual; they do not import
torch. A registry actor, owned by the driver, starts the workers; they end with the driver, whatever
happens to the proxies.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import ray
from ray import tune
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from imbtune.runtime import fewer_collections, limit_thread_spinning
from imbtune.tuning.cluster.connection import node_of
from imbtune.tuning.cluster.resources import Resources, pack_size
from imbtune.tuning.messages import TrialReport, TrialSpec, TuneDict

if TYPE_CHECKING:  # they import torch
    from imbtune.data.splits import Splits
    from imbtune.tuning.worker.trial_runner import TrialRunner, WorkerSettings

# A thread of glibc's malloc uses an arena of its own, which returns memory above 64 MiB to the
# system at every step; with one arena it is kept. Read when a process starts.
ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}


Actor: TypeAlias = Any  # a handle of a Ray actor, whose remote methods Ray does not type


class Location(NamedTuple):
    """Where a packed worker runs: Ray's ID of a machine, and of the GPUs of a trial there."""

    node: str
    gpus: tuple[str, ...]


class PackedTrial(tune.Trainable):
    """Ray Tune's trainable of a trial that a packed worker trains."""

    def setup(self, config: TuneDict, registry: Actor = None) -> None:
        """Find the packed worker of this actor's GPU or machine."""
        context = ray.get_runtime_context()
        gpus = tuple(sorted(context.get_accelerator_ids()["GPU"]))
        self._registry, self._location = registry, Location(context.get_node_id(), gpus)
        self._eta = 0
        self.reset_config(config)

    def reset_config(self, new_config: TuneDict) -> bool:
        """Take another trial; its worker is a new one if the last one has died."""
        assert self._registry
        self._worker, self._eta = ray.get(self._registry.worker_of.remote(self._location))
        self._new_spec: TrialSpec | None = TrialSpec.from_tune(new_config)
        return True

    def step(self) -> TuneDict:
        """The worker's next report."""
        spec, self._new_spec = self._new_spec, None
        report: TrialReport = ray.get(self._worker.step.remote(os.getpid(), spec))
        return report.to_tune(self._eta)

    def cleanup(self) -> None:
        """Free the worker's slot."""
        self._worker.leave.remote(os.getpid())


class WorkerRegistry:
    """An actor that starts the packed worker of each location when it is first asked for.

    Args:
        splits: a reference into Ray's object store, wrapped in a list: Ray would otherwise pass
            the object itself.
        worker_settings: likewise.
        eta: of the rungs.
    """

    def __init__(
        self,
        splits: list[ray.ObjectRef[Any]],
        worker_settings: list[ray.ObjectRef[Any]],
        resources: Resources,
        eta: int,
    ) -> None:
        self._given, self._resources = (splits[0], worker_settings[0]), resources
        self._eta = eta
        self._workers: dict[Location, Actor] = {}

    async def worker_of(self, location: Location) -> tuple[Actor, int]:
        """The worker of a location, and η; a new worker where the last one or its GPU failed."""
        worker = self._workers.get(location)
        if worker and not await _works(worker) and self._workers.get(location) is worker:
            ray.kill(self._workers.pop(location))
        if location not in self._workers:
            self._workers[location] = self._start(location)
        return self._workers[location], self._eta

    def _start(self, location: Location) -> Actor:
        size = pack_size(node_of(location.node), self._resources)
        worker: Actor = ray.remote(PackedWorkerActor).options(
            num_cpus=0,
            scheduling_strategy=_on(location.node),
            runtime_env={"env_vars": ONE_ARENA},
        )
        return worker.remote(*self._given, location.gpus, size)


async def _works(worker: Actor) -> bool:
    try:
        return bool(await worker.works.remote())
    except RayActorError:
        return False


class PackedWorkerActor:
    """The process that trains the trials of a location.

    It asks Ray for no resources: the proxies have asked for them.

    Args:
        gpus: Ray's IDs of the location's GPUs.
        size: the most trials at a time.
    """

    def __init__(
        self, splits: Splits, worker_settings: WorkerSettings, gpus: tuple[str, ...], size: int
    ) -> None:
        # as Ray sets it for a process that has asked for GPUs; CUDA reads it at its first call
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        limit_thread_spinning()  # before torch is imported
        with fewer_collections():
            from imbtune.tuning.packing.packed_worker import PackedWorker
            from imbtune.tuning.worker.gpu_memory import explain_out_of_memory
            from imbtune.tuning.worker.machine import this_machine
            from imbtune.tuning.worker.trial_runner import TrialRunner, prepare

        settings = replace(worker_settings, threads=worker_settings.threads * size)
        with explain_out_of_memory(settings.gpus):
            data = prepare(splits, settings, bool(gpus), size)
        machine = this_machine()

        def make(spec: TrialSpec) -> TrialRunner:
            return TrialRunner(settings, data, machine, spec)

        self._pack = PackedWorker(make, data.device, settings.gpus, _is_alive)

    async def step(self, slot: int, new_spec: TrialSpec | None) -> TrialReport:
        """The next report of the slot's trial; `new_spec` begins a new one."""
        return await asyncio.wrap_future(self._pack.step(slot, new_spec))

    async def leave(self, slot: int) -> None:
        """Free the slot."""
        self._pack.leave(slot)

    async def works(self) -> bool:
        """Whether trials can still be trained here."""
        return self._pack.broken is None


@contextmanager
def packed_trainable(
    splits: Splits, worker_settings: WorkerSettings, resources: Resources
) -> Iterator[Any]:
    """The trainable of packed trials, for Ray Tune; their workers end with the block."""
    here = _on(ray.get_runtime_context().get_node_id())  # it lives as long as the driver's machine
    registry: Actor = ray.remote(WorkerRegistry).options(num_cpus=0, scheduling_strategy=here)
    handle = registry.remote(
        [ray.put(splits)], [ray.put(worker_settings)], resources, worker_settings.eta
    )
    try:
        yield tune.with_parameters(PackedTrial, registry=handle)
    finally:
        ray.kill(handle)


def _on(node: str) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node, soft=False)


def _is_alive(pid: int) -> bool:
    """Whether a process of this machine is running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
