"""A search with scripted scores: the real searcher, scheduler and journal, without Ray or training.

What runs next follows from the study alone, so that a search which is cut off and resumed anywhere
has the same events ahead of it as one that is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial

from imbtune.spaces.search_space import SearchSpace
from imbtune.spaces.space_file import load_space, parse_space
from imbtune.study.journal import apply_pending_states, recorded_rungs, rungs_of
from imbtune.study.records import Machine, RungRecord
from imbtune.tuning.asha import RungScheduler
from imbtune.tuning.messages import RungReport, TrialReport, TrialSpec, TuneDict
from imbtune.tuning.optuna_searcher import OptunaSearcher

BUDGETS, ETA, SEED = [1, 3, 9], 3, 5
FAILS = 9  # the trial whose trunk leads its first rung, and fails on its way to the second


def tiny_space(late: Any = 1, **fields: Any) -> SearchSpace:
    """Parts, conditional knobs and a range on each scale."""
    content = {
        "data": {"name": "digits"},
        "train": {"epochs": BUDGETS[-1], "weights.schedule": "deferred"},
        "presets": ["erm", "drw"],
        "late_variants": late,
        "knobs": {
            "mix": ["none", "mixup", "mamix"],
            "mix.omega": None,
            "mix.late": ["keep", "stop"],
            "loss": ["ce", "ldam"],
            "weights": ["none", "inverse", "effective_number"],
            "weights.beta": None,
            "weights.schedule": ["always", "deferred", "linear"],
            "optimizer.lr": {"low": 0.02, "high": 0.5, "scale": "log"},
            "schedule.cooldown": {"low": 0.1, "high": 0.6},
        },
    }
    return parse_space("tiny", {**content, **fields})


def score_of(number: int, budget: int, settings: Mapping[str, Any]) -> float:
    """Better with a rate near 0.1 and with mixing; with noise of its own at each rung."""
    noise = np.random.default_rng([number, budget]).normal(0, 0.05)
    near = abs(np.log(settings["optimizer.lr"] / 0.1))
    leads = 0.5 * (number == FAILS)
    return float(0.8 - 0.1 * near + 0.05 * (settings["mix"] != "none") + noise + leads)


class ScriptedSearch:
    """A search, new or resumed, as far as `run` takes it.

    Args:
        loses: whether the worker is lost that trains a trial to its next rung.
    """

    def __init__(
        self,
        study: Study,
        space: SearchSpace,
        trials: int,
        sampler: str = "random",
        concurrent: int = 2,
        never_prune: float = 0.3,
        loses: Callable[[], bool] = bool,
    ) -> None:
        self._loses = loses
        self.study, self.concurrent = study, concurrent
        self.scheduler = RungScheduler(BUDGETS, ETA, never_prune, SEED)
        self.stopped = self.scheduler.replay(recorded_rungs(study))
        apply_pending_states(study, self.stopped, BUDGETS[-1], space.objectives)
        self.searcher = OptunaSearcher(study, space, trials, SEED, BUDGETS[-1], sampler)
        self.given: list[TrialSpec] = []
        self._running: dict[str, Any] = {}

    def run(self) -> None:
        """To the end."""
        while self._fill():
            waiting = self._running.values()
            self._advance(min(waiting, key=lambda trial: (trial.reached, trial.spec.number)))

    def _fill(self) -> bool:
        while len(self._running) < self.concurrent:
            name = f"t{len(self.given)}"
            suggested = self.searcher.suggest(name)
            if suggested is None or suggested == OptunaSearcher.FINISHED:
                break
            spec = TrialSpec.from_tune(suggested)
            self.given.append(spec)
            self._running[name] = SimpleNamespace(
                trial_id=name, config=spec.to_tune(), spec=spec, reached=spec.reached_budget
            )
            self.scheduler.on_trial_add(None, self._running[name])  # type: ignore[arg-type]
        return bool(self._running)

    def _advance(self, trial: Any) -> None:
        """Train to the next rung, and tell everyone as Ray Tune does."""
        spec, name = trial.spec, trial.trial_id
        if self._loses():
            self.searcher.on_trial_complete(name, None, error=True)
            self.searcher.train_again(name)
            del self._running[name]
            return
        rung = BUDGETS.index(trial.reached) + 1 if trial.reached else 0
        budget = trial.reached = BUDGETS[rung]
        if FAILS in spec.trials and rung == 1:
            self.searcher.on_trial_complete(name, None, error=True)
            self.searcher.give_up(name, "ValueError: bad")
            del self._running[name]
            return
        result = rung_result(spec, budget)
        if budget == BUDGETS[-1]:
            self.scheduler.on_trial_complete(None, trial, result)  # type: ignore[arg-type]
        elif self.scheduler.on_trial_result(None, trial, result) == RungScheduler.CONTINUE:
            self.searcher.on_trial_result(name, result)
            return
        self.searcher.on_trial_complete(name, result)
        del self._running[name]


def next_specs(searcher: OptunaSearcher, count: int) -> list[TrialSpec]:
    """The next specs of a search, which has so many left; asked for as t0, t1, …"""
    return [next_spec(searcher, i) for i in range(count)]


def next_spec(searcher: OptunaSearcher, i: int) -> TrialSpec:
    """The next spec of a search that has one left; asked for as t{i}."""
    return TrialSpec.from_tune(searcher.suggest(f"t{i}"))


def rung_result(spec: TrialSpec, budget: int, scored: int | None = None) -> TuneDict:
    """The result of a rung as Ray Tune passes it; with `scored`, of the first trials alone."""
    pairs = list(zip(spec.trials, spec.settings, strict=True))[:scored]
    reports = [rung_report(number, budget, settings) for number, settings in pairs]
    return trial_report(reports, BUDGETS.index(budget), budget == BUDGETS[-1]).to_tune(ETA)


def trial_report(rung: list[RungReport], index: int | None, is_last: bool) -> TrialReport:
    """A worker's report without epochs."""
    return TrialReport([], rung, index, is_last, Machine("here"), 0.0)


