"""Calls a tracker in a thread of its own, so that it can neither end a search nor slow it down.

Each tracker has a thread, since one that hangs must not stop the others. What the search tells it
waits in a queue with an end; what does not fit is dropped and counted. A tracker that raises an
exception, or does not return from a call, is left out from then on, and the user gets one line.
The study's tables have every row, whatever the trackers do.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from imbtune.errors import ImbtuneError, first_line
from imbtune.progress import Log
from imbtune.study.tables.parquet import Row
from imbtune.study.trackers.runs import (
    Run,
    TrackedStudy,
    Tracker,
    curves,
    numbers,
)

MOST_WAITING = 10_000  # calls in the queue: a few megabytes
CALL_SECONDS = 60.0  # after which a call is given up
CLOSE_SECONDS = 60.0  # that the end of a search waits for trackers that still answer
LAST_SECONDS = 30.0  # that it waits for one call
QUIET_SECONDS = 3.0  # of this wait, before a line says why

Call = Callable[[], None]


class Background:
    """A tracker and its thread. All methods return at once, but `close`.

    Args:
        before: the rows of epochs that the study had of a run when it was resumed, by the run's
            name. They are shown when the run begins again.
        log: is called with a line for the user, in the thread that calls these methods.
    """

    def __init__(
        self,
        tracker: Tracker,
        study: TrackedStudy,
        before: Mapping[str, Sequence[Row]],
        log: Log,
    ) -> None:
        self._tracker, self._study, self._before, self._log = tracker, study, before, log
        self._calls: queue.Queue[Call | None] = queue.Queue(MOST_WAITING)
        self._since: float | None = None  # when the running call began
        self._error: str | None = None
        self._notes: queue.SimpleQueue[str] = queue.SimpleQueue()  # for the user
        self._left_out, self._dropped = False, 0
        self._sent: dict[str, int] = {}  # epochs of the open runs that were handed over
        self._known: dict[str, int] = {}  # and how many of them the tracker has already
        tracker.tell = self._notes.put
        self._thread = threading.Thread(target=self._work, daemon=True, name=tracker.title)
        self._thread.start()

    def epoch(self, run: Run, row: Row) -> None:
        """Show an epoch."""

        def call() -> None:
            self._begin(run)
            self._show(run, row)

        self._put(call)

    def again(self, run: Run) -> None:
        """A run is trained from its start once more, to the same values."""

        def call() -> None:
            if run.name in self._sent:
                self._known[run.name] = max(self._known[run.name], self._sent[run.name])
                self._sent[run.name] = 0

        self._put(call)

    def end(self, run: Run, state: str, row: Row) -> None:
        """Show how a run ended."""

        def call() -> None:
            self._begin(run)
            values = {k: v for k, v in numbers(row).items() if k not in run.settings}
            self._tracker.end(run, state, row, values)
            del self._sent[run.name], self._known[run.name]

        self._put(call)

    def report(self, path: Path) -> None:
        """Keep the study's report."""
        self._put(lambda: self._tracker.report(path))

    def check(self) -> None:
        """Leave the tracker out where it failed or hangs."""
        while not self._notes.empty():
            self._log(str(ImbtuneError(f"{self._tracker.title} {self._notes.get()}")))
        if self._error:
            self._leave_out(self._error)
        else:
            self._check_hangs(CALL_SECONDS)

    def _check_hangs(self, most: float, since: float | None = None) -> None:
        """Leave the tracker out if the running call began `most` seconds ago, or `since` then."""
        began = self._since
        if began is not None and time.monotonic() - max(began, since or began) > most:
            self._leave_out(f"it has not answered for {most:.0f} s")

    def close(self) -> None:
        """Wait until everything is shown; not for a tracker that failed or hangs, and not long."""
        begun = time.monotonic()
        self._put(self._tracker.close)
        ending, told = False, False
        while not self._left_out and self._thread.is_alive():
            if not ending:
                ending = self._put_end()
            self._thread.join(0.05)
            waited = time.monotonic() - begun
            self.check()
            self._check_hangs(LAST_SECONDS, begun)
            if waited > QUIET_SECONDS and not told and not self._left_out:
                told = True
                self._log(
                    f"{self._tracker.title} has {self._calls.qsize()} updates left to take: "
                    f"waiting for it, up to {CLOSE_SECONDS:.0f} s"
                )
            if waited > CLOSE_SECONDS:
                self._leave_out(f"it needs longer than {CLOSE_SECONDS:.0f} s for what is left")
        self.check()
        self._tracker.leave()
        if self._dropped:
            self._log(
                f"{self._tracker.title} was too slow: {self._dropped} updates were dropped; the "
                "study has them"
            )

    def _put(self, call: Call) -> None:
        if self._left_out:
            return
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            self._dropped += 1

    def _put_end(self) -> bool:
        """Whether there was room in the queue for the end of the thread."""
        try:
            self._calls.put_nowait(None)
        except queue.Full:
            return False
        return True

    def _leave_out(self, reason: str) -> None:
        if not self._left_out:
            self._left_out = True
            left_out = f"{self._tracker.title} is left out from now on: {reason}"
            line = ImbtuneError(f"{left_out}; the study has all rows")  # in one line, without keys
            self._log(str(line))

    def _work(self) -> None:
        """The thread: make the calls in their order, until one fails."""
        while (call := self._calls.get()) is not None and not self._left_out:
            self._since = time.monotonic()
            try:
                call()
            except BaseException as error:  # of any library: it must not end the search
                self._error = f"{type(error).__name__}: {first_line_of(error)}"
                return
            self._since = None

    def _begin(self, run: Run) -> None:
        if run.name in self._sent:
            return
        self._known[run.name], self._sent[run.name] = self._tracker.begin(run), 0
        for row in self._before.get(run.name, ()):
            self._show(run, row)

    def _show(self, run: Run, row: Row) -> None:
        """Show the next epoch of a run, unless the tracker has it from before."""
        step = self._sent[run.name]
        self._sent[run.name] += 1
        if step >= self._known[run.name]:
            self._since = time.monotonic()
            self._tracker.epoch(run, step, row, curves(self._study, row))


def first_line_of(error: BaseException) -> str:
    """The first line of an exception's text; its kind where it has none."""
    return first_line(error) if isinstance(error, Exception) else type(error).__name__
