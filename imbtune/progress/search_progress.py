"""The state of long-running work, updated by events alone: it reads no clock, file or terminal."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace

from imbtune.progress.run_events import (
    FINALS,
    FINISHED,
    INTERRUPTED,
    STOPPED,
    TRIALS,
    Downloaded,
    EpochsTrained,
    Event,
    Failures,
    Heartbeat,
    Interrupted,
    RunEnded,
    RungReached,
    RunStarted,
    StageStarted,
    Step,
    WorkEnded,
    WorkerLost,
)
from imbtune.progress.time_left import (
    Measured,
    Pace,
    RunningRun,
    pace_of,
    seconds_left,
    share_going_on,
)

BEATS = 20  # heartbeats in a search: one for every 5 % of its runs
BEAT_SECONDS = (5.0, 600.0)  # between two heartbeats: at least, at most
LIKE = 200  # runs of which the mean is what a new run is expected to take


@dataclass
class Running:
    """A run in training.

    Attributes:
        start: the event with which it began.
        since: when it began, or for the first run of each worker, the stage.
        epochs: that it was trained for since then.
        epoch: the number of the last one.
        last: the highest rung that it reached, since it began.
        loss: of the last epoch, where known.
        measured: of it; None before its first report.
        reported: when it was last reported.
    """

    start: RunStarted
    since: float
    epochs: int = 0
    epoch: int = 0
    last: RungReached | None = None
    loss: float | None = None
    measured: Measured | None = None
    reported: float = 0.0

    @property
    def path(self) -> RunningRun:
        """What it trains, and how far it is."""
        return RunningRun(self.start.steps, self.epochs)

    @property
    def full_budget(self) -> int:
        """Epochs of a whole run; 0 where it is unknown."""
        return max((step.budget for step in self.start.steps), default=0)


@dataclass
class Rung:
    """Where the trials stand at a rung.

    Attributes:
        scored: numbers of the trials that reached it.
        stopped: how many were stopped there.
        cutoff: the score below which ASHA stops the next trial; None where it stops none.
    """

    scored: set[int] = field(default_factory=set)
    stopped: int = 0
    cutoff: float | None = None


class SearchProgress:
    """What a user wants to know of a search, or of other work that trains runs.

    Attributes:
        stage: the stage that runs; None before the first one.
        ended: runs of the stage that have ended, by state; an interrupted one has not.
        running: the runs in training, by name.
        rungs: where trials stand, by budget.
        best: the finished trial with the best score.
        best_preset: the best finished preset.
        failures: how often each error came, by its text.
        finals: the scores of the finals by trial.
        last: the run that ended last.
        is_interrupted: whether the user asked to end.
        download: the file that is being downloaded.
        has_ended: whether the work is done.
    """

    def __init__(self) -> None:
        self.stage: StageStarted | None = None
        self.ended: Counter[str] = Counter()
        self.running: dict[str, Running] = {}
        self.rungs: dict[int, Rung] = {}
        self.best: RunEnded | None = None
        self.best_preset: RunEnded | None = None
        self.failures = Failures()
        self.finals: dict[int, list[float]] = {}
        self.last: RunEnded | None = None
        self.is_interrupted = self.has_ended = False
        self.download: Downloaded | None = None
        self._scores: list[float] = []  # of the finished trials
        self._begun: list[RunningRun] = []  # of the stage
        self._started: Counter[str] = Counter()  # trials by run, of those that have not ended
        self._fresh: list[Measured] = []  # of the first run of each worker, that has ended
        self._others: list[Measured] = []
        self._first_runs: set[str] = set()  # of each worker
        self._has_ended_run = False  # of the stage, in this process
        self._reported = 0.0
        self._full: list[float] = []
        self._pace_before: Pace | None = None
        self._beat, self._beat_done = 0.0, 0

    @property
    def done(self) -> int:
        """Runs of the stage that have ended; interrupted ones have not."""
        return sum(n for state, n in self.ended.items() if state != INTERRUPTED)

    @property
    def total(self) -> int:
        """Runs of the stage; 0 before it."""
        return self.stage.total if self.stage else 0

    @property
    def workers(self) -> int:
        """Runs that are trained at a time, at most; at least 1."""
        return max(1, min(self.stage.workers, self.total)) if self.stage else 1

    @property
    def is_starting(self) -> bool:
        """Whether the workers of the stage start: no run has begun yet."""
        return not (self._begun or self.running or self.has_ended) and self.done < self.total

    @property
    def final_runs(self) -> int:
        """Final runs that follow the stage, if its best trials stay the best."""
        stage, preset = self.stage, self.best_preset
        if not (stage and stage.preset_finals and preset and preset.score is not None):
            return stage.finals if stage else 0
        places = stage.finals // stage.preset_finals - 1
        is_finalist = sum(score > preset.score for score in self._scores) < places
        return stage.finals - stage.preset_finals if is_finalist else stage.finals

    def apply(self, event: Event) -> None:
        """Bring the state up to date."""
        match event:
            case StageStarted():
                self._begin(event)
            case RunStarted():
                self._start(event)
            case EpochsTrained():
                self._train(event)
            case RungReached():
                self._score(event)
            case RunEnded():
                self._end(event, is_earlier=False)
            case WorkerLost():
                self.running.pop(event.run, None)
                self._started.pop(event.run, None)
            case Interrupted():
                self.is_interrupted = True
            case Downloaded():
                is_whole = event.whole is not None and event.size >= event.whole
                self.download = None if is_whole else event
            case Heartbeat():
                self._beat, self._beat_done = event.time, self.done
            case WorkEnded():
                self.has_ended = True
                self.running.clear()
            case _:
                pass

    def is_beat_due(self, now: float) -> bool:
        """Whether a heartbeat is due: another 5 % of the runs has ended, or 10 minutes are over.

        In a short search, 5 seconds must be over, too.
        """
        if self.stage is None or self.has_ended or self.done >= self.total:
            return False
        each = math.ceil(self.total / BEATS)
        least, most = BEAT_SECONDS
        seconds, new = now - self._beat, self.done - self._beat_done
        return (new >= each and seconds >= least) or seconds >= most

    def share(self, budget: int) -> float:
        """The share of the trials that go on after a rung."""
        rung, eta = self.rungs.get(budget, Rung()), self.stage.eta if self.stage else None
        return share_going_on(len(rung.scored), rung.stopped, eta)

    def pace(self) -> Pace | None:
        """How fast the workers are; None where it is not known yet.

        At the start of the finals, it is that of the trials.
        """
        fresh, others = [*self._fresh], [*self._others]
        for name, run in self.running.items():
            if run.measured:
                (fresh if name in self._first_runs else others).append(run.measured)
        return pace_of(fresh, others, self._pace_before) or self._pace_before

    def seconds_left(self, now: float) -> float | None:
        """Expected seconds to the end, later stages included; None where nothing is known yet.

        Args:
            now: in seconds since 1970; the estimate counts down between two reports.
        """
        pace = self.pace()
        if self.stage is None or self.has_ended or pace is None:
            return None
        to_start = self.total - self.done - sum(self._started.values())
        each = max(1.0, sum(self._started.values()) / max(1, len(self._started)))
        shares = {budget: self.share(budget) for budget in self.rungs}
        full = sum(self._full) / len(self._full) if self._full else 0.0
        whole = [RunningRun((Step(0, 1, full),))] if full else []
        found = seconds_left(
            [run.path for run in self.running.values()],
            self._begun or whole,
            max(0.0, to_start / each),
            shares,
            pace,
            self.workers,
            self.final_runs,
            full,
        )
        if found is not None and pace is self._pace_before and not self._reported:
            found += pace.start  # the workers of the finals have not begun yet
        since = max(self._reported, self.stage.time)
        return None if found is None else max(0.0, found - max(0.0, now - since))

    def run_seconds_left(self, running: Running, now: float) -> float | None:
        """Seconds that a run still trains if nothing stops it; None where that is not known yet."""
        pace, path = self.pace(), running.path
        if pace is None or not path.steps:
            return None
        left = (path.whole - path.trained) * pace.per_pass
        return max(0.0, left - max(0.0, now - max(running.reported, running.start.time)))

    def _begin(self, event: StageStarted) -> None:
        is_next = self.stage is not None and self.stage.stage == TRIALS and event.stage == FINALS
        self._pace_before = self.pace() if is_next else None
        self.stage, self.ended = event, Counter()
        self.running, self._begun, self._started = {}, [], Counter()
        self._fresh, self._others, self._first_runs, self._reported = [], [], set(), 0.0
        self._has_ended_run = False
        if event.stage != FINALS:
            self.rungs = {budget: Rung() for budget in event.budgets}
            self.best, self.best_preset, self._scores = None, None, []
            self.failures = Failures()
        for each in event.earlier:
            self._end(each, is_earlier=True)
        self._beat, self._beat_done = event.time, self.done

    def _start(self, event: RunStarted) -> None:
        since = event.time
        if len(self._first_runs) < self.workers:
            self._first_runs.add(event.run)
            if self.stage and not self._has_ended_run:  # after one, a worker need not start
                since = self.stage.time
        self.running[event.run] = Running(event, since)
        self._started[event.run] = event.trials
        self._begun = [*self._begun[-LIKE + 1 :], RunningRun(event.steps)]
        if event.full_passes:
            self._full = [*self._full[-LIKE + 1 :], event.full_passes]

    def _train(self, event: EpochsTrained) -> None:
        running = self.running.get(event.run)
        if running is None:
            return
        before = running.path.trained
        running.epochs += event.epochs
        running.epoch, running.loss = max(running.epoch, event.epoch), event.loss
        new = running.path.trained - before
        if running.measured is None:
            running.measured = Measured(max(0.0, event.time - running.since), new)
        else:
            running.measured = replace(
                running.measured,
                seconds=running.measured.seconds + max(0.0, event.time - running.reported),
                passes=running.measured.passes + new,
            )
        running.reported = event.time
        self._reported = max(self._reported, event.time)

    def _score(self, event: RungReached) -> None:
        if running := self.running.get(event.run):
            is_better = running.last is None or event.score >= running.last.score
            if is_better or event.budget > (running.last.budget if running.last else 0):
                running.last = event
        rung = self.rungs.setdefault(event.budget, Rung())
        rung.scored.add(event.number)
        rung.cutoff = event.cutoff

    def _end(self, event: RunEnded, is_earlier: bool) -> None:
        self.ended[event.state] += 1
        if not is_earlier:
            self.last, self._has_ended_run = event, True
            self._started[event.run] -= 1
            if self._started[event.run] <= 0:
                self._started.pop(event.run)
                self._keep(event.run)
        self.failures.ended(event)
        if self.stage and self.stage.stage == FINALS:
            if event.score is not None and event.state == FINISHED:
                self.finals.setdefault(event.number, []).append(event.score)
            return
        if event.budget and self.stage and self.stage.stage == TRIALS:
            for budget, rung in self.rungs.items():
                if budget <= event.budget:
                    rung.scored.add(event.number)
            if event.state == STOPPED:
                self.rungs.setdefault(event.budget, Rung()).stopped += 1
        if event.state == FINISHED and event.score is not None:
            self._scores.append(event.score)
            if self.best is None or event.score > (self.best.score or 0.0):
                self.best = event
            if event.is_preset and (
                self.best_preset is None or event.score > (self.best_preset.score or 0.0)
            ):
                self.best_preset = event

    def _keep(self, name: str) -> None:
        """Keep what was measured of a run that has ended."""
        run = self.running.pop(name, None)
        if run is None or run.measured is None:
            return
        kept = self._fresh if name in self._first_runs else self._others
        kept.append(run.measured)
        del kept[:-LIKE]
