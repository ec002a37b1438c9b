"""TPE that looks at some of very many trials: which ones, and that it is Optuna's TPE on those."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from imbtune.search.samplers import make_sampler
from imbtune.search.tpe import BEST, FINISHED, KNOWN, ThinnedTPE, thinned

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
STATES = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED, TrialState.FAIL]
OPTIONS: dict[str, Any] = {"multivariate": True, "group": True, "constant_liar": True, "seed": 3}


def ask(trial: Trial) -> tuple[Any, ...]:
    """A part, and a knob of one of its choices."""
    mix = trial.suggest_categorical("mix", ["none", "mixup", "mamix"])
    omega = trial.suggest_float("omega", 0, 1) if mix == "mamix" else None
    return mix, omega, trial.suggest_float("lr", 0.01, 1, log=True)


def filled(trials: int, seed: int = 0) -> Study:
    """A study of random trials; the last one runs."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed))
    rng = np.random.default_rng(seed)
    for _ in range(trials - 1):
        trial = study.ask()
        _, _, lr = ask(trial)
        score = -abs(np.log(lr / 0.1)) + rng.normal(0, 0.1)
        trial.report(score, 27)
        state = STATES[rng.integers(len(STATES))]
        if state == TrialState.COMPLETE:
            trial.report(score, 81)
        study.tell(trial, score if state == TrialState.COMPLETE else None, state=state)
    ask(study.ask())
    return study


def suggested(study: Study, sampler: TPESampler) -> tuple[Any, ...]:
    study.sampler = sampler
    return ask(study.ask())


def test_the_sampler_of_a_search_is_this_one() -> None:
    assert isinstance(make_sampler("tpe", 0), ThinnedTPE)


def test_with_few_trials_it_is_optunas() -> None:
    ours = suggested(filled(60), ThinnedTPE(**OPTIONS))
    assert ours == suggested(filled(60), TPESampler(**OPTIONS))


def test_with_many_it_is_optunas_on_those_that_it_looks_at() -> None:
    study, few = filled(900), optuna.create_study(direction="maximize")
    kept = thinned(study.get_trials())
    assert sum(trial.state in FINISHED for trial in kept) == KNOWN
    few.add_trials(kept)
    assert suggested(study, ThinnedTPE(**OPTIONS)) == suggested(few, TPESampler(**OPTIONS))
    assert suggested(filled(900), TPESampler(**OPTIONS)) != suggested(few, TPESampler(**OPTIONS))


@given(trials=st.integers(1, 80), known=st.integers(4, 40), seed=st.integers(0, 3))
def test_the_best_stay_and_the_others_are_spread_evenly(trials: int, known: int, seed: int) -> None:
    before = filled(trials, seed).get_trials()
    kept = thinned(before, known)
    numbers = [trial.number for trial in kept]
    assert numbers == sorted(numbers)
    finished = [trial for trial in before if trial.state in FINISHED]
    assert {t.number for t in before if t.state not in FINISHED} <= set(numbers)
    assert sum(trial.state in FINISHED for trial in kept) == min(known, len(finished))
    ranked = sorted(finished, key=quality, reverse=True)
    best = {trial.number for trial in ranked[: known // BEST]}
    assert best <= set(numbers)
    rest = [trial.number in numbers for trial in finished if trial.number not in best]
    step = len(rest) / max(1, known - len(best))
    for i in range(len(rest) + 1):  # of the first i of the rest a share of them stays
        assert abs(sum(rest[:i]) - i / max(1.0, step)) <= 1


def quality(trial: FrozenTrial) -> tuple[int, float]:
    return max(trial.intermediate_values.items())
