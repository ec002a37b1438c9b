"""What happens while runs are trained, as typed events.

A run is what one worker trains: a trial of a search (or several trials on one trunk), a final, a
run of a calibration or a comparison, a seed of `imbtune train`. Times are in seconds since 1970
(UTC), budgets in epochs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

TRIALS, FINALS, RUNS, SEEDS = "trials", "finals", "runs", "seeds"  # stages
FINISHED, STOPPED, FAILED, INTERRUPTED = "finished", "stopped", "failed", "interrupted"


@dataclass(frozen=True)
class Step:
    """What a run trains up to one of its scores.

    Attributes:
        budget: of the model that is scored.
        epochs: that are trained since the last score, cool-downs included.
        passes: image passes that these epochs take.
    """

    budget: int
    epochs: int
    passes: float


@dataclass(frozen=True)
class RunEnded:
    """A run ended: of several trials on one trunk, one of them.

    Attributes:
        time: when.
        run: the name of the run, as in `trial 12`; trials on one trunk have that of the first.
        number: of the trial, or of the configuration in a calibration or comparison.
        state: finished, stopped (by ASHA), failed or interrupted.
        score: the last one; None without one.
        budget: at which the score was reached; 0 without one.
        name: the configuration in a few words.
        cutoff: the score below which ASHA stopped it; of a trial of the never-pruned sample, would
            have stopped it. None where ASHA compared nothing.
        never_pruned: the budget at which ASHA would have stopped it; None for the other trials.
        is_preset: whether it is a preset.
        error: why it failed, in one line; None where it did not.
        seconds: that it was trained for, where known.
        retry_of: the number of the failed trial that it repeats; None for most.
    """

    time: float
    run: str
    number: int
    state: str
    score: float | None
    budget: int = 0
    name: str = ""
    cutoff: float | None = None
    never_pruned: int | None = None
    is_preset: bool = False
    error: str | None = None
    seconds: float | None = None
    retry_of: int | None = None


class Failures(Counter[str]):
    """How often each error came in a stage, by its text.

    Without the runs that a later one has repeated without failing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._errors: dict[int, list[str]] = {}  # by the run's number
        self._retry_of: dict[int, int | None] = {}

    def ended(self, event: RunEnded) -> None:
        """Note how a run ended."""
        self._retry_of[event.number] = again = event.retry_of
        if event.state == FAILED:
            error = event.error or "no error was recorded"
            self._errors.setdefault(event.number, []).append(error)
            self[error] += 1
        while event.state in (FINISHED, STOPPED) and again is not None:
            for error in self._errors.pop(again, []):
                self[error] -= 1
            again = self._retry_of.pop(again, None)
        for error in [error for error, count in self.items() if not count]:
            del self[error]


@dataclass(frozen=True)
class StageStarted:
    """The trials of a search begin, or its finals, or the runs of another command.

    Attributes:
        time: when.
        stage: trials, finals, runs (of a calibration or a comparison) or seeds (of a training).
        total: runs in all.
        name: of the study, or the data set.
        path: the study's folder or URI; empty for none.
        workers: runs at a time.
        budgets: the rungs; only the full budget where nothing is stopped.
        eta: η of ASHA, so that 1/η of the trials go on after a rung; None where nothing is stopped.
        objective: what a score measures.
        score_error: standard error of one score, at most; None where unknown.
        resume: the command that goes on with it after Ctrl-C; empty for none.
        finals: runs that are trained after this stage, each for the full budget.
        earlier: runs that ended before this process.
        preset_finals: those of `finals` that are left out where the best preset is among the best
            trials, and so is a finalist anyway.
        fresh_seeds: of the finals, in the order in which a finalist is trained with them.
        ranked_by: of several objectives, the first, which scores and cut-offs are of; else empty.
    """

    time: float
    stage: str
    total: int
    name: str = ""
    path: str = ""
    workers: int = 1
    budgets: tuple[int, ...] = ()
    eta: int | None = None
    objective: str = ""
    score_error: float | None = None
    resume: str = ""
    finals: int = 0
    earlier: tuple[RunEnded, ...] = ()
    preset_finals: int = 0
    fresh_seeds: tuple[int, ...] = ()
    ranked_by: str = ""


