"""What a search will take: every trial of it in simulated time, under the scheduler of a real one.

Only the training is made up: what a trial costs follows from its configuration and a measured
speed. Configurations come from the searcher of a real search; scores are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle
from math import pi, sin, sqrt
from typing import Any, NamedTuple

import numpy as np
import optuna
from numpy.typing import NDArray
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from imbtune.config.train_config import TrainConfig
from imbtune.search.asha import RUNG_TIME, SCORE, RungScheduler
from imbtune.search.finals import finalists
from imbtune.search.forecast.simulate import Scheduler, Step, simulate
from imbtune.search.optuna_searcher import OptunaSearcher
from imbtune.search.worker.trial_runner import WorkerSettings
from imbtune.seeds import Purpose, derived_seed
from imbtune.study.records import COMPLETE, RungRecord, TrialRecord
from imbtune.study.request import SearchRequest
from imbtune.training.cost.image_passes import path_passes
from imbtune.training.cost.timing import Speed
from imbtune.training.phases import Segment

DRAWN = 500  # configurations; with more trials than that, each of them stands for several
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
    """What a search will take.

    reached: trials by the budget that they reach, in epochs. seconds: from the first trial's start
    to the end of the finals. final_seconds: the finals' part of it. trained_seconds: of all trials
    and final runs, one after another. final_runs: how many. share: image passes of the trials, over
    those of whole runs of all of them.
    """

    reached: Mapping[int, int]
    seconds: float
    final_seconds: float
    trained_seconds: float
    final_runs: int
    share: float


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
        self._course = WorkerSettings(
            request.rungs_kind, request.budgets, space.rungs.eta, space.objective
        )
        self._speed, self._counts_K, self._held = speed, counts_K, held

    def trunk(self, preset: str | None, variants: list[TrainConfig]) -> Trunk:
        """A trial with what it costs."""
        rungs = self._rungs(variants, self._course.path(variants, whole=False))
        whole = [self._rungs([v], self._course.path([v], whole=True))[0] for v in variants]
        return Trunk(preset, variants, rungs, whole)

    def _rungs(self, variants: Sequence[TrainConfig], path: Sequence[Segment]) -> list[Cost]:
        """As a trunk reports them: each when all of its variants are scored there."""
        found = []
        scored = dict.fromkeys((segment.rung for segment in path), 0)
        seconds, passes = OVERHEAD, 0
        for segment, own in zip(path, path_passes(variants, self._counts_K, path), strict=True):
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
    scheduler = RungScheduler(budgets, eta, request.rescue, request.seed)
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
    runs: list[dict[str, Any]] = [
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


def draw_configs(request: SearchRequest) -> list[tuple[str | None, list[TrainConfig]]]:
    """The first trials of a search as its searcher hands them out, with `--sampler random`: the
    preset or None, and a configuration for each late variant."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    drawn = min(request.trials, DRAWN)
    full = request.budgets[-1]
    searcher = OptunaSearcher(study, request.space, drawn, request.seed, full, "random")
    found: list[tuple[str | None, list[TrainConfig]]] = []
    while (asked := searcher.suggest(f"t{len(found)}")) != Searcher.FINISHED:
        variants = [TrainConfig.from_settings(settings) for settings in asked["settings"]]
        found.append((asked["preset"], variants))
    return found


def _trials(
    request: SearchRequest,
    costs: Costs,
    predicts: float,
    learnt: float,
    begun: dict[int, Trunk],
) -> Iterator[dict[str, Any]]:
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
        yield {"number": number, "preset": trunk.preset, "steps": steps}
        number += len(trunk.variants)


def _steps(trial: Mapping[str, Any]) -> Sequence[Step]:
    steps: Sequence[Step] = trial["steps"]
    return steps


def _records(number: int, trunk: Trunk, score: float) -> list[TrialRecord]:
    """The finished trials of a trunk, as far as finalists are chosen by it."""
    cost = trunk.rungs[-1]
    rung = RungRecord(0, "", cost.budget, score, cost.passes, {}, "", cost.seconds, 1)
    return [
        TrialRecord(number + i, number, trunk.preset, COMPLETE, {}, [rung])
        for i in range(len(trunk.variants))
    ]
