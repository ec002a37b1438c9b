"""Ends a run in which every trial fails for one reason, before the other trials fail too."""

from __future__ import annotations

import re
import sys

from ray.tune import Stopper

from imbtune.errors import StudyError
from imbtune.study.hints import resume_command
from imbtune.tuning.execution.events import TrialCallback
from imbtune.tuning.execution.failures import Failure
from imbtune.tuning.messages import TrialReport, TrialSpec, TuneDict

ENOUGH = 5  # trials that fail for one reason while no trial is healthy


class CommonFailureError(StudyError):
    """Every trial failed, for one reason."""


class CommonFailure(Stopper, TrialCallback):
    """Watches the trials of Ray Tune, and stops all of them where each fails for one reason.

    It stops none as long as one is healthy: it has ended without failing, or it has been trained
    for more epochs than every trial that failed.

    It also prints the traceback of an error that is a bug: once, not for each trial.

    Args:
        trials: the most that there will be; `ENOUGH` or fewer are all trained.
    """

    def __init__(self, trials: int) -> None:
        self._can_stop, self._failed, self._first = trials > ENOUGH, 0, ""
        self._kinds: set[str] = set()
        self._running: dict[int, int] = {}  # epochs that each running trial was trained for
        self._ended_well, self._most_before_failing = False, 0

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()  # Tune pickles what a Tuner holds, but nothing reads it

    def __call__(self, trial_id: str, result: TuneDict) -> bool:
        """Whether to stop this trial: never."""
        return False

    def stop_all(self) -> bool:
        """Whether to stop all trials."""
        longest = max(self._running.values(), default=0)
        is_healthy = self._ended_well or longest > self._most_before_failing
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
        if self._kinds == {"diverged"}:
            fix = (
                "search with a lower optimizer.lr and another --name, or try other trials with "
                f"{resume_command(path)}"
            )
        raise CommonFailureError(
            f"all {self._failed} trials of {path} that ended failed, for one reason "
            f"({self._first}): {fix}"
        )

    def reported(self, spec: TrialSpec, report: TrialReport) -> None:
        """Count the trial's epochs, and its trials that diverged."""
        self._running[spec.number] = self._running.get(spec.number, 0) + len(report.epochs)
        for reason in report.diverged.values():
            self._add("diverged", reason)
        if report.has_failed:
            self._end(spec)

    def completed(self, spec: TrialSpec) -> None:
        """Note that a trial ended well; one that diverged has been counted already."""
        self._ended_well |= spec.number in self._running

    def failed(self, spec: TrialSpec, failure: Failure) -> None:
        """Count the failure, and print its traceback if it is the first of its kind."""
        kind = re.sub(r"\d+", "0", failure.reason)  # with another number it is the same reason
        if kind not in self._kinds and failure.traceback:
            sys.stderr.write(failure.traceback)
        self._add(kind, failure.reason)
        self._end(spec)

    def _end(self, spec: TrialSpec) -> None:
        """Note that a trial ended by failing."""
        epochs = self._running.pop(spec.number, 0)
        self._most_before_failing = max(self._most_before_failing, epochs)

    def _add(self, kind: str, reason: str) -> None:
        self._failed += 1
        self._first = self._first or reason
        self._kinds.add(kind)