@dataclass(frozen=True)
class RunStarted:
    """A worker begins a run, or goes on with one whose worker was lost.

    Attributes:
        time: when.
        run: its name.
        name: the configuration in a few words.
        trials: how many trials it is: those on one trunk are trained together.
        steps: what it trains, if nothing stops it.
        full_passes: image passes of a whole run without lower rungs, as the finals train it.
    """

    time: float
    run: str
    name: str = ""
    trials: int = 1
    steps: tuple[Step, ...] = ()
    full_passes: float = 0.0


@dataclass(frozen=True)
class EpochsTrained:
    """A worker reported epochs of a run.

    Attributes:
        time: when.
        run: its name.
        epochs: how many since its last report.
        epoch: the number of the last one, as a user counts them.
        loss: the mean training loss of the last one; None where it is not reported.
    """

    time: float
    run: str
    epochs: int
    epoch: int
    loss: float | None = None


@dataclass(frozen=True)
class RungReached:
    """A run has a score at a budget.

    Attributes:
        time: when.
        run: its name.
        number: of the trial.
        budget: of the model that was scored.
        score: of it.
        cutoff: the score below which ASHA stops the next trial at this rung; None where nothing is
            stopped.
    """

    time: float
    run: str
    number: int
    budget: int
    score: float
    cutoff: float | None = None


@dataclass(frozen=True)
class WorkerLost:
    """The worker of a run was lost; another one goes on with the run.

    Attributes:
        time: when.
        run: its name.
        reason: why, in a few words.
        text: what happens now.
    """

    time: float
    run: str
    reason: str
    text: str = "another one goes on with it"


@dataclass(frozen=True)
class Interrupted:
    """The user asked to end (Ctrl-C, SIGTERM).

    Attributes:
        time: when.
    """

    time: float


@dataclass(frozen=True)
class Heartbeat:
    """Nothing new, but how far the work is; about every 5 % of the runs, or 10 minutes.

    Attributes:
        time: when.
    """

    time: float


@dataclass(frozen=True)
class Downloaded:
    """A part of a data set was downloaded.

    Attributes:
        time: when.
        file: its name.
        size: bytes so far.
        whole: bytes in all; None where the server does not say.
        seconds: since it began.
    """

    time: float
    file: str
    size: int
    whole: int | None
    seconds: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds to its end at the mean speed so far; None where that is unknown."""
        if not self.whole or not self.size:
            return None
        return self.seconds * max(0, self.whole - self.size) / self.size


@dataclass(frozen=True)
class Message:
    """Something else that the user should know.

    Attributes:
        time: when.
        text: one or several lines.
    """

    time: float
    text: str


@dataclass(frozen=True)
class WorkEnded:
    """The command has done its work, or was interrupted.

    Attributes:
        time: when.
        text: how it ended, in one line.
        is_interrupted: whether the user ended it.
        path: of the study or the folder that it has written.
        winner: number of the winner of a search; None without one.
        score: the winner's, over the fresh seeds, or of one run without finals.
        score_corrected: `score`, corrected for the choice of the winner; None without finals, or
            with one seed.
        low: lower end of the 95 % confidence interval of `score_corrected`, or of `score` where
            that is None; None without finals.
        high: its upper end.
        seeds: fresh seeds of the finals; 0 without finals.
    """

    time: float
    text: str
    is_interrupted: bool = False
    path: str = ""
    winner: int | None = None
    score: float | None = None
    score_corrected: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: int = 0


Event = (
    StageStarted
    | RunStarted
    | EpochsTrained
    | RungReached
    | RunEnded
    | WorkerLost
    | Interrupted
    | Heartbeat
    | Downloaded
    | Message
    | WorkEnded
)
