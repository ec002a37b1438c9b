"""Forecasts how long a search takes, by simulating all of its trials.

The simulation uses the search's own scheduler and the configurations that its searcher suggests.
Only the training is replaced: its time follows from the configuration and a measured speed, and
its scores are random.
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

OVERHEAD = 0.05  # seconds per trial besides its training; imbtune's target
# Spearman's ρ between the scores at a lower rung and at the full budget T: 0.71 to 0.91 for
# finished models of T/9 and T/3 epochs (docs/benchmarks.md). In a search of hundreds of trials, the
# numbers of trials per rung hardly depend on it.
PREDICTS = 0.8
# A learning sampler suggests better trials than its first, random ones, and more of them pass a
# rung. In 30 trials of digits-lt, the median score at the first rung rises by about one standard
# deviation after TPE's first ten trials: the gain, and the trials before it.
LEARNT, LEARNING = 1.0, 10


@dataclass(frozen=True)
class Plan:
    """The forecast cost of a search.

    Attributes:
        reached: the number of trials that reach each rung, by its budget in epochs.
        seconds: from the start of the first trial to the end of the finals.
        final_seconds: the part of `seconds` that the finals take.
        trained_seconds: training time of all trials and final runs, summed.
        final_runs: number of final runs.
        share: image passes of the trials, divided by those of full runs of all trials.
    """

    reached: Mapping[int, int]
    seconds: float
    final_seconds: float
    trained_seconds: float
    final_runs: int
    share: float


@dataclass(frozen=True, repr=False)
class Forecast:
    """The forecast of a search.

    Attributes:
        request: the options of the search.
        fleet: the machines.
        speed: how fast a trial trains on them.
        plan: the cost.
    """

    request: SearchRequest
    fleet: Fleet
    speed: TrialSpeed
    plan: Plan

    @property
    def machine_hours(self) -> float:
        """GPU hours, or CPU hours without GPUs: all of them, from the first trial to the end."""
        return self.plan.seconds / 3600 * self.fleet.units

    def __repr__(self) -> str:
        rungs = ", ".join(f"{n} at {budget}" for budget, n in self.plan.reached.items())
        hours = f"{self.machine_hours:.3g} {'GPU' if self.fleet.gpus else 'CPU'} hours"
        return (
            f"Forecast({self.request.space.name!r}, {self.request.trials} trials): "
            f"{self.plan.seconds / 3600:.3g} h, {hours}; trials per rung: {rungs} epochs"
        )


def forecast_search(
    request: SearchRequest, gpus: int | None, cpus: int | None, study: str | None
) -> Forecast:
    """Simulate a search.

    Args:
        gpus: in total; None for this machine's, or for those that `study` ran on.
        cpus: in total; None as for `gpus`.
        study: folder or URI of a study whose recorded speed is used; None to measure it here.

    Raises:
        ImbtuneError: a trial does not fit on any machine, or its speed cannot be determined.
    """
    fleet, speed = find_trial_speed(request, gpus, cpus, study)
    costs = Costs(request, speed.speed, speed.counts_K, speed.held_out)
    return Forecast(request, fleet, speed, plan_search(request, costs, fleet.trial.concurrent))


class Cost(NamedTuple):
    """The cost of training a trial from one rung to the next.

    Attributes:
        rung: index of the rung that is reached.
        budget: of that rung, in epochs.
        seconds: of training.
        passes: image passes.
    """

    rung: int
    budget: int
    seconds: float
    passes: int


@dataclass(frozen=True)
class Trunk:
    """A trial, or several trials on one trunk, with their costs.

    Attributes:
        preset: name of the preset, or None.
        variants: the configuration of each trial.
        rungs: the cost of each rung, for all trials together.
        whole: for each trial, the cost of a full run without rungs.
    """

    preset: str | None
    variants: Sequence[TrainConfig]
    rungs: Sequence[Cost]
    whole: Sequence[Cost]


class Costs:
    """Computes the costs of trials from their configurations.

    Args:
        request: the options of the search.
        speed: of a trial, with as many other trials running as in the search.
        counts_K: training images of each class (K,).
        held_out: number of validation images.
    """

    def __init__(
        self, request: SearchRequest, speed: Speed, counts_K: NDArray[np.int64], held_out: int
    ) -> None:
        space = request.space
        self._worker = WorkerSettings(
            request.rungs_kind, request.budgets, space.rungs.eta, space.objectives
        )
        self._speed, self._counts_K, self._held_out = speed, counts_K, held_out

    def trunk(self, preset: str | None, variants: list[TrainConfig]) -> Trunk:
        """A trunk with its costs.

        Args:
            preset: name of the preset, or None.
            variants: the configuration of each trial on it.
        """
        rungs = self._rungs(variants, self._worker.segments(variants, without_rungs=False))
        whole = [
            self._rungs([v], self._worker.segments([v], without_rungs=True))[0] for v in variants
        ]
        return Trunk(preset, variants, rungs, whole)

    def _rungs(self, variants: Sequence[TrainConfig], path: Sequence[Segment]) -> list[Cost]:
        """The cost of each rung. A rung is complete when all variants are scored at it."""
        found = []
        scored = dict.fromkeys((segment.rung for segment in path), 0)
        seconds, passes = OVERHEAD, 0
        for segment, added in zip(
            path, segment_passes(variants, self._counts_K, path), strict=True
        ):
            images = self._held_out * (segment.cost + 1)  # scored after each epoch, and at the rung
            if segment.budget == path[-1].budget:
                images += self._held_out + int(self._counts_K.sum())  # for the margins
            seconds += self._speed.pass_seconds * added + self._speed.image_seconds * images
            passes += added
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
        predicts: Spearman's ρ between the scores at a lower rung and at the full budget, above 0.
        learnt: by how many standard deviations the scores rise when the sampler has learnt. It is
            ignored for the random sampler.
    """
    budgets, eta = request.budgets, request.space.rungs.eta
    scheduler = RungScheduler(budgets, eta, request.never_prune, request.seed)
    begun: dict[int, Trunk] = {}  # by the number of its first trial
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
    no_stopping: Scheduler = FIFOScheduler()
    finals = [(event.time, event.compute) for event in simulate(no_stopping, runs, _steps, workers)]
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
    """Yield every trial's config for `simulate`, and add its trunk to `begun`.

    The score at the full budget is a normal variable; at lower rungs, normal noise is added to it.
    """
    normal = 2 * sin(pi * predicts / 6)  # Pearson's ρ of normal variables with this Spearman's ρ
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
    """Records of a trunk's finished trials, with the fields by which finalists are chosen."""
    cost = trunk.rungs[-1]
    rung = RungRecord(
        0, "", cost.budget, score, cost.passes, {}, [], {}, "", cost.seconds, threads=1
    )
    return [
        TrialRecord(number + i, number, trunk.preset, COMPLETE, {}, [rung])
        for i in range(len(trunk.variants))
    ]
