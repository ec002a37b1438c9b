"""Simulates a scheduler of Ray Tune: which trials run when on W workers, and how they end.

The real scheduler is called in the same way as Ray's controller calls it; only the training is
replaced by given times. Start-up times of a cluster are not simulated.
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

# The training for one result: its cost above 0, in any unit of time, and the result
Step = tuple[float, TuneDict]


@dataclass(frozen=True)
class SimulatedTrial:
    """The attributes of Ray's Trial that a scheduler reads."""

    trial_id: str
    config: TuneDict


class Scheduler(Protocol):
    """The methods of Ray's TrialScheduler that are called here, with None as the controller."""

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None: ...

    def on_trial_result(self, tune_controller: Any, trial: Any, result: TuneDict) -> str: ...

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: TuneDict) -> None: ...


@dataclass(frozen=True)
class Event:
    """A result of a trial.

    Attributes:
        time: since the start, in the unit of the costs.
        compute: training time of all workers until then, including unfinished steps.
        trial: its number, from 0 in the order of starting.
        result: of the step.
        decision: of the scheduler.
        ended: whether the trial was stopped or has finished its last step.
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
    """Yield every result of a search, in the order of time.

    Args:
        scheduler: decides after each result whether a trial goes on. One that pauses trials cannot
            be simulated.
        configs: the trials' configurations; the next one is taken when a worker is free. They may
            be infinite.
        path: returns the steps of a configuration's trial, at least one.
        workers: W, how many trials run at a time, at least 1.

    Yields:
        The events; those of the same time by trial number.

    Raises:
        ConfigError: no worker, or a decision other than CONTINUE and STOP.
    """
    if workers < 1:
        raise ConfigError(f"{workers} workers: give at least 1")
    source = enumerate(configs)
    running: list[
        tuple[float, int, SimulatedTrial, Sequence[Step], int]
    ] = []  # by the end of their current step
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
            raise ConfigError(
                f"a scheduler that decides {decision} cannot be simulated: use one that decides "
                "CONTINUE or STOP"
            )
        ended = decision == STOP or at + 1 == len(steps)
        if ended:
            scheduler.on_trial_complete(None, trial, result)
        else:
            heappush(running, (time + steps[at + 1][0], number, trial, steps, at + 1))
        yield Event(time, compute, number, result, decision, ended)
