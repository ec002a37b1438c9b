"""What a search will take: every trial of it in simulated time, under the scheduler of a real one.

Only the training is made up: what a trial costs follows from its configuration and a measured
speed. Configurations come from the searcher of a real search; scores are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle
from math import pi, sin, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from ray.tune.schedulers import FIFOScheduler

from imbtune.config.train_config import TrainConfig
from imbtune.seeds import Purpose, derived_seed
from imbtune.study.records import COMPLETE, RungRecord, TrialRecord
from imbtune.study.request import SearchRequest
from imbtune.training.cost.image_passes import segment_passes
from imbtune.training.cost.timing import Speed
from imbtune.training.phases import Segment
from imbtune.tuning.asha import RungScheduler
from imbtune.tuning.finals import finalists
from imbtune.tuning.forecast.first_configs import draw_configs
from imbtune.tuning.forecast.simulate import Scheduler, Step, simulate
from imbtune.tuning.forecast.trial_speed import Fleet, TrialSpeed, find_trial_speed
from imbtune.tuning.messages import RUNG_TIME, SCORE, TrialSpec, TuneDict
from imbtune.tuning.worker.trial_runner import WorkerSettings

OVERHEAD = 0.05  # seconds of a trial beside its training: what imbtune aims at
# Spearman's ρ between a lower rung and the end: .71 to .91 for finished models of T/9 and T/3
# (docs/benchmarks.md). From hundreds of trials on, what reaches a rung hardly depends on it.
PREDICTS = 0.8
# A sampler that learns hands out better trials than its first, random ones, and more of them pass
# a rung than random ones would. Seen in 30 trials of digits-lt: the median at the first rung rises
# by about a standard deviation behind TPE's first ten trials.
LEARNT, LEARNING = 1.0, 10


@dataclass(frozen=True)
class Plan:
    """What the trials and finals of a search will take.

    Attributes:
        reached: trials by the budget that they reach, in epochs.
        seconds: from the start of the first trial to the end of the finals.
        final_seconds: the finals' part of `seconds`.
        trained_seconds: training time of all trials and final runs together.
        final_runs: their number.
        share: image passes of the trials, as a share of those that full runs of all would take.
    """

    reached: Mapping[int, int]
    seconds: float
    final_seconds: float
    trained_seconds: float
    final_runs: int
    share: float


@dataclass(frozen=True)
class Forecast:
    """What a search would take, and on what machines.

    Attributes:
        request: the options of the search.
        fleet: the machines.
        speed: how fast a trial trains there.
        plan: what the search takes.
    """

    request: SearchRequest
    fleet: Fleet
    speed: TrialSpeed
    plan: Plan

    @property
    def machine_hours(self) -> float:
        """GPU hours, or CPU hours on machines without GPUs, from start to end."""
        return self.plan.seconds / 3600 * self.fleet.units


def forecast_search(
    request: SearchRequest, gpus: int | None, cpus: int | None, study: str | None
) -> Forecast:
    """Simulate a search.

    Args:
        gpus, cpus: in all; None for this machine's, or those of `study`.
        study: folder or URI of a study whose trials' speed is taken; None to measure it here.

    Raises:
        ImbtuneError: no machine that a trial fits, or no way to know its speed there.
    """
    fleet, speed = find_trial_speed(request, gpus, cpus, study)
    costs = Costs(request, speed.speed, speed.counts_K, speed.held_out)
    return Forecast(request, fleet, speed, plan_search(request, costs, fleet.trial.concurrent))


class Cost(NamedTuple):
    """What is trained for a rung, from the one before it on."""

    rung: int
    budget: int
    seconds: float
    passes: int


@dataclass(frozen=True)
class Trunk:
    """A trial, or several late variants on one trunk. whole: a whole run of each, without rungs."""

    preset: str | None
    variants: Sequence[TrainConfig]
    rungs: Sequence[Cost]
    whole: Sequence[Cost]


class Costs:
    """What the trials of a search train.

    Args:
        speed: of a trial beside as many others as there will be.
        counts_K: training images of each class (K,). held: images that a model is scored on.
    """

    def __init__(
        self, request: SearchRequest, speed: Speed, counts_K: NDArray[np.int64], held: int
    ) -> None:
        space = request.space
        self._worker = WorkerSettings(
            request.rungs_kind, request.budgets, space.rungs.eta, space.objective
        )
        self._speed, self._counts_K, self._held = speed, counts_K, held

    def trunk(self, preset: str | None, variants: list[TrainConfig]) -> Trunk:
        """A trial with what it costs."""
        rungs = self._rungs(variants, self._worker.segments(variants, without_rungs=False))
        whole = [
            self._rungs([v], self._worker.segments([v], without_rungs=True))[0] for v in variants
        ]
        return Trunk(preset, variants, rungs, whole)

    def _rungs(self, variants: Sequence[TrainConfig], path: Sequence[Segment]) -> list[Cost]:
        """As a trunk reports them: each when all of its variants are scored there."""
        found = []
        scored = dict.fromkeys((segment.rung for segment in path), 0)
        seconds, passes = OVERHEAD, 0
        for segment, own in zip(path, segment_passes(variants, self._counts_K, path), strict=True):
            images = self._held * (segment.cost + 1)  # after each epoch, and for the score
            if segment.budget == path[-1].budget:
                images += self._held + int(self._counts_K.sum())  # margins
            seconds += self._speed.pass_seconds * own + self._speed.image_seconds * images
            passes += own
            scored[segment.rung] += 1
            if scored[segment.rung] == len(variants):
                found.append(Cost(segment.rung, segment.budget, seconds, passes))
                seconds, passes = 0.0, 0
        return found


def plan_search(
    request: SearchRequest,
    costs: Costs,
    workers: int,
    predicts: float = PREDICTS,
    learnt: float = LEARNT,
) -> Plan:
    """Simulate the trials, then the finals on the same workers.

    Args:
        workers: trials at a time, at least 1.
        predicts: Spearman's ρ between a lower rung's scores and the full budget's, above 0.
        learnt: how much better trials are once the sampler has learnt, in standard deviations of
            random ones; a random one learns nothing.
    """
    budgets, eta = request.budgets, request.space.rungs.eta
    scheduler = RungScheduler(budgets, eta, request.never_prune, request.seed)
    begun: dict[int, Trunk] = {}  # by the number of the first trial on it
    learnt = 0.0 if request.sampler == "random" else learnt
    trials = _trials(request, costs, predicts, learnt, begun)
    reached = dict.fromkeys(budgets, 0)
    finished: list[TrialRecord] = []
    passes, seconds, trained = 0, 0.0, 0.0
    for event in simulate(scheduler, trials, _steps, workers):
        number, cost = event.result["number"], event.result["cost"]
        reached[cost.budget] += len(begun[number].variants)
        passes, seconds, trained = passes + cost.passes, event.time, event.compute
        if cost.budget == budgets[-1]:
            finished += _records(number, begun[number], event.result[SCORE])
    whole = sum(run.passes for trunk in begun.values() for run in trunk.whole)
    runs: list[TuneDict] = [
        {"steps": [(begun[record.trunk].whole[record.number - record.trunk].seconds, {})]}
        for record in finalists(finished, request.finalists)
    ] * request.final_seeds
    without: Scheduler = FIFOScheduler()
    finals = [(event.time, event.compute) for event in simulate(without, runs, _steps, workers)]
    final_seconds, final_trained = finals[-1] if finals else (0.0, 0.0)
    return Plan(
        reached,
        seconds + final_seconds,
        final_seconds,
        trained + final_trained,
        len(runs),
        passes / whole,
    )


def _trials(
    request: SearchRequest,
    costs: Costs,
    predicts: float,
    learnt: float,
    begun: dict[int, Trunk],
) -> Iterator[TuneDict]:
    """Every trial as `simulate` takes it; its trunk goes to `begun`.

    Scores are normal variables: the full budget's, and the same with noise at the rungs below.
    """
    normal = 2 * sin(pi * predicts / 6)  # Pearson's ρ of normal variables with that Spearman's
    noise = sqrt(max(0.0, 1 / normal**2 - 1))
    trunks = [costs.trunk(*each) for each in draw_configs(request)]
    again = cycle([trunk for trunk in trunks if not trunk.preset] or trunks)
    full, eta, number = request.budgets[-1], request.space.rungs.eta, 0
    for trunk in chain(trunks, again):
        left = request.trials - number
        if left < 1:
            return
        if len(trunk.variants) > left:
            trunk = costs.trunk(trunk.preset, list(trunk.variants[:left]))
        begun[number] = trunk
        rng = np.random.default_rng(derived_seed(request.seed, number, Purpose.FORECAST))
        end = rng.standard_normal() + learnt * (number >= LEARNING)
        steps: list[Step] = []
        for cost in trunk.rungs:
            score = float(end + (cost.budget < full) * noise * rng.standard_normal())
            result = {"number": number, "cost": cost, RUNG_TIME: eta**cost.rung, SCORE: score}
            steps.append((cost.seconds, result))
        spec = TrialSpec.single_run(number, {}, without_rungs=False, preset=trunk.preset)
        yield {**spec.to_tune(), "steps": steps}
        number += len(trunk.variants)


def _steps(trial: TuneDict) -> Sequence[Step]:
    steps: Sequence[Step] = trial["steps"]
    return steps


def _records(number: int, trunk: Trunk, score: float) -> list[TrialRecord]:
    """The finished trials of a trunk, as far as finalists are chosen by it."""
    cost = trunk.rungs[-1]
    rung = RungRecord(
        0, "", cost.budget, score, cost.passes, {}, [], {}, "", cost.seconds, threads=1
    )
    return [
        TrialRecord(number + i, number, trunk.preset, COMPLETE, {}, [rung])
        for i in range(len(trunk.variants))
    ]
