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

ENOUGH = 5  # trials that fail for one reason while none has a score
EXPECTED = "imbtune.errors."  # how the error of a trial begins that is not a bug


class CommonFailure(Stopper, Callback):
    """Watches the trials of Ray Tune, and stops all of them where each fails for one reason.

    It also prints the traceback of an error that is a bug: once, not for each trial.

    Args:
        trials: the most that there will be.
    """

    def __init__(self, trials: int) -> None:
        self._enough, self._has_score = min(ENOUGH, trials), False
        self._failed, self._first = 0, ""
        self._kinds: set[str] = set()

    def __call__(self, trial_id: str, result: TuneDict) -> bool:
        """Whether to stop this trial: never."""
        return False

    def stop_all(self) -> bool:
        """Whether to stop all trials."""
        return self._failed >= self._enough and len(self._kinds) == 1 and not self._has_score

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
        report = TrialReport.from_tune(result)
        self._has_score |= bool(report.rung)
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

    def _add(self, kind: str, reason: str) -> None:
        self._failed += 1
        self._first = self._first or reason
        self._kinds.add(kind)


def last_line(trial: Trial) -> str:
    """The last line of the traceback that Tune has just written; `get_error` has none yet."""
    lines = Path(trial.error_file).read_text(encoding="utf-8").strip().splitlines()
    return lines[-1] if lines else "no error was recorded"
