"""Optuna's TPE for searches of thousands of trials.

TPE goes through all finished trials for each group of knobs, anew for every trial: with 3,000 of
them that is 0.2 s of the driver's CPU time, and it grows. It splits them into the best, 25 at most,
and the others, and models where each of the two lie; a sample of the others says that as well.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any, cast

from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

KNOWN = 500  # finished trials that it looks at, at most
BEST = 4  # one in so many of them is among the best, the others are spread over the search
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


class ThinnedTPE(TPESampler):
    """TPE that looks at `KNOWN` finished trials. Made for one trial: it reads the study once."""

    _view: Study | None = None

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return super().infer_relative_search_space(self._seen(study), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return super().sample_relative(self._seen(study), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        return super().sample_independent(self._seen(study), trial, name, distribution)

    def _seen(self, study: Study) -> Study:
        if self._view is None:
            self._view = cast(Study, _View(study))
        return self._view


class _View:
    """A study with some of its trials, as far as TPE reads it."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._trials = thinned(study.get_trials(deepcopy=False))

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)


def thinned(trials: Sequence[FrozenTrial], known: int = KNOWN) -> list[FrozenTrial]:
    """The trials in their order, but of the finished ones `known` at most: a quarter the best, and
    the others evenly spread over the rest. A function of the study alone, as a resumed search
    needs it."""
    finished = [trial for trial in trials if trial.state in FINISHED]
    if len(finished) <= known:
        return list(trials)
    ranked = sorted(finished, key=_rank)
    best, rest = ranked[: known // BEST], sorted(ranked[known // BEST :], key=_number)
    wanted = known - len(best)
    spread = [rest[i * len(rest) // wanted] for i in range(wanted)]
    going_on = [trial for trial in trials if trial.state not in FINISHED]
    return sorted([*best, *spread, *going_on], key=_number)


def _rank(trial: FrozenTrial) -> tuple[float, float]:
    """Lower is better: as TPE orders them, a higher rung before a better score."""
    values: Mapping[int, float] = trial.intermediate_values
    budget = max(values, default=0)
    score = values.get(budget, float("-inf"))
    return -budget, -score if score == score else float("inf")  # NaN is last


def _number(trial: FrozenTrial) -> int:
    return trial.number
