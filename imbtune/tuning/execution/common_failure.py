"""Ends a run whose trials fail for one reason while none is healthy, before the rest fail too."""

from __future__ import annotations

import sys

from ray.tune import Stopper

from imbtune.errors import StudyError
from imbtune.study.evidence import is_above
from imbtune.study.hints import divergence_fix, retry_fix
from imbtune.study.records import DIVERGED_KIND, kind_of
from imbtune.study.request import SEARCH, SearchRequest
from imbtune.tuning.execution.events import TrialCallback
from imbtune.tuning.execution.failures import Failure
from imbtune.tuning.messages import TrialReport, TrialSpec, TuneDict

ENOUGH = 5  # trials that fail for one reason while no trial is healthy
Key = tuple[int, bool]  # a trial: of a calibration's two runs of one number, one has no rungs


class CommonFailureError(StudyError):
    """Trials failed for one reason, and no other trial was healthy."""


class CommonFailure(Stopper, TrialCallback):
    """Watches the trials of Ray Tune, and stops all of them where they fail for one reason.

    It stops none as long as one is healthy:

    - it has ended without failing, with a score above chance;
    - it is running and has been trained for more epochs than every trial that failed;
    - it is running and has scored above chance, which no trial that failed did.

    A trial that ended at chance is not healthy: settings with which the others diverge make it
    predict the same for every image, and ASHA often stops it before it diverges, too.

    It also prints the traceback of an error that is a bug: once, not for each trial.

    Args:
        trials: the most that there will be; `ENOUGH` or fewer are all trained. The runs of a
            calibration or a comparison count as trials here.
        chance: the score of a model that predicts the same for every image; None where any trial
            that ends without failing is healthy.
        has_healthy: whether an earlier command has trained a healthy trial of the study.
    """

    def __init__(self, trials: int, chance: float | None = None, has_healthy: bool = False) -> None:
        self._can_stop, self._failed, self._first = trials > ENOUGH, 0, ""
        self._kinds: set[str] = set()
        self._running: dict[Key, int] = {}  # epochs that each running trial was trained for
        self._at_rung: dict[Key, list[float]] = {}  # scores, if a trial's last report has a rung
        self._chance, self._above = chance, set[Key]()  # running trials that scored above chance
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

    def check(self, request: SearchRequest) -> None:
        """Raise CommonFailureError, with what to do, if the trials were stopped."""
        if not self.stop_all():
            return
        path, fix = request.path, retry_fix(request)
        if self._kinds == {DIVERGED_KIND}:
            fix = divergence_fix(request, has_trials_left=True)
        trials = "trials" if request.purpose == SEARCH else "runs"
        failed = f"all {self._failed} {trials} of {path} that ended failed, for one reason"
        if others := self._ended_at_chance:
            failed = (
                f"of the {self._failed + others} {trials} of {path} that ended, {others} scored no "
                "better than a model that predicts the same for every image, and "
                f"{self._failed} failed, for one reason"
            )
        raise CommonFailureError(f"{failed} ({self._first}): {fix}")

    def reported(self, spec: TrialSpec, report: TrialReport) -> None:
        """Count the trial's epochs, and its trials that diverged."""
        key = _key(spec, spec.number)
        epochs = self._running.get(key, 0) + len(report.epochs)
        self._running[key] = max(epochs, report.trained)
        self._at_rung[key] = report.scores()
        above = [rung.trial for rung in report.rung if self._is_above(rung.score)]
        self._above |= {_key(spec, number) for number in above}
        for number, reason in report.diverged.items():
            self._add(kind_of(reason, has_diverged=True), reason, {_key(spec, number)})
        if report.has_failed:
            self._end(spec)

    def completed(self, spec: TrialSpec) -> None:
        """Note that a trial ended well or at chance; one that diverged has been counted already.

        One that ended between two rungs was interrupted: how it would have ended is not known.
        """
        key = _key(spec, spec.number)
        if key not in self._running:
            return
        scores = self._at_rung[key]
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
        self._add(kind, failure.reason, _keys(spec))
        self._end(spec)

    def _end(self, spec: TrialSpec) -> None:
        """Note that a trial ended by failing."""
        epochs = self._running.get(_key(spec, spec.number), 0)
        self._most_before_failing = max(self._most_before_failing, epochs)
        self._forget(spec)

    def _forget(self, spec: TrialSpec) -> None:
        self._running.pop(_key(spec, spec.number), None)
        self._at_rung.pop(_key(spec, spec.number), None)
        self._above -= _keys(spec)

    def _add(self, kind: str, reason: str, trials: set[Key]) -> None:
        self._failed += 1
        self._first = self._first or reason
        self._kinds.add(kind)
        self._failed_above |= bool(self._above & trials)
        self._above -= trials

    def _is_above(self, score: float) -> bool:
        return self._chance is not None and is_above(score, self._chance)


def _key(spec: TrialSpec, number: int) -> Key:
    return number, spec.without_rungs


def _keys(spec: TrialSpec) -> set[Key]:
    """The trials of a trunk."""
    return {_key(spec, number) for number in spec.trials}
