"""The searches that replay.py compares: schedulers, each with rungs of some kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import optuna
from optuna.pruners import HyperbandPruner
from optuna.trial import TrialState
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from recorded import Floats, Recorded, previous_mean

from imbtune.tuning.asha import RungScheduler
from imbtune.tuning.forecast.simulate import CONTINUE, STOP, Scheduler, Step
from imbtune.tuning.messages import RUNG_TIME, SCORE

Make = Callable[[list[int], int, int], Scheduler]


def ours(budgets: list[int], eta: int, seed: int) -> Scheduler:
    """The scheduler of `imbtune search`."""
    return RungScheduler(budgets, eta, seed=seed)


def ours_pruning_all(budgets: list[int], eta: int, seed: int) -> Scheduler:
    """The scheduler of `imbtune search`, without trials that are never pruned."""
    return RungScheduler(budgets, eta, never_prune=0)


def plain_asha(budgets: list[int], eta: int, seed: int) -> Scheduler:
    """Ray's ASHAScheduler, on epochs; its rungs are the lowest budget times η^i."""
    return ASHAScheduler(
        time_attr="epoch",
        metric=SCORE,
        mode="max",
        max_t=budgets[-1],
        grace_period=budgets[0],
        reduction_factor=eta,
    )


def no_stopping(budgets: list[int], eta: int, seed: int) -> Scheduler:
    """A scheduler that trains every trial to the full budget."""
    return FIFOScheduler()


class OptunaHyperband:
    """Optuna's Hyperband pruner with Ray's interface, on an in-memory study with ask and tell."""

    def __init__(self, budgets: list[int], eta: int, seed: int) -> None:
        self._full = budgets[-1]
        pruner = HyperbandPruner(budgets[0], self._full, eta)
        self._study = optuna.create_study(
            study_name=f"replay {seed}",  # the pruner derives a trial's bracket from it
            direction="maximize",
            sampler=optuna.samplers.RandomSampler(seed),
            pruner=pruner,
        )
        self._trials: dict[str, optuna.Trial] = {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._trials[trial.trial_id] = self._study.ask()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        asked = self._trials[trial.trial_id]
        asked.report(result[SCORE], result["epoch"])
        # A trial at the full budget is complete: it cannot be pruned any more
        return STOP if result["epoch"] < self._full and asked.should_prune() else CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        asked = self._trials.pop(trial.trial_id)
        if result["epoch"] == self._full:
            self._study.tell(asked, result[SCORE])
        else:
            self._study.tell(asked, state=TrialState.PRUNED)


@dataclass(frozen=True)
class Contender:
    """One way to search.

    Attributes:
        make: builds the scheduler from the rungs' budgets, η and a seed.
        kind: of the rungs; or `epochs`: a plain run that reports after every epoch.
        rungs: indices of the recorded rungs that it uses.
        eta: the reduction factor η.
        mix: maps the recorded scores at the rungs, (N, R), to those that the scheduler sees.
    """

    make: Make
    kind: str
    rungs: tuple[int, ...] = (0, 1, 2, 3)
    eta: int = 3
    mix: Callable[[Floats], Floats] = field(default=lambda score_NR: score_NR)

    def scheduler(self, recorded: Recorded, seed: int) -> Scheduler:
        """A new scheduler."""
        if self.kind == "epochs":
            return self.make([1, recorded.budgets[-1]], self.eta, seed)
        return self.make([recorded.budgets[r] for r in self.rungs], self.eta, seed)

    def paths(self, recorded: Recorded) -> list[list[Step]]:
        """The steps of every configuration; costs in epochs, the configuration in the results."""
        if self.kind == "epochs":
            budgets = list(range(1, recorded.budgets[-1] + 1))
            cost_NR, score_NR = np.ones_like(recorded.curve_NT), recorded.curve_NT
        else:
            rungs = [*self.rungs]
            budgets = [recorded.budgets[r] for r in rungs]
            cost_NR = recorded.costs(self.kind, rungs)
            score_NR = self.mix(recorded.scores[self.kind][:, rungs])
        return [
            [
                (cost, {"config": n, "epoch": budget, RUNG_TIME: self.eta**rung, SCORE: score})
                for rung, (cost, budget, score) in enumerate(
                    zip(cost_R.tolist(), budgets, score_R.tolist(), strict=True)
                )
            ]
            for n, (cost_R, score_R) in enumerate(zip(cost_NR, score_NR, strict=True))
        ]


COOLDOWN = Contender(ours, "cooldown")
PLAIN, RANDOM = "plain ASHA", "random search"
MAIN: Mapping[str, Contender] = {
    RANDOM: Contender(no_stopping, "prefix", rungs=(3,)),
    PLAIN: Contender(plain_asha, "prefix"),
    "Optuna's Hyperband": Contender(OptunaHyperband, "prefix"),
    "prefix rungs": Contender(ours, "prefix"),
    "cool-down rungs": COOLDOWN,
    "compressed rungs": Contender(ours, "compressed"),
}


def _variants(kind: str, name: str) -> dict[str, Contender]:
    """One kind of rungs with other η, fewer rungs, no never-pruned trials, or averaged scores.

    With η = 9 on neighbouring rungs only 1/9 of the trials continue at each.
    """
    base = Contender(ours, kind)
    return {
        f"{name}, η = 2": replace(base, eta=2),
        f"{name}, from T/9": replace(base, rungs=(1, 2, 3)),
        f"{name}, from T/9, η = 2": replace(base, rungs=(1, 2, 3), eta=2),
        f"{name}, from T/9, η = 9": replace(base, rungs=(1, 2, 3), eta=9),
        f"{name}, T/9 alone, η = 9": replace(base, rungs=(1, 3), eta=9),
        f"{name}, T/3 alone": replace(base, rungs=(2, 3)),
        f"{name}, T/3 alone, η = 9": replace(base, rungs=(2, 3), eta=9),
        f"{name}, no never-pruned trials": replace(base, make=ours_pruning_all),
        f"{name}, mean with the rung before": replace(base, mix=previous_mean),
    }


VARIANTS: Mapping[str, Contender] = {
    "plain ASHA, Ray's grace 1 and η = 4": Contender(plain_asha, "epochs", eta=4),
    "plain ASHA, from T/9": Contender(plain_asha, "prefix", rungs=(1, 2, 3)),
    **_variants("cooldown", "cool-down"),
    **_variants("compressed", "compressed"),
}
ALL: Mapping[str, Contender] = {**MAIN, **VARIANTS}
