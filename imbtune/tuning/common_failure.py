"""Ends a run in which every trial fails for one reason, before the other trials fail too."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial

from imbtune.errors import StudyError
from imbtune.study.hints import resume_command
from imbtune.tuning.messages import TrialReport, TuneDict

ENOUGH = 5  # trials that fail for one reason while no trial is healthy
EXPECTED = "imbtune.errors."  # how the error of a trial begins that is not a bug


class CommonFailure(Stopper, Callback):
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
        self._running: dict[str, int] = {}  # epochs that each running trial was trained for
        self._ended_well, self._most_before_failing = False, 0

    def __call__(self, trial_id: str, result: TuneDict) -> bool:
        """Whether to stop this trial: never."""
        return False

    def stop_all(self) -> bool:
        """Whether to stop all trials."""
        longest = max(self._running.values(), default=0)
        is_healthy = self._ended_well or longest > self._most_before_failing
        for_one_reason = self._failed >= ENOUGH and len(self._kinds) == 1
        return self._can_stop and for_one_reason and not is_healthy

    def check(self, path: str) -> None:
        """Raise StudyError if the trials were stopped.

        Args:
            path: the study's folder or URI.
        """
        if not self.stop_all():
            return
        fix = f"fix the cause, then run {resume_command(path)}"
        if self._kinds == {"diverged"}:
            fix = (
                "search with a lower optimizer.lr and another --name, or try other trials with "
                f"{resume_command(path)}"
            )
        raise StudyError(
            f"all {self._failed} trials of {path} that ended failed, for one reason "
            f"({self._first}): {fix}"
        )

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: TuneDict,
        **info: Any,
    ) -> None:
        report, known = TrialReport.from_tune(result), self._running.get(trial.trial_id, 0)
        self._running[trial.trial_id] = known + len(report.epochs)
        for reason in report.diverged.values():
            self._add("diverged", reason)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        traceback = Path(trial.error_file).read_text(encoding="utf-8")
        error = last_line(trial)
        kind = re.sub(r"\d+", "0", error)  # the same reason with another number is the same
        if kind not in self._kinds and not error.startswith(EXPECTED):
            sys.stderr.write(traceback)
        self._add(kind, error)
        self._end(trial)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        if TrialReport.from_tune(trial.last_result).has_failed:
            self._end(trial)
        else:
            self._ended_well = True

    def _end(self, trial: Trial) -> None:
        """Note that a trial ended by failing."""
        epochs = self._running.pop(trial.trial_id, 0)
        self._most_before_failing = max(self._most_before_failing, epochs)

    def _add(self, kind: str, reason: str) -> None:
        self._failed += 1
        self._first = self._first or reason
        self._kinds.add(kind)


def last_line(trial: Trial) -> str:
    """The last line of the traceback that Tune has just written; `get_error` has none yet."""
    lines = Path(trial.error_file).read_text(encoding="utf-8").strip().splitlines()
    return lines[-1] if lines else "no error was recorded"
