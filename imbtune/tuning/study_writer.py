"""The callback of a search: turns the reports of trials into the rows of a study.

A trial's row is made from Optuna's journal, which the searcher updates first: Ray Tune tells the
searcher that a trial has ended before it calls callbacks, and a test checks that order
(tests/integration/test_api.py). A resumed search can therefore write the same rows again.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping

from imbtune.errors import StorageError
from imbtune.progress.reporter import Reporter
from imbtune.progress.run_events import RunEnded, WorkerLost
from imbtune.registry import Value
from imbtune.spaces.search_space import SearchSpace
from imbtune.storage import Store
from imbtune.study.checkpoints import delete_checkpoints
from imbtune.study.files import write_traceback
from imbtune.study.journal import Journal, one_trial, trial_record
from imbtune.study.records import STOPPED, WORDS, Cutoff, Row, TrialRecord, summary
from imbtune.study.tables.parquet import Key, Sink, epoch_key
from imbtune.tuning.execution.events import TrialCallback
from imbtune.tuning.execution.failures import Failure
from imbtune.tuning.messages import EpochReport, TrialReport, TrialSpec

FLUSH_SECONDS = 5.0  # between two writes of the rows, and two syncs of the journal
LONGEST_PAUSE = 60.0  # between two tries to write where the storage fails


class StudyWriter(TrialCallback):
    """Sends a study's rows to its `sinks`, and reports how each trial ended.

    Args:
        cutoffs: of the scheduler (:class:`imbtune.tuning.asha.RungScheduler`).
        reporter: gets how each trial ended, and what goes wrong.
        epochs: the rows that the epochs' table has of each interrupted trunk.

    Attributes:
        sinks: where rows go.
        settings: settings and preset of running trials by number, for W&B.
    """

    def __init__(
        self,
        journal: Journal,
        store: Store,
        space: SearchSpace,
        seed: int,
        cutoffs: Mapping[int, Cutoff],
        reporter: Reporter,
        epochs: Mapping[int, set[Key]],
    ) -> None:
        self.sinks: list[Sink] = []
        self.settings: dict[int, Mapping[str, Value | None]] = {}
        self._epochs = dict(epochs)  # sent rows of the running trunks
        self._warned: set[str] = set()
        self._journal, self._store, self._space, self._seed = journal, store, space, seed
        self._flushed, self._pause = time.monotonic(), FLUSH_SECONDS
        self._cutoffs, self._reporter = cutoffs, reporter

    def started(self, spec: TrialSpec) -> None:
        """Note the trials' settings."""
        for number, settings in zip(spec.trials, spec.settings, strict=True):
            self.settings[number] = {**settings, "preset": spec.preset}

    def reported(self, spec: TrialSpec, report: TrialReport) -> None:
        """Send the epochs' rows, except for epochs that a lost worker had reported already."""
        sent = self._epochs.setdefault(spec.number, set())
        for row in map(epoch_row, report.epochs):
            if epoch_key(row) not in sent:
                sent.add(epoch_key(row))
                for sink in self.sinks:
                    sink.epoch(row)
        for warning in set(report.warnings) - self._warned:
            self._warned.add(warning)
            self._reporter(f"trial {spec.number}: {warning}")
        self.stepped()

    def completed(self, spec: TrialSpec) -> None:
        """Send the trials' rows."""
        self._end(spec)

    def failed(self, spec: TrialSpec, failure: Failure) -> None:
        """Send the trials' rows, with the error, and keep the traceback; the search goes on."""
        if failure.traceback:
            write_traceback(self._store, f"trial-{spec.number}", failure.traceback)
        self._end(spec)

    def lost(self, spec: TrialSpec, reason: str) -> None:
        """Say that the trial is trained again from its last rung."""
        self._reporter.tell(WorkerLost(self._reporter.now(), f"trial {spec.number}", reason))

    def stepped(self) -> None:
        """Write rows every few seconds; where the storage fails, later."""
        if time.monotonic() - self._flushed < self._pause:
            return
        try:
            self._journal.sync()  # first, so that tables are never newer
            for sink in self.sinks:
                sink.flush()
        except StorageError as error:
            if self._pause == FLUSH_SECONDS:
                self._reporter(
                    f"{error}: the search goes on, and writes its rows when it answers again"
                )
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        else:
            self._pause = FLUSH_SECONDS
        self._flushed = time.monotonic()

    def close(self, records: list[TrialRecord]) -> None:
        """End the search: rows for the trials that it interrupted, and a last flush.

        Args:
            records: all trials of the study. Of an interrupted trunk, some may have diverged.
        """
        self._journal.sync()
        for record in records:
            if record.state == STOPPED or record.number in self.settings:
                self._write(record)
        for sink in self.sinks:
            sink.close()

    def _end(self, spec: TrialSpec) -> None:
        self._epochs.pop(spec.number, None)
        for number in spec.trials:
            frozen = one_trial(self._journal.study, number)
            self._write(trial_record(frozen, self._space, self._seed, self._cutoffs))
        delete_checkpoints(self._store, spec.number)

    def _write(self, record: TrialRecord) -> None:
        row = record.row()
        for sink in self.sinks:
            sink.trial(row)
        self.settings.pop(record.number, None)
        self._reporter.tell(trial_ended(record, self._reporter.now()))


def trial_ended(record: TrialRecord, now: float) -> RunEnded:
    """A trial's end as an event of the progress."""
    last = record.rungs[-1] if record.rungs else None
    return RunEnded(
        now,
        f"trial {record.trunk}",
        record.number,
        WORDS[record.state],
        record.score,
        record.budget,
        record.preset or summary(record.settings),
        record.cutoff.score if record.cutoff else None,
        record.never_pruned,
        record.preset is not None,
        record.error or record.diverged,
        last.seconds if last else None,
        record.retry_of,
    )


def epoch_row(epoch: EpochReport) -> Row:
    """An epoch's row in the epochs' table."""
    return {
        "trial": epoch.trial,
        "epoch": epoch.epoch,
        "phase": epoch.phase,
        "budget": epoch.budget,
        "lr": epoch.lr,
        "loss": epoch.loss,
        **epoch.metrics,
        "recall": epoch.recall_K,
        "time": dt.datetime.fromtimestamp(epoch.time, tz=dt.UTC),
    }