def rung_report(number: int, budget: int, settings: Mapping[str, Any]) -> RungReport:
    """A trial at a rung, as a worker reports it."""
    score = score_of(number, budget, settings)
    return scored_rung(number, budget, score)


def scored_rung(number: int, budget: int, score: float) -> RungReport:
    """A trial at a rung with a score."""
    return RungReport(
        trial=number,
        kind="cooldown",
        budget=budget,
        score=score,
        images=100 * budget,
        metrics={"accuracy": score, "worst_class": float(np.sin(9 * score))},
        recall_K=[score, 0.5],
        margins={},
        node="here",
        seconds=1.0,
        threads=1,
    )


def rung_record(
    order: int, budget: int, score: float, images: int = 90, **metrics: float | None
) -> RungRecord:
    """A rung as a study records it."""
    return RungRecord(order, "cooldown", budget, score, images, metrics, [], {}, "n", 1.0, 1)


def told(trial: FrozenTrial) -> list[Any]:
    """All that a study knows of a trial, but for times and the order of rungs."""
    rungs = [(r.budget, r.score, r.images, r.columns()) for r in rungs_of(trial)]
    attributes = {k: v for k, v in trial.user_attrs.items() if not k.startswith("rung ")}
    values = [trial.intermediate_values, trial.values if trial.state.name == "COMPLETE" else None]
    return [trial.number, trial.state.name, trial.params, *values, attributes, rungs]


def reached(number: int, budget: int, score: float) -> TuneDict:
    """The result of a rung at 3 or 9 epochs, as Ray Tune passes it."""
    rung = [scored_rung(number, budget, score)]
    return trial_report(rung, {3: 0, 9: 1}[budget], budget == 9).to_tune(3)


def suggestions(sampler: str, seed: int) -> list[TrialSpec]:
    """What a sampler suggests for 26 trials of cifar10-lt, of which every third is stopped."""
    study = optuna.create_study(direction="maximize")
    searcher = OptunaSearcher(study, load_space("cifar10-lt"), 26, seed, 9, sampler=sampler)
    drawn = []
    for i in range(26):
        drawn.append(spec := next_spec(searcher, i))
        score = float(spec.settings[0]["optimizer.lr"])
        searcher.on_trial_complete(f"t{i}", reached(i, 9 if i % 3 else 3, score))
    return drawn


def pending(sampler: str, many: int) -> list[TrialSpec]:
    """The trials that a sampler suggests after 20 have ended, before another one ends."""
    study = optuna.create_study(direction="maximize")
    searcher = OptunaSearcher(study, load_space("digits-lt"), 100, 0, 9, sampler=sampler)
    for i, spec in enumerate(next_specs(searcher, 20)):
        searcher.on_trial_complete(f"t{i}", reached(i, 9, float(spec.settings[0]["optimizer.lr"])))
    return [next_spec(searcher, 20 + i) for i in range(many)]
