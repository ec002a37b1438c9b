"""Ends a run whose trials fail for one reason while none is healthy, before the rest fail too."""

from __future__ import annotations

import sys

from ray.tune import Stopper

from imbtune.errors import StudyError
from imbtune.study.evidence import is_above
from imbtune.study.hints import divergence_fix, resume_command
from imbtune.study.records import DIVERGED_KIND, kind_of
from imbtune.tuning.execution.events import TrialCallback
from imbtune.tuning.execution.failures import Failure
from imbtune.tuning.messages import TrialReport, TrialSpec, TuneDict

ENOUGH = 5  # trials that fail for one reason while no trial is healthy


class CommonFailureError(StudyError):
    """Trials failed for one reason, and no other trial was healthy."""


class CommonFailure(Stopper, TrialCallback):
    """Watches the trials of Ray Tune, and stops all of them where they fail for one reason.

    It stops none as long as one is healthy:

    - it has ended without failing, with a score above chance;
    - it is running and has been trained for more epochs than every trial that failed;
    - it is running and has scored above chance, which no trial that failed did.

    A trial that ended at chance is not healthy: settings with which the others diverge make it
    predict one class only, and ASHA often stops it before it diverges, too.

    It also prints the traceback of an error that is a bug: once, not for each trial.

    Args:
        trials: the most that there will be; `ENOUGH` or fewer are all trained.
        chance: the score of a model that predicts one class only; None where any trial that ends
            without failing is healthy.
        has_healthy: whether an earlier command has trained a healthy trial of the study.
    """

    def __init__(self, trials: int, chance: float | None = None, has_healthy: bool = False) -> None:
        self._can_stop, self._failed, self._first = trials > ENOUGH, 0, ""
        self._kinds: set[str] = set()
        self._running: dict[int, int] = {}  # epochs that each running trial was trained for
        self._at_rung: dict[int, list[float]] = {}  # scores, if a trial's last report has a rung
        self._chance, self._above = chance, set[int]()  # running trials that scored above chance
        self._ended_healthy, self._ended_at_chance = has_healthy, 0
        self._most_before_failing, self._failed_above = 0, False

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()  # Tune pickles what a Tuner holds, but nothing reads it

    def __call__(self, trial_id: str, result: TuneDict) -> bool:
        """Whether to stop this trial: never."""
        return False

    def stop_all(self) -> bool:
        """Whether to stop all trials."""
        is_longest = max(self._running.values(), default=0) > self._most_before_failing
        is_better = bool(self._above) and not self._failed_above
        is_healthy = self._ended_healthy or is_longest or is_better
        for_one_reason = self._failed >= ENOUGH and len(self._kinds) == 1
        return self._can_stop and for_one_reason and not is_healthy

    def check(self, path: str, fix: str = "") -> None:
        """Raise CommonFailureError if the trials were stopped.

        Args:
            path: the study's folder or URI.
            fix: what to do; empty for resuming once the cause is gone.
        """
        if not self.stop_all():
            return
        fix = fix or f"fix the cause, then run {resume_command(path)}"
        if self._kinds == {DIVERGED_KIND}:
            fix = divergence_fix(path, has_trials_left=True)
        failed = f"all {self._failed} trials of {path} that ended failed, for one reason"
        if others := self._ended_at_chance:
            failed = (
                f"of the {self._failed + others} trials of {path} that ended, {others} scored no "
                "better than a model that predicts one class only, and "
                f"{self._failed} failed, for one reason"
            )
        raise CommonFailureError(f"{failed} ({self._first}): {fix}")

    def reported(self, spec: TrialSpec, report: TrialReport) -> None:
        """Count the trial's epochs, and its trials that diverged."""
        self._running[spec.number] = self._running.get(spec.number, 0) + len(report.epochs)
        self._at_rung[spec.number] = [rung.score for rung in report.rung]
        self._above |= {rung.trial for rung in report.rung if self._is_above(rung.score)}
        for number, reason in report.diverged.items():
            self._add(kind_of(reason, has_diverged=True), reason, {number})
        if report.has_failed:
            self._end(spec)

    def completed(self, spec: TrialSpec) -> None:
        """Note that a trial ended well or at chance; one that diverged has been counted already.

        One that ended between two rungs was interrupted: how it would have ended is not known.
        """
        if spec.number not in self._running:
            return
        scores = self._at_rung[spec.number]
        if self._chance is None or not scores or any(map(self._is_above, scores)):
            self._ended_healthy = True
        else:
            self._ended_at_chance += len(scores)
        self._forget(spec)

    def failed(self, spec: TrialSpec, failure: Failure) -> None:
        """Count the failure, and print its traceback if it is the first of its kind."""
        kind = kind_of(failure.reason, has_diverged=False)
        if kind not in self._kinds and failure.traceback:
            sys.stderr.write(failure.traceback)
        self._add(kind, failure.reason, {*spec.trials})
        self._end(spec)

    def _end(self, spec: TrialSpec) -> None:
        """Note that a trial ended by failing."""
        epochs = self._running.get(spec.number, 0)
        self._most_before_failing = max(self._most_before_failing, epochs)
        self._forget(spec)

    def _forget(self, spec: TrialSpec) -> None:
        self._running.pop(spec.number, None)
        self._at_rung.pop(spec.number, None)
        self._above -= {*spec.trials}

    def _add(self, kind: str, reason: str, trials: set[int]) -> None:
        self._failed += 1
        self._first = self._first or reason
        self._kinds.add(kind)
        self._failed_above |= bool(self._above & trials)
        self._above -= trials

    def _is_above(self, score: float) -> bool:
        return self._chance is not None and is_above(score, self._chance)
