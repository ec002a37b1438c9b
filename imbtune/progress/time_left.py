"""How long the rest of the work takes, from what has been trained so far.

The unit is the image pass. The expected passes that are left are those of the running runs, of the
runs that have not started, and of the finals. A run that has not started is as long as the mean of
those that have, and reaches each rung with the share of the trials that went on there so far. The
first few trials say little of that share, so 1/η, which ASHA lets go on in the long run, counts as
much as `PRIOR` trials.

The seconds per pass are those of the runs from their first report on, with all that is trained at
the same time. What a run takes besides, until its first report, is measured apart: for the first
run of each worker, from the start of the stage, as the workers' processes start meanwhile, and for
the others. A worker that has ended its run takes the next one, so near the end of the work some
workers wait for the last runs.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from imbtune.progress.run_events import Step

PRIOR = 3  # trials that the share 1/η counts as
MEASURED = 1.0  # seconds of training without which no pace is known
KEPT = 10.0  # seconds; the first ones of a stage are slow, as other workers still start
ROUNDS = 20  # runs per worker from which on it makes no difference that the last ones end apart


@dataclass(frozen=True)
class Measured:
    """What was measured of a run.

    Attributes:
        before: seconds from its start to its first report; of the first run of each worker, from
            the start of the stage.
        first: image passes in its first report.
        seconds: from its first report to its last one.
        passes: image passes in these reports.
    """

    before: float
    first: float
    seconds: float = 0.0
    passes: float = 0.0


@dataclass(frozen=True)
class Pace:
    """How fast a worker is.

    Attributes:
        per_pass: seconds per image pass.
        per_run: seconds that each run takes besides.
        start: seconds that a stage's new workers take before they train.
    """

    per_pass: float
    per_run: float = 0.0
    start: float = 0.0


def pace_of(
    fresh: Sequence[Measured], others: Sequence[Measured], before: Pace | None = None
) -> Pace | None:
    """The pace of the workers; None where too little was trained to know it.

    Args:
        fresh: the first run of each worker.
        others: the runs after them.
        before: the pace of an earlier stage, which counts as `KEPT` seconds of training.
    """
    every = [*fresh, *others]
    seconds = sum(run.seconds for run in every)
    passes = sum(run.passes for run in every)
    if seconds < MEASURED or passes <= 0:
        return None
    each = seconds / passes
    if before:
        each = (KEPT + seconds) / (KEPT / before.per_pass + passes)

    def besides(runs: Sequence[Measured]) -> float:
        found = [max(0.0, run.before - run.first * each) for run in runs]
        return median(found) if found else 0.0

    return Pace(each, besides(others), besides(fresh))


@dataclass(frozen=True)
class RunningRun:
    """A run in training.

    Attributes:
        steps: what it trains.
        epochs: that it was trained for.
    """

    steps: Sequence[Step]
    epochs: float = 0.0

    @property
    def trained(self) -> float:
        """Image passes so far."""
        passes, epochs = 0.0, self.epochs
        for step in self.steps:
            share = min(1.0, epochs / step.epochs) if step.epochs else 1.0
            passes += share * step.passes
            epochs -= step.epochs
            if epochs <= 0:
                break
        return passes

    @property
    def whole(self) -> float:
        """Image passes of all steps."""
        return sum(step.passes for step in self.steps)

    def expected_left(self, shares: Mapping[int, float]) -> float:
        """Image passes that are expected to be left, as it may be stopped.

        Args:
            shares: of the trials that go on after a rung, by its budget.
        """
        left, likely, epochs = 0.0, 1.0, self.epochs
        for i, step in enumerate(self.steps):
            done = min(1.0, epochs / step.epochs) if step.epochs else 1.0
            left += likely * (1 - done) * step.passes
            is_last = i + 1 == len(self.steps) or self.steps[i + 1].budget == step.budget
            if epochs < step.epochs and not is_last:
                likely *= shares.get(step.budget, 1.0)
            epochs = max(0.0, epochs - step.epochs)
        return left


def share_going_on(scored: int, stopped: int, eta: int | None) -> float:
    """The share of the trials that go on after a rung, by those that reached it."""
    if eta is None:
        return 1.0
    return (scored - stopped + PRIOR / eta) / (scored + PRIOR)


def seconds_left(
    running: Sequence[RunningRun],
    begun: Sequence[RunningRun],
    to_start: float,
    shares: Mapping[int, float],
    pace: Pace,
    workers: int,
    finals: int,
    full_passes: float,
) -> float | None:
    """Expected seconds to the end of the work; None where nothing is known yet.

    Args:
        running: the runs in training.
        begun: the runs that a new one is expected to be like.
        to_start: runs that have not started.
        shares: of the trials that go on after a rung, by its budget.
        pace: of a worker.
        workers: runs at a time, at least 1.
        finals: final runs that follow, on new workers.
        full_passes: image passes of one of them.
    """
    if (to_start and not begun) or (finals and not full_passes):
        return None
    each = [run.expected_left(shares) * pace.per_pass for run in running]
    fresh = [RunningRun(run.steps).expected_left(shares) for run in begun]
    mean = sum(fresh) / len(fresh) * pace.per_pass + pace.per_run if to_start else 0.0
    seconds = until_the_last(each, math.ceil(to_start), mean, workers)
    if finals:
        rounds = math.ceil(finals / workers)
        seconds += pace.start + rounds * (full_passes * pace.per_pass + pace.per_run)
    return seconds if math.isfinite(seconds) else None


def until_the_last(running: Sequence[float], count: int, each: float, workers: int) -> float:
    """Seconds until the last run ends, where a worker that is free takes the next run.

    Args:
        running: seconds left of each run in training.
        count: runs that follow.
        each: seconds of each of them.
        workers: runs at a time, at least 1.
    """
    if count > ROUNDS * workers:
        return (sum(running) + count * each) / workers
    free = [*running, *[0.0] * (workers - len(running))]  # seconds until each worker is free
    heapq.heapify(free)
    for _ in range(count):
        heapq.heapreplace(free, free[0] + each)
    return max(free)
