"""Failed trials that `imbtune resume --retry-failed` trains again, as new trials."""

from __future__ import annotations

from optuna.study import Study
from optuna.trial import TrialState

from imbtune.study.journal import DETAILS, PRESET, RETRY_OF, reason_of


def enqueue_failed(study: Study) -> int:
    """Enqueue the failed trials once more, as new trials; returns how many.

    A trial that diverged is left out, since its configuration is the reason; and so is one that has
    been enqueued again before.
    """
    trials = study.get_trials(deepcopy=False)
    again = {trial.user_attrs.get(RETRY_OF) for trial in trials}
    failed = [t for t in trials if t.state == TrialState.FAIL and not reason_of(t)]
    failed = [trial for trial in failed if trial.number not in again]
    for trial in failed:
        marks = {name: v for name, v in trial.user_attrs.items() if name in (PRESET, DETAILS)}
        study.enqueue_trial(trial.params, user_attrs={**marks, RETRY_OF: trial.number})
    return len(failed)


def retries(study: Study) -> int:
    """How many trials train a failed one again; they come on top of the total."""
    return sum(RETRY_OF in trial.user_attrs for trial in study.get_trials(deepcopy=False))
