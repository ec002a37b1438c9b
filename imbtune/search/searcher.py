"""Optuna as a Ray Tune searcher, by ask and tell.

Ray's own OptunaSearch tells Optuna COMPLETE, with its low-budget score, for a trial that ASHA
stopped, so that TPE ranks scores of different budgets against each other. Here a stopped trial is
PRUNED with its scores at their budgets, a failed one FAIL, and only a finished one COMPLETE.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import Trial, TrialState
from ray.tune.search import Searcher

from imbtune.errors import unknown
from imbtune.search.space import SearchSpace

SAMPLERS = ("tpe", "random", "qmc")
PRESET = "preset"


def make_sampler(name: str, seed: int) -> BaseSampler:
    """An Optuna sampler by name; ConfigError for one that is not there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "tpe":
            # by groups: knobs that act together are modelled together, whatever else is chosen
            return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
        if name == "random":
            return RandomSampler(seed=seed)
        if name == "qmc":
            return QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
    raise unknown("sampler", name, SAMPLERS)


def trial_seed(study_seed: int, number: int) -> int:
    """The training seed of a trial: a function of the study's seed and the trial's number."""
    return int(np.random.SeedSequence([study_seed, number]).generate_state(1)[0])


class OptunaSearcher(Searcher):
    """Asks an Optuna study for trials, presets first, and tells it how they end.

    Args:
        study: direction maximize; its storage is the record.
        trials: how many to ask for.
        full_budget: epochs of a finished trial.
    """

    def __init__(
        self, study: Study, space: SearchSpace, trials: int, seed: int, full_budget: int
    ) -> None:
        super().__init__(metric="score", mode="max")
        self._study, self._space, self._seed = study, space, seed
        self._left, self._full_budget = trials, full_budget
        self._running: dict[str, Trial] = {}
        self._scored: set[str] = set()  # trials with a rung's score
        for name, params in list(space.presets().items())[:trials]:
            study.enqueue_trial(params, user_attrs={PRESET: name})

    def suggest(self, trial_id: str) -> Any:
        """The next trial: its number, preset and complete settings."""
        if not self._left:
            return Searcher.FINISHED
        self._left -= 1
        trial = self._running[trial_id] = self._study.ask()
        config = self._space.suggest(trial, trial_seed(self._seed, trial.number))
        return {
            "number": trial.number,
            "preset": trial.user_attrs.get(PRESET),
            "settings": config.flat(),
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A rung's score goes to Optuna at its budget in epochs."""
        if "score" in result:
            self._running[trial_id].report(result["score"], step=result["budget"])
            self._scored.add(trial_id)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """The end of a trial, as what it is."""
        trial = self._running.pop(trial_id)
        if error or not result or "score" not in result:
            self._study.tell(trial, state=TrialState.FAIL)
            return
        # Ray passes the result that ends a trial here, and not to on_trial_result
        trial.report(result["score"], step=result["budget"])
        if result["budget"] == self._full_budget:
            self._study.tell(trial, result["score"])
        else:
            self._study.tell(trial, state=TrialState.PRUNED)

    def close(self) -> None:
        """Tell Optuna of trials that the end of the search cut off: none stays RUNNING.

        Those with a rung's score are PRUNED, and TPE learns from them; the others FAIL.
        """
        for trial_id, trial in self._running.items():
            scored = trial_id in self._scored
            self._study.tell(trial, state=TrialState.PRUNED if scored else TrialState.FAIL)
        self._running.clear()

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study's storage is the record."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study's storage is the record."""
