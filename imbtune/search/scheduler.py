"""Ray Tune's ASHA over rungs, with one exception: the best preset goes on.

Rungs are reported as `rung_time` = η^i, i = 0, 1, …, so that ASHA's own milestones (grace·η^i
with grace 1) fall on them exactly, whatever whole epochs the rungs round to.
"""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import ASHAScheduler

RUNG_TIME, SCORE = "rung_time", "score"


class RungScheduler(ASHAScheduler):
    """ASHA that never stops the preset leading its rung, so every search has a finished baseline.

    Args:
        rungs: how many there are; the last is the full budget.
        eta: η, the reduction factor.
    """

    def __init__(self, rungs: int, eta: int) -> None:
        super().__init__(
            time_attr=RUNG_TIME,
            metric=SCORE,
            mode="max",
            max_t=eta ** (rungs - 1),
            grace_period=1,
            reduction_factor=eta,
        )
        self._best_preset: dict[int, float] = {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """ASHA's decision, but CONTINUE for a preset that is the best preset at its rung so far."""
        decision: str = super().on_trial_result(tune_controller, trial, result)
        if RUNG_TIME not in result or not trial.config["preset"]:
            return decision
        rung, score = result[RUNG_TIME], result[SCORE]
        leads = score > self._best_preset.get(rung, float("-inf"))
        if leads:
            self._best_preset[rung] = score
        return self.CONTINUE if leads and rung < self._max_t else decision
