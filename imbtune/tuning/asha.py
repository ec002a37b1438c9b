"""Ray Tune's ASHA over rungs, with two exceptions.

The best preset at each rung is never stopped, so that every search has a finished baseline to
compare its winner with. And a small sample of the trials that ASHA would stop runs to the end, so
that a search can measure whether early stopping loses good trials. The later scores of that sample
are not used by ASHA.

Rungs are reported as `rung_time` = η^i, i = 0, 1, …: exactly ASHA's own milestones (grace·η^i with
grace 1), whatever whole epochs the rungs round to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.tune.schedulers import ASHAScheduler

from imbtune.seeds import Purpose, derived_seed
from imbtune.study.journal import RecordedRung
from imbtune.study.records import Cutoff
from imbtune.tuning.messages import RUNG_TIME, SCORE, TrialSpec, TuneDict

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial


@dataclass(frozen=True)
class _RecordedTrial:
    """The attributes of Ray's Trial that the scheduler reads."""

    trial_id: str
    config: TuneDict


class RungScheduler(ASHAScheduler):
    """ASHA that never stops the leading preset, nor a small random sample of other trials.

    Args:
        budgets: the rungs in epochs, rising; the last is the full budget.
        eta: η, the reduction factor.
        never_prune: share of the stopped trials that run to the end all the same, in [0, 1];
            presets do not count.
        seed: of the study; decides which trials they are.

    Attributes:
        cutoffs: by trial number, where ASHA stopped it, or would have stopped it.
    """

    def __init__(
        self, budgets: list[int], eta: int, never_prune: float = 0.05, seed: int = 0
    ) -> None:
        super().__init__(
            time_attr=RUNG_TIME,
            metric=SCORE,
            mode="max",
            max_t=eta ** (len(budgets) - 1),
            grace_period=1,
            reduction_factor=eta,
        )
        self.cutoffs: dict[int, Cutoff] = {}
        self._budgets = {eta**i: budget for i, budget in enumerate(budgets)}  # by rung time
        self._never_prune, self._seed = never_prune, seed
        self._best_preset: dict[int, tuple[float, str]] = {}  # by rung: score and name

    def on_trial_result(
        self, tune_controller: TuneController | None, trial: Trial, result: TuneDict
    ) -> str:
        """ASHA's decision, but CONTINUE for the leading preset and the never-pruned sample."""
        if RUNG_TIME not in result:
            return self.CONTINUE
        spec = TrialSpec.from_tune(trial.config)
        rung, score, number = result[RUNG_TIME], result[SCORE], spec.number
        if number in self.cutoffs and self.cutoffs[number].is_spared:
            return self.CONTINUE if rung < self._max_t else self.STOP
        cutoff = self.cutoff(rung)
        decision: str = super().on_trial_result(tune_controller, trial, result)  # type: ignore[arg-type]
        if rung == self._max_t:
            return decision
        best, leader = self._best_preset.get(rung, (float("-inf"), None))
        # the leader comes again where its first trial failed, and may score a little less
        if spec.preset and (score > best or spec.preset == leader):
            self._best_preset[rung] = score, spec.preset
            return self.CONTINUE
        if decision == self.STOP:
            assert cutoff is not None, "the first trial of a rung goes on"
            is_spared = not spec.preset and self._in_sample(number)
            self.cutoffs[number] = Cutoff(self._budgets[rung], cutoff, is_spared)
            return self.CONTINUE if is_spared else self.STOP
        return decision

    def cutoff(self, rung: int) -> float | None:
        """The score that the next trial must have at a rung to go on; None for its first trial.

        Args:
            rung: as `rung_time`.
        """
        (bracket,) = self._brackets
        cutoff: Any = bracket.cutoff(dict(bracket._rungs).get(rung))
        return None if cutoff is None else float(cutoff)

    def replay(self, rungs: Iterable[RecordedRung]) -> set[int]:
        """Replay recorded rungs to restore ASHA's state.

        Args:
            rungs: in the order in which they were first reported.

        Returns:
            The numbers of the trials that are stopped.
        """
        times = {budget: time for time, budget in self._budgets.items()}
        trials: dict[int, _RecordedTrial] = {}
        stopped = set()
        for rung in rungs:
            if rung.trunk not in trials:
                spec = TrialSpec.single_run(rung.trunk, {}, without_rungs=False, preset=rung.preset)
                trials[rung.trunk] = _RecordedTrial(f"earlier {rung.trunk}", spec.to_tune())
                self.on_trial_add(None, trials[rung.trunk])  # type: ignore[arg-type]
            result = {RUNG_TIME: times[rung.budget], SCORE: rung.score}
            trial: Any = trials[rung.trunk]
            if self.on_trial_result(None, trial, result) == self.STOP:
                stopped.add(rung.trunk)
        return stopped

    def _in_sample(self, number: int) -> bool:
        seed = derived_seed(self._seed, number, Purpose.NEVER_PRUNED)
        return bool(np.random.default_rng(seed).random() < self._never_prune)
