"""What happens to trials, as typed messages; and what becomes of a trial whose worker is lost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import ray
from ray.tune import Callback
from ray.tune.experiment import Trial

from imbtune.tuning.cluster.draining import TrialsToMove
from imbtune.tuning.cluster.growth import ConcurrencyOfCluster
from imbtune.tuning.execution.failures import Failure, failure_of, lost_worker
from imbtune.tuning.execution.spec_searcher import SpecSearcher
from imbtune.tuning.messages import TrialReport, TrialSpec, TuneDict

LONGEST_SILENCE = 1800.0  # seconds without a report that are never too long, by default
PAUSE = 5.0  # seconds between two steps of the driver, after which silence is its own fault
PATIENCE = 10  # times the longest silence so far that are not too long


@dataclass(frozen=True)
class FailureLimits:
    """How often a trial is trained again.

    Attributes:
        max_failures: how many workers in a row a trial may lose without reaching another rung.
        trial_timeout: seconds without a report after which a trial's worker is ended; None for
            `LONGEST_SILENCE`, or `PATIENCE` times the longest silence of any trial so far, if that
            is more.
    """

    max_failures: int = 3
    trial_timeout: float | None = None


class TrialCallback:
    """What happens to trials. All methods are called in the driver, one at a time.

    When a trial ends, the scheduler and the searcher are told before `completed` or `failed` is
    called. For the last result of a trial, `reported` is called before the searcher is told.
    """

    def started(self, spec: TrialSpec) -> None:
        """A trial begins, or goes on after its worker was lost."""

    def reported(self, spec: TrialSpec, report: TrialReport) -> None:
        """A worker reported epochs, and perhaps a rung."""

    def completed(self, spec: TrialSpec) -> None:
        """The trial finished its last rung, or ASHA stopped it."""

    def lost(self, spec: TrialSpec, reason: str) -> None:
        """The trial's worker was lost; it is trained again from its last rung."""

    def failed(self, spec: TrialSpec, failure: Failure) -> None:
        """The trial failed for good."""

    def stepped(self) -> None:
        """Tune's event loop has made a step; also while no result comes in."""


class TrialEvents(Callback):
    """Ray Tune's callbacks as messages to the searcher and to `callbacks`.

    A trial fails where it raises an exception. Where its worker is lost, with its process or its
    machine, it is suggested again, and goes on from its last rung. A worker that reports nothing
    for too long is ended, and so is lost. So is one whose machine is about to be taken away.
    """

    def __init__(
        self,
        searcher: SpecSearcher,
        callbacks: Sequence[TrialCallback],
        limits: FailureLimits,
        growth: ConcurrencyOfCluster | None = None,
    ) -> None:
        self._searcher, self._told, self._limits = searcher, callbacks, limits
        self._losses: dict[int, int] = {}  # workers lost in a row, by trial number
        self._silent_since: dict[str, float] = {}  # by Ray's name of the running trials
        self._hung: dict[str, str] = {}  # trials whose worker was ended, and why
        self._hung_before: set[int] = set()  # numbers of trials that hung once
        self._longest_silence = 0.0
        self._stepped = time.monotonic()
        self._moves, self._growth = TrialsToMove(), growth
        self._moved: set[str] = set()  # trials whose worker was ended because its machine goes

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()  # Tune pickles what a Tuner holds, but nothing reads it

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: object
    ) -> None:
        self._silent_since[trial.trial_id] = time.monotonic()
        for callback in self._told:
            callback.started(TrialSpec.from_tune(trial.config))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: TuneDict, **info: object
    ) -> None:
        spec, report = TrialSpec.from_tune(trial.config), TrialReport.from_tune(result)
        now = time.monotonic()
        silence = now - self._silent_since.get(trial.trial_id, now)
        self._longest_silence = max(self._longest_silence, silence)
        self._silent_since[trial.trial_id] = now
        self._moves.reported(trial.trial_id, report.machine.node, bool(report.rung))
        if report.rung or report.is_saved:
            self._losses.pop(spec.number, None)
        for callback in self._told:
            callback.reported(spec, report)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: object
    ) -> None:
        self._silent_since.pop(trial.trial_id, None)
        self._moves.ended(trial.trial_id)
        self._moved.discard(trial.trial_id)
        for callback in self._told:
            callback.completed(TrialSpec.from_tune(trial.config))

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: object
    ) -> None:
        self._silent_since.pop(trial.trial_id, None)
        self._moves.ended(trial.trial_id)
        spec, hung = TrialSpec.from_tune(trial.config), self._hung.pop(trial.trial_id, None)
        reason = hung or lost_worker(trial)
        if reason is None:
            self._give_up(trial, failure_of(trial))
            return
        if trial.trial_id in self._moved:  # no failure: it does not count
            self._moved.remove(trial.trial_id)
            self._searcher.train_again(trial.trial_id)
            for callback in self._told:
                callback.lost(spec, "its machine is about to be taken away")
            return
        losses = self._losses[spec.number] = self._losses.get(spec.number, 0) + 1
        if hung and spec.number in self._hung_before:
            self._give_up(trial, Failure(f"it hung twice: {reason}"))
        elif losses > self._limits.max_failures:
            last = f"{losses} workers in a row were lost, at last: " if losses > 1 else ""
            self._give_up(trial, Failure(last + (reason if last else f"lost its worker: {reason}")))
        else:
            self._hung_before |= {spec.number} if hung else set()
            self._searcher.train_again(trial.trial_id)
            for callback in self._told:
                callback.lost(spec, reason)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: object) -> None:
        self._end_hung(trials)
        self._end_moved(trials)
        if self._growth:
            self._growth.stepped()
        for callback in self._told:
            callback.stepped()

    def _give_up(self, trial: Trial, failure: Failure) -> None:
        self._searcher.give_up(trial.trial_id, failure.reason)
        for callback in self._told:
            callback.failed(TrialSpec.from_tune(trial.config), failure)

    def _end_hung(self, trials: list[Trial]) -> None:
        """End the workers that have reported nothing for too long."""
        usual = max(LONGEST_SILENCE, PATIENCE * self._longest_silence)
        limit = self._limits.trial_timeout or usual
        now = time.monotonic()
        pause, self._stepped = now - self._stepped, now
        if pause > PAUSE:  # the driver waited for its storage, or was stopped
            for name, since in self._silent_since.items():
                self._silent_since[name] = min(now, since + pause)
        late = {name for name, since in self._silent_since.items() if now - since > limit}
        for trial in [t for t in reversed(trials) if t.trial_id in late] if late else ():
            self._hung[trial.trial_id] = f"it reported nothing for {limit:.0f} s"
            del self._silent_since[trial.trial_id]
            if actor := trial.temporary_state.ray_actor:
                ray.kill(actor)

    def _end_moved(self, trials: list[Trial]) -> None:
        """End the workers whose trials must leave their machine, to go on at another one."""
        due = self._moves.due()
        for trial in [t for t in reversed(trials) if t.trial_id in due] if due else ():
            self._moved.add(trial.trial_id)
            self._moves.ended(trial.trial_id)
            if actor := trial.temporary_state.ray_actor:
                ray.kill(actor)
