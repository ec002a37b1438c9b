"""A scheduler in simulated time: which trials run when on W workers, and what becomes of them.

The scheduler is a real one of Ray Tune's interface, called as Ray's own controller calls it; only
the training is made up, and it takes no time. So what is seen here is what a cluster would do, but
for start-up times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import islice
from typing import Any, Protocol

from ray.tune.schedulers import TrialScheduler

from imbtune.errors import ConfigError
from imbtune.tuning.messages import TuneDict

CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP

# What a trial trains for one result: the cost in any unit of time, above 0, and the result
Step = tuple[float, TuneDict]


@dataclass(frozen=True)
class SimulatedTrial:
    """As much of Ray's Trial as a scheduler reads."""

    trial_id: str
    config: TuneDict


class Scheduler(Protocol):
    """As much of Ray's TrialScheduler as is called here; the first argument is None."""

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None: ...

    def on_trial_result(self, tune_controller: Any, trial: Any, result: TuneDict) -> str: ...

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: TuneDict) -> None: ...


@dataclass(frozen=True)
class Event:
    """A result that came in.

    time: since the start, in the unit of the costs. compute: what all workers have trained by then,
    unfinished steps included. trial: its number, from 0 in the order of starting. result: as the
    path has it. decision: of the scheduler. ended: whether the trial is over, because it was
    stopped or had no step left.
    """

    time: float
    compute: float
    trial: int
    result: TuneDict
    decision: str
    ended: bool


def simulate(
    scheduler: Scheduler,
    configs: Iterable[TuneDict],
    path: Callable[[TuneDict], Sequence[Step]],
    workers: int,
) -> Iterator[Event]:
    """Every result of a search, in the order of time.

    Args:
        scheduler: decides after each result whether a trial goes on. One that pauses trials cannot
            be simulated.
        configs: the trials' configurations, taken one by one as workers get free; may be endless.
        path: the steps of a configuration's trial, at least one.
        workers: W, how many trials run at a time, at least 1.

    Yields:
        The events; what happens at the same time, in the order of the trials' numbers.

    Raises:
        ConfigError: no worker, or a decision other than CONTINUE and STOP.
    """
    if workers < 1:
        raise ConfigError(f"{workers} workers: give at least 1")
    source = enumerate(configs)
    running: list[tuple[float, int, SimulatedTrial, Sequence[Step], int]] = []  # by end of a step
    time = compute = 0.0
    while True:
        for number, config in islice(source, workers - len(running)):
            trial, steps = SimulatedTrial(f"t{number}", config), path(config)
            scheduler.on_trial_add(None, trial)
            heappush(running, (time + steps[0][0], number, trial, steps, 0))
        if not running:
            return
        ends, number, trial, steps, at = heappop(running)
        compute += (ends - time) * (len(running) + 1)
        time, result = ends, steps[at][1]
        decision = scheduler.on_trial_result(None, trial, result)
        if decision not in (CONTINUE, STOP):
            raise ConfigError(f"a scheduler that says {decision} cannot be simulated")
        ended = decision == STOP or at + 1 == len(steps)
        if ended:
            scheduler.on_trial_complete(None, trial, result)
        else:
            heappush(running, (time + steps[at + 1][0], number, trial, steps, at + 1))
        yield Event(time, compute, number, result, decision, ended)
