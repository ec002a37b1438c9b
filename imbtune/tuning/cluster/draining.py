"""Machines that are about to be taken away, and the trials that must leave them.

A preempted spot machine, a Kubernetes pod that ends and Ray's autoscaler drain a node before it
goes. Ray places no new worker on a draining node, and says until when it stays. It neither moves
the workers that are there, nor keeps Ray Tune from giving them another trial.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import ray

POLL_SECONDS = 2.0  # between two looks at the cluster
MARGIN_SECONDS = 20.0  # before a machine goes, within which its trials leave it in any case


def draining_nodes() -> Mapping[str, float]:
    """When each draining machine goes, by Ray's ID of the node.

    Returns:
        Seconds since 1970; infinity for a machine that has no deadline.
    """
    if not ray.is_initialized():
        return {}
    # Ray's own trainer reads it here; there is no public function
    found: Mapping[str, int] = ray._private.state.state.get_draining_nodes()
    return {node: ms / 1000 if ms else math.inf for node, ms in found.items()}


@dataclass(frozen=True)
class _Place:
    """Where a trial runs.

    Attributes:
        node: Ray's ID of the machine.
        is_saved: whether it would lose next to nothing by being moved: it has just started there,
            or it has written the checkpoint of a rung since its report before.
        at_rung: whether its last report was one of a rung, after which it writes a checkpoint.
    """

    node: str
    is_saved: bool
    at_rung: bool


class TrialsToMove:
    """Which trials must leave their machine now.

    They leave a draining machine as soon as they have a checkpoint, and in any case
    `MARGIN_SECONDS` before it goes.
    """

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}
        self._draining: Mapping[str, float] = {}
        self._looked = -math.inf

    def reported(self, trial_id: str, node: str, at_rung: bool) -> None:
        """A trial has reported from a machine."""
        before = self._places.get(trial_id)
        self._places[trial_id] = _Place(node, before is None or before.at_rung, at_rung)

    def ended(self, trial_id: str) -> None:
        """A trial does not run any more, or has lost its worker."""
        self._places.pop(trial_id, None)

    def due(self) -> set[str]:
        """Ray's names of the trials whose workers must be ended now."""
        if time.monotonic() - self._looked >= POLL_SECONDS:
            self._draining, self._looked = draining_nodes(), time.monotonic()
        return self.on(self._draining, time.time()) if self._draining else set()

    def on(self, draining: Mapping[str, float], now: float) -> set[str]:
        """The same for given machines and a given time, in seconds since 1970."""
        return {
            name
            for name, place in self._places.items()
            if place.node in draining
            and (place.is_saved or now >= draining[place.node] - MARGIN_SECONDS)
        }
