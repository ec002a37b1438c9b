"""As many trials at a time as the cluster has room for: machines join and leave it meanwhile."""

from __future__ import annotations

import math
import time

from ray.tune.search import ConcurrencyLimiter

from imbtune.tuning.cluster.connection import cluster_nodes
from imbtune.tuning.cluster.resources import Resources, capacity

POLL_SECONDS = 5.0  # between two looks at the cluster


class ConcurrencyOfCluster:
    """Adapts the number of trials at a time to the cluster.

    Args:
        limiter: of Ray Tune, which holds the number.
        resources: of each trial; if they do not grow, nothing is changed.
    """

    def __init__(self, limiter: ConcurrencyLimiter, resources: Resources) -> None:
        self._limiter, self._resources, self._looked = limiter, resources, -math.inf

    def stepped(self) -> None:
        """Look at the cluster, every few seconds."""
        if not self._resources.grows or time.monotonic() - self._looked < POLL_SECONDS:
            return
        self._looked = time.monotonic()
        self._limiter.set_max_concurrency(max(1, capacity(cluster_nodes(), self._resources)))
