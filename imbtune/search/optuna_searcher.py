"""Optuna as a Ray Tune searcher, by ask and tell.

Ray's own OptunaSearch tells Optuna COMPLETE, with its low-budget score, for a trial that ASHA
stopped, so that TPE ranks scores of different budgets against each other. Here a stopped trial is
PRUNED with its scores at their budgets, a failed one FAIL, and only a finished one COMPLETE.

Optuna's study is also the record that a search is resumed from: every rung that a trial reached
lies in it, with all figures, before anything else is done with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import FixedTrial, FrozenTrial, Trial, TrialState
from ray.tune.search import Searcher

from imbtune.config.cooldown_only import COOLDOWN_ONLY_SCHEDULES, is_cooldown_only, trunk_settings
from imbtune.config.train_config import TrainConfig
from imbtune.registry import Value
from imbtune.search.samplers import make_sampler
from imbtune.seeds import Purpose, derived_seed, trial_seed
from imbtune.space.search_space import SearchSpace
from imbtune.study.journal import PRESET, RUNG, TRUNK, common_rungs, one_trial, rungs_of, trunk_of
from imbtune.study.records import RungRecord

DRAWS = 20  # of a late variant's choices, before its trunk is held to have no further one


class OptunaSearcher(Searcher):
    """Asks an Optuna study for trials, presets first, and tells it how they end.

    Where the space has late variants, what Tune calls a trial is a trunk with several trials of
    ours, which differ in late settings alone; presets that share a trunk are on one.

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
        self._begun = sum(t.state != TrialState.WAITING for t in there)
        self._waiting = len(there) > self._begun  # of a search that was killed while it asked
        self._used = {t.user_attrs.get(PRESET) for t in there}
        self._rungs_seen = max((r.order for t in there for r in rungs_of(t)), default=-1) + 1
        self._unfinished = sorted({trunk_of(t) for t in there if t.state == TrialState.RUNNING})

    def suggest(self, trial_id: str) -> Any:
        """The next trunk: its trials' numbers and complete settings, and where it goes on."""
        if self._unfinished:
            trunk = self._unfinished.pop(0)
        elif (trunk := self._begun) >= self._trials:
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
            "seconds": [rung.seconds for rung in reached[-1]] if reached else [0.0] * len(trials),
            "trained": self._trained(trunk) if reached else 0,
            "whole": False,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A rung's scores go to Optuna at their budget in epochs."""
        for row in result.get("rung", ()):
            trial = next(t for t in self._running[trial_id] if t.number == row["trial"])
            rung = RungRecord(self._rungs_seen, **{k: v for k, v in row.items() if k != "trial"})
            if rung.budget not in self._frozen(trial).intermediate_values:  # a kill came between
                trial.report(rung.score, step=rung.budget)
            trial.set_user_attr(f"{RUNG}{rung.budget}", vars(rung))
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
            if number < self._begun:  # by an earlier process
                known = one_trial(self._study, number)
                if trunk_of(known) != trunk:
                    break  # this one ended short
                trial = Trial(self._study, known._trial_id)
                if not has_settings(self._space, known):
                    draw_again(trial)
            elif self._enqueue(number, trials, configs):
                trial = self._study.ask()
                self._begun += 1
            else:
                break
            trials.append(trial)
            configs.append(self._space.suggest(trial, seed))
        return trials, configs

    def _enqueue(self, number: int, trials: list[Trial], configs: list[TrainConfig]) -> bool:
        """Fix what is not for the sampler to say: a preset, or what a late variant shares; False
        where the trunk has no further variant."""
        if self._waiting:
            self._waiting = False
            return True
        presets = [name for name in self._presets if name not in self._used]
        if not trials:
            if presets:
                first = presets[0]
                self._study.enqueue_trial(self._presets[first], user_attrs={PRESET: first})
                self._used.add(first)
            return True
        attributes: dict[str, Any] = {TRUNK: trials[0].number}
        if PRESET in trials[0].user_attrs:  # presets keep to themselves, so that all come first
            trunk = trunk_settings(configs[0].replace(seed=0))
            alike = [p for p in presets if trunk_settings(self._space.preset(p)) == trunk]
            fixed = self._presets[alike[0]] if alike else None
            attributes |= {PRESET: alike[0]} if alike else {}
            self._used |= set(alike[:1])
        else:
            fixed = variant_params(self._space, trials[0].params, configs, self._draw(number))
        if fixed is not None:
            self._study.enqueue_trial(fixed, user_attrs=attributes)
        return fixed is not None

    def _draw(self, number: int) -> np.random.Generator:
        return np.random.default_rng(derived_seed(self._seed, number, Purpose.VARIANTS))

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return one_trial(self._study, trial.number)


def has_settings(space: SearchSpace, trial: FrozenTrial) -> bool:
    """Whether a trial was asked for all of its settings."""
    try:
        space.suggest(FixedTrial(trial.params), seed=0)
    except ValueError:
        return False
    return True


def draw_again(trial: Trial) -> None:
    """Let the sampler draw what a trial of an earlier process has, and drop it.

    Draws follow one another, so what the trial lacks is then drawn as it would have been.
    """
    for name, distribution in trial.distributions.items():
        if not (
            trial._is_fixed_param(name, distribution)
            or distribution.single()
            or trial._is_relative_param(name, distribution)
        ):
            frozen = trial._cached_frozen_trial
            trial.study.sampler.sample_independent(trial.study, frozen, name, distribution)


def variant_params(
    space: SearchSpace,
    params: Mapping[str, Any],
    configs: Sequence[TrainConfig],
    rng: np.random.Generator,
) -> dict[str, Value] | None:
    """The Optuna parameters that the next late variant of a trunk has fixed.

    All that acts on the trunk, and its late choices: those are drawn at random, so that it differs
    from the variants before it. Late ranges are left to the sampler.

    Args:
        params: of the first variant. configs: of the variants so far.

    Returns:
        None where no draw gave a variant that the trunk does not have.
    """
    study = optuna.create_study(sampler=RandomSampler(seed=int(rng.integers(2**32))))
    known = [config.flat() for config in configs]
    for _ in range(DRAWS):
        fixed = shared_params(space, params, configs[0], rng)
        study.enqueue_trial(fixed)
        drawn = study.ask()
        settings = space.suggest(drawn, configs[0].seed).flat()
        ranges = [
            name
            for name, distribution in drawn.distributions.items()
            if isinstance(distribution, FloatDistribution)
            and name not in fixed
            and not distribution.single()
        ]
        if ranges or settings not in known:
            return {name: value for name, value in drawn.params.items() if name not in ranges}
    return None


def shared_params(
    space: SearchSpace, params: Mapping[str, Any], config: TrainConfig, rng: np.random.Generator
) -> dict[str, Value]:
    """The Optuna parameters that a late variant of `config` takes over: all that act on the trunk.

    Where class weights act late (or not at all), so they must in the variant: their schedule is
    drawn among those that do. Likewise generated images.
    """
    settings = config.flat()
    drawn: dict[str, Value] = {}
    for switch, late in COOLDOWN_ONLY_SCHEDULES.items():
        choices = [choice for choice in space.possible(switch) if choice in late]
        if is_cooldown_only(switch, settings) and choices:
            drawn[switch] = choices[rng.integers(len(choices))]
    free = {
        knob.optuna_name
        for knob in space.knobs
        if is_cooldown_only(knob.key, settings)
        and ((switch := f"{knob.slot}.schedule") in drawn or switch not in COOLDOWN_ONLY_SCHEDULES)
    }
    return {name: value for name, value in params.items() if name not in free} | drawn
