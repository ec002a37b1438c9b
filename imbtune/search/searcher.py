"""Optuna as a Ray Tune searcher, by ask and tell.

Ray's own OptunaSearch tells Optuna COMPLETE, with its low-budget score, for a trial that ASHA
stopped, so that TPE ranks scores of different budgets against each other. Here a stopped trial is
PRUNED with its scores at their budgets, a failed one FAIL, and only a finished one COMPLETE.

Optuna's study is also the record that a search is resumed from: every rung that a trial reached
lies in it, with all figures, before anything else is done with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from ray.tune.search import Searcher

from imbtune.config import TrainConfig
from imbtune.late import LATE_CHOICES, acts_late
from imbtune.registry import Value
from imbtune.search.journal import PRESET, RUNG, TRUNK, common_rungs, rungs_of, trunk_of
from imbtune.search.records import RungRecord
from imbtune.search.samplers import LATE, derived_seed, make_sampler, trial_seed
from imbtune.search.space import SearchSpace


class OptunaSearcher(Searcher):
    """Asks an Optuna study for trials, presets first, and tells it how they end.

    Where the space has late variants, what Tune calls a trial is a trunk with several trials of
    ours, which differ in late settings alone.

    Args:
        study: direction maximize; its storage is the record. Trials that it holds already count,
            and those that are RUNNING there go on from their last rung.
        trials: how many there shall be.
        full_budget: epochs of a finished trial.
        trained: epochs that the checkpoint of a trunk has, 0 without one.
    """

    def __init__(
        self,
        study: Study,
        space: SearchSpace,
        trials: int,
        seed: int,
        full_budget: int,
        sampler: str = "tpe",
        trained: Callable[[int], int] = lambda _: 0,
    ) -> None:
        super().__init__(metric="score", mode="max")
        self._trained = trained
        self._study, self._space, self._seed, self._sampler = study, space, seed, sampler
        self._trials, self._full_budget = trials, full_budget
        self._running: dict[str, list[Trial]] = {}
        self._presets = space.presets()
        there = study.get_trials(deepcopy=False)
        self._rungs_seen = max((r.order for t in there for r in rungs_of(t)), default=-1) + 1
        self._unfinished = sorted({trunk_of(t) for t in there if t.state == TrialState.RUNNING})

    def suggest(self, trial_id: str) -> Any:
        """The next trunk: its trials' numbers and complete settings, and where it goes on."""
        there = self._study.get_trials(deepcopy=False)
        if self._unfinished:
            trunk = self._unfinished.pop(0)
        elif (trunk := sum(t.state != TrialState.WAITING for t in there)) >= self._trials:
            return Searcher.FINISHED
        trials, configs = self._take(trunk)
        self._running[trial_id] = trials
        reached = common_rungs([self._frozen(trial) for trial in trials])
        budget = reached[-1][0].budget if reached else 0
        return {
            "number": trunk,
            "preset": trials[0].user_attrs.get(PRESET),
            "trials": [trial.number for trial in trials],
            "settings": [config.flat() for config in configs],
            "reached": budget,
            "images": [rung.images for rung in reached[-1]] if reached else [0] * len(trials),
            "trained": self._trained(trunk) if reached else 0,
            "whole": False,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A rung's scores go to Optuna at their budget in epochs."""
        for row in result.get("rung", ()):
            trial = next(t for t in self._running[trial_id] if t.number == row["trial"])
            rung = RungRecord(self._rungs_seen, **{k: v for k, v in row.items() if k != "trial"})
            trial.set_user_attr(f"{RUNG}{rung.budget}", vars(rung))
            trial.report(rung.score, step=rung.budget)
            self._rungs_seen += 1

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """The end of a trunk, for each of its trials as what it is."""
        if result and not error:  # Ray passes the result that ends a trial here alone
            self.on_trial_result(trial_id, result)
        for trial in self._running.pop(trial_id):
            rungs = rungs_of(self._frozen(trial))
            if error or not rungs:
                self._study.tell(trial, state=TrialState.FAIL)
            elif rungs[-1].budget == self._full_budget:
                self._study.tell(trial, rungs[-1].score)
            else:
                self._study.tell(trial, state=TrialState.PRUNED)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study's storage is the record."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study's storage is the record."""

    def _take(self, trunk: int) -> tuple[list[Trial], list[TrainConfig]]:
        """The trials of a trunk, known ones or new ones, with their configurations.

        A killed search may leave a trunk with fewer trials than it shall have, or a trial without
        all of its settings: what is missing is asked for here, as it would have been.
        """
        trials: list[Trial] = []
        configs: list[TrainConfig] = []
        seed = trial_seed(self._seed, trunk)
        for number in range(trunk, min(trunk + self._space.late_variants, self._trials)):
            self._study.sampler = make_sampler(self._sampler, self._seed, number)
            there = self._study.get_trials(deepcopy=False)
            if number < len(there) and there[number].state == TrialState.RUNNING:
                trial = Trial(self._study, there[number]._trial_id)
            else:
                self._enqueue(number, trunk, trials, configs)
                trial = self._study.ask()
            trials.append(trial)
            configs.append(self._space.suggest(trial, seed))
        return trials, configs

    def _enqueue(
        self, number: int, trunk: int, trials: list[Trial], configs: list[TrainConfig]
    ) -> None:
        """Fix what is not for the sampler to say: a preset, or what a late variant shares."""
        there = self._study.get_trials(deepcopy=False)
        if any(t.state == TrialState.WAITING for t in there):
            return  # of a search that was killed here
        used = {t.user_attrs.get(PRESET) for t in there}
        preset = next((name for name in self._presets if name not in used), None)
        if number > trunk:
            fixed = shared_params(self._space, trials[0].params, configs[0], self._draw(number))
            self._study.enqueue_trial(fixed, user_attrs={TRUNK: trunk})
        elif preset:
            self._study.enqueue_trial(self._presets[preset], user_attrs={PRESET: preset})

    def _draw(self, number: int) -> np.random.Generator:
        return np.random.default_rng(derived_seed(self._seed, number, LATE))

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[trial.number]


def shared_params(
    space: SearchSpace, params: Mapping[str, Any], config: TrainConfig, rng: np.random.Generator
) -> dict[str, Value]:
    """The Optuna parameters that a late variant of `config` takes over: all that act on the trunk.

    Where class weights act late (or not at all), so they must in the variant: their schedule is
    drawn among those that do. Likewise generated images.
    """
    settings = config.flat()
    drawn: dict[str, Value] = {}
    for switch, late in LATE_CHOICES.items():
        choices = [choice for choice in space.possible(switch) if choice in late]
        if acts_late(switch, settings) and choices:
            drawn[switch] = choices[rng.integers(len(choices))]
    free = {
        knob.optuna_name
        for knob in space.knobs
        if acts_late(knob.key, settings)
        and ((switch := f"{knob.slot}.schedule") in drawn or switch not in LATE_CHOICES)
    }
    return {name: value for name, value in params.items() if name not in free} | drawn
