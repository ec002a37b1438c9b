"""Ray Tune's ASHA over rungs, with two exceptions: the best preset goes on, and so do a few trials.

Rungs are reported as `rung_time` = η^i, i = 0, 1, …, so that ASHA's own milestones (grace·η^i
with grace 1) fall on them exactly, whatever whole epochs the rungs round to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from ray.tune.schedulers import ASHAScheduler

from imbtune.seeds import Purpose, derived_seed

RUNG_TIME, SCORE = "rung_time", "score"


class RungScheduler(ASHAScheduler):
    """ASHA that never stops the preset leading its rung, and lets a few stopped trials run on.

    The first so that every search has a finished baseline; the second, so that a search can say
    what early stopping cost it. What a rescued trial scores later is no part of any rung.

    Args:
        budgets: the rungs in epochs, rising; the last is the full budget.
        eta: η, the reduction factor.
        rescue: share of the stopped trials that run to the end all the same; presets do not count.
        seed: of the study; decides which ones.
    """

    def __init__(self, budgets: list[int], eta: int, rescue: float = 0.05, seed: int = 0) -> None:
        super().__init__(
            time_attr=RUNG_TIME,
            metric=SCORE,
            mode="max",
            max_t=eta ** (len(budgets) - 1),
            grace_period=1,
            reduction_factor=eta,
        )
        self.rescued: dict[int, int] = {}  # trial number: the budget at which ASHA would stop it
        self._budgets = {eta**i: budget for i, budget in enumerate(budgets)}  # by rung time
        self._rescue, self._seed = rescue, seed
        self._best_preset: dict[int, float] = {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """ASHA's decision, but CONTINUE for the leading preset, and for a rescued trial."""
        if RUNG_TIME not in result:
            return self.CONTINUE
        rung, score, number = result[RUNG_TIME], result[SCORE], trial.config["number"]
        if number in self.rescued:
            return self.CONTINUE if rung < self._max_t else self.STOP
        decision: str = super().on_trial_result(tune_controller, trial, result)
        if rung == self._max_t:
            return decision
        if trial.config["preset"] and score > self._best_preset.get(rung, float("-inf")):
            self._best_preset[rung] = score
            return self.CONTINUE
        if decision == self.STOP and not trial.config["preset"] and self._is_rescued(number):
            self.rescued[number] = self._budgets[rung]
            return self.CONTINUE
        return decision

    def replay(self, rungs: Iterable[tuple[Mapping[str, Any], int, float]]) -> set[int]:
        """Hear again what a search that was cut off had heard.

        Args:
            rungs: a trial's `number` and `preset`, a budget and its score, in the order of then.

        Returns:
            The numbers of the trials that are stopped.
        """
        times = {budget: time for time, budget in self._budgets.items()}
        trials: dict[int, Any] = {}
        stopped = set()
        for config, budget, score in rungs:
            number = config["number"]
            if number not in trials:
                trials[number] = SimpleNamespace(trial_id=f"earlier {number}", config=config)
                self.on_trial_add(None, trials[number])  # type: ignore[arg-type]
            result = {RUNG_TIME: times[budget], SCORE: score}
            if self.on_trial_result(None, trials[number], result) == self.STOP:
                stopped.add(number)
        return stopped

    def _is_rescued(self, number: int) -> bool:
        draw = np.random.default_rng(
            derived_seed(self._seed, number, Purpose.NEVER_PRUNED)
        ).random()
        return bool(draw < self._rescue)
