"""Reports what Ray's workers train as events of the progress.

How a trial ended is reported by those who know its result: the writers of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from imbtune.config.train_config import TrainConfig
from imbtune.data.splits import Splits
from imbtune.progress.reporter import Reporter
from imbtune.progress.run_events import (
    EpochsTrained,
    Interrupted,
    RungReached,
    RunStarted,
    Step,
)
from imbtune.study.records import summary
from imbtune.training.cost.image_passes import run_passes, segment_passes
from imbtune.training.phases import remaining_segments
from imbtune.tuning.execution.events import TrialCallback
from imbtune.tuning.messages import TrialReport, TrialSpec
from imbtune.tuning.worker.trial_runner import WorkerSettings


class TrialProgress(TrialCallback):
    """Reports runs that start, epochs and rungs.

    Args:
        reporter: gets the events.
        name: the name of a run.
        splits: the data, of which an epoch's image passes follow.
        worker_settings: of the workers, of which the path through the rungs follows.
        cutoff: the score below which ASHA stops the next trial at a rung, by the rung's index; None
            where it stops none.
    """

    def __init__(
        self,
        reporter: Reporter,
        name: Callable[[TrialSpec], str],
        splits: Splits,
        worker_settings: WorkerSettings,
        cutoff: Callable[[int], float | None],
    ) -> None:
        self._reporter, self._name, self._cutoff = reporter, name, cutoff
        self._counts_K: NDArray[np.int64] = splits.counts()
        self._worker = worker_settings
        self._was_interrupted = self._has_told = False
        self._trained: dict[str, int] = {}  # epochs of runs whose reports only say how many

    def started(self, spec: TrialSpec) -> None:
        """Report the run, with what it will train."""
        variants = [TrainConfig.from_settings(settings) for settings in spec.settings]
        run = self._name(spec)
        self._trained.pop(run, None)
        event = RunStarted(
            self._reporter.now(),
            run,
            spec.preset or summary(spec.settings[0]),
            len(variants),
            self._steps(spec, variants),
            float(run_passes(variants[0], self._counts_K)),
        )
        self._reporter.tell(event)

    def reported(self, spec: TrialSpec, report: TrialReport) -> None:
        """Report epochs and rungs."""
        now, run = self._reporter.now(), self._name(spec)
        if report.epochs:
            last = report.epochs[-1]
            event = EpochsTrained(now, run, len(report.epochs), last.epoch, last.loss)
            self._reporter.tell(event)
        elif report.trained:
            new = report.trained - self._trained.get(run, 0)
            self._trained[run] = report.trained
            self._reporter.tell(EpochsTrained(now, run, new, report.trained, report.loss))
        cutoff = None if report.rung_index is None else self._cutoff(report.rung_index)
        for rung in report.rung:
            reached = RungReached(now, run, rung.trial, rung.budget, rung.score, cutoff)
            self._reporter.tell(reached)

    def stepped(self) -> None:
        """Let time go by, and say once that the user interrupted the runs."""
        if self._was_interrupted and not self._has_told:
            self._has_told = True
            self._reporter.tell(Interrupted(self._reporter.now()))
        self._reporter.tick()

    def interrupted(self) -> None:
        """The user interrupts the runs; called by a signal handler, so it only notes it."""
        self._was_interrupted = True

    def _steps(self, spec: TrialSpec, variants: Sequence[TrainConfig]) -> tuple[Step, ...]:
        segments = self._worker.segments(variants, spec.without_rungs)
        if spec.reached_budget:
            segments = remaining_segments(segments, spec.reached_budget, spec.trained_epochs)
        passes = segment_passes(variants, self._counts_K, segments)
        return tuple(
            Step(segment.budget, segment.cost, float(n))
            for segment, n in zip(segments, passes, strict=True)
        )


def trial_name(spec: TrialSpec) -> str:
    """`trial 12`; trials on one trunk have the name of the first one."""
    return f"trial {spec.number}"


def seed_name(spec: TrialSpec) -> str:
    """`trial 12, seed 3`: a trial's run with one of several seeds."""
    return f"trial {spec.number}, seed {spec.settings[0]['seed']}"
