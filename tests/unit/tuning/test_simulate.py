"""Searches in simulated time: against cases worked by hand, and what holds for every search."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, islice, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from imbtune.errors import ConfigError
from imbtune.tuning.asha import RungScheduler
from imbtune.tuning.forecast.simulate import (
    CONTINUE,
    STOP,
    Event,
    Scheduler,
    SimulatedTrial,
    simulate,
)
from imbtune.tuning.messages import TrialSpec, TuneDict

BUDGETS = [1, 3, 9]


def numbered(number: int) -> TuneDict:
    """The config of a trial, as far as a scheduler reads it."""
    return TrialSpec.single_run(number, {}, without_rungs=False).to_tune()


def path(config: Any) -> list[tuple[float, dict[str, Any]]]:
    """The rungs at 1, 3 and 9, each with the configuration's own score."""
    return [
        (cost, {"rung_time": 3**i, "budget": 3**i, "score": config["score"]})
        for i, cost in enumerate(config.get("costs", (1.0, 2.0, 6.0)))
    ]


def configs(scores: list[float], **others: Any) -> list[dict[str, Any]]:
    return [{**numbered(i), "score": s, **others} for i, s in enumerate(scores)]


def brief(events: list[Event]) -> list[tuple[float, float, int, int, str]]:
    return [(e.time, e.compute, e.trial, e.result["budget"], e.decision) for e in events]


def test_one_worker_by_hand() -> None:
    """The second trial is worse than the first at its first rung, the third better throughout."""
    scheduler = RungScheduler(BUDGETS, 3, never_prune=0)
    events = list(simulate(scheduler, configs([0.5, 0.1, 0.9]), path, 1))
    assert brief(events) == [
        (1, 1, 0, 1, CONTINUE),
        (3, 3, 0, 3, CONTINUE),
        (9, 9, 0, 9, STOP),
        (10, 10, 1, 1, STOP),
        (11, 11, 2, 1, CONTINUE),
        (13, 13, 2, 3, CONTINUE),
        (19, 19, 2, 9, STOP),
    ]
    assert [e.ended for e in events] == [e.decision == STOP for e in events]


def test_two_workers_by_hand() -> None:
    """What ends at the same time comes in the order of the trials; a free worker starts at once.

    Trial 1 is stopped at 1, so trial 2 runs from 1; compute counts trial 0's step in progress.
    """
    scheduler = RungScheduler(BUDGETS, 3, never_prune=0)
    events = list(simulate(scheduler, configs([0.5, 0.1, 0.4]), path, 2))
    assert brief(events) == [
        (1, 1 + 1, 0, 1, CONTINUE),
        (1, 2, 1, 1, STOP),
        (2, 2 + 2, 2, 1, CONTINUE),  # 0.4 is above the top third of 0.5 and 0.1, 0.3667
        (3, 4 + 2, 0, 3, CONTINUE),
        (4, 6 + 2, 2, 3, STOP),
        (9, 8 + 5, 0, 9, STOP),  # alone from 4 on
    ]


def test_a_trial_without_a_step_left_has_ended() -> None:
    events = list(simulate(FIFOScheduler(), configs([0.1, 0.2]), path, 2))
    assert all(e.decision == CONTINUE for e in events)
    assert [e.trial for e in events if e.ended] == [0, 1]


def test_an_endless_source_is_asked_for_no_more_than_runs() -> None:
    taken = []

    def source() -> Any:
        for i in count():
            taken.append(i)
            yield {**numbered(i), "score": i}

    list(islice(simulate(FIFOScheduler(), source(), path, 7), 1))
    assert taken == list(range(7))


def test_no_worker() -> None:
    with pytest.raises(ConfigError, match="0 workers: give at least 1"):
        list(simulate(FIFOScheduler(), configs([0.1]), path, 0))


def test_a_scheduler_that_pauses() -> None:
    class Pausing(FIFOScheduler):
        def on_trial_result(self, tune_controller: Any, trial: Any, result: Any) -> str:
            return str(TrialScheduler.PAUSE)

    pausing: Scheduler = Pausing()  # type: ignore[no-untyped-call]
    with pytest.raises(ConfigError, match="PAUSE cannot be simulated"):
        list(simulate(pausing, configs([0.1]), path, 1))


MAKES: list[Callable[[], Scheduler]] = [
    FIFOScheduler,
    lambda: RungScheduler(BUDGETS, 3),
    lambda: RungScheduler(BUDGETS, 3, never_prune=0),
    lambda: ASHAScheduler("budget", "score", "max", max_t=9, grace_period=1, reduction_factor=3),
]


class Watched:
    """A scheduler with a record of what it was told."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.told: list[tuple[str, str]] = []

    def on_trial_add(self, tune_controller: Any, trial: SimulatedTrial) -> None:
        self.told.append((trial.trial_id, "add"))
        self.scheduler.on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        self.told.append((trial.trial_id, "result"))
        return self.scheduler.on_trial_result(tune_controller, trial, result)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self.told.append((trial.trial_id, "complete"))
        self.scheduler.on_trial_complete(tune_controller, trial, result)


costs = st.tuples(*[st.integers(1, 9).map(float)] * 3)
searches = st.lists(st.tuples(st.floats(0, 1), costs), min_size=1, max_size=30)


@given(searches, st.integers(1, 40), st.sampled_from(MAKES))
def test_what_holds_for_every_search(
    drawn: list[tuple[float, tuple[float, ...]]], workers: int, make: Callable[[], Scheduler]
) -> None:
    trials: list[dict[str, Any]] = [
        {**numbered(i), "score": score, "costs": costs} for i, (score, costs) in enumerate(drawn)
    ]
    watched = Watched(make())
    events = list(simulate(watched, trials, path, workers))
    # Every trial starts once, in order, and ends once, after its last result
    assert [t for t, what in watched.told if what == "add"] == [f"t{i}" for i in range(len(drawn))]
    for i in range(len(drawn)):
        mine = [what for trial, what in watched.told if trial == f"t{i}"]
        assert mine == ["add", *["result"] * (len(mine) - 2), "complete"] and len(mine) >= 3
        assert [e.ended for e in events if e.trial == i] == [False] * (len(mine) - 3) + [True]
    # Time and compute never fall; compute is what was trained, and no more than W workers could
    assert all(a.time <= b.time and a.compute <= b.compute for a, b in pairwise(events))
    trained = sum(trials[e.trial]["costs"][BUDGETS.index(e.result["budget"])] for e in events)
    assert events[-1].compute == pytest.approx(trained)
    assert all(e.compute <= workers * e.time + 1e-9 for e in events)
    if workers == 1:
        assert all(e.compute == pytest.approx(e.time) for e in events)
    # No more than W trials run at a time
    ends = {e.trial: e.time for e in events if e.ended}
    first: dict[int, float] = {}
    for e in events:
        first.setdefault(e.trial, e.time - trials[e.trial]["costs"][0])
    for at in set(first.values()):
        assert sum(first[i] <= at < ends[i] for i in first) <= workers


@given(searches, st.integers(1, 40))
def test_without_stopping_it_is_list_scheduling(
    drawn: list[tuple[float, tuple[float, ...]]], workers: int
) -> None:
    """The next trial goes to the worker that is free first: literally."""
    free = [0.0] * workers
    expected = []
    for _, costs in drawn:
        worker = int(np.argmin(free))
        free[worker] += sum(costs)
        expected.append(free[worker])
    trials = [{"score": score, "costs": costs} for score, costs in drawn]
    ends = {e.trial: e.time for e in simulate(FIFOScheduler(), trials, path, workers) if e.ended}
    assert [ends[i] for i in range(len(drawn))] == pytest.approx(expected)


def test_the_same_search_twice() -> None:
    scores = np.random.default_rng(0).random(500).tolist()
    runs = [
        brief(list(simulate(RungScheduler(BUDGETS, 3), configs(scores), path, 8))) for _ in range(2)
    ]
    assert runs[0] == runs[1]
