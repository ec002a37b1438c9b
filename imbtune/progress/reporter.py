"""Where everything that happens is reported: it keeps the state, and shows each event in its views.

A reporter is a :data:`imbtune.progress.Log` too: a line that it is called with is an event like any
other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from imbtune.progress.log_lines import Log
from imbtune.progress.plain_view import PlainView
from imbtune.progress.run_events import Event, Heartbeat, Message, StageStarted
from imbtune.progress.search_progress import SearchProgress
from imbtune.storage.retry import to_stderr

_current: ContextVar[Reporter | None] = ContextVar("reporter", default=None)


class View(Protocol):
    """Shows what happens."""

    def show(self, event: Event, progress: SearchProgress) -> None:
        """Show an event; `progress` is the state after it."""

    def tick(self, now: float) -> None:
        """Time goes by: called again and again, also while nothing happens."""

    def close(self) -> None:
        """The work has ended, or was ended by an error."""


class Reporter:
    """Reports events to its views.

    Args:
        views: the first ones; more may join.
        clock: gives the time in seconds since 1970.

    Attributes:
        progress: the state.
        lock: is held while the state changes; a thread that reads it must hold it.
    """

    def __init__(self, *views: View, clock: Callable[[], float] = time.time) -> None:
        self.progress, self.lock = SearchProgress(), threading.RLock()
        self._views, self._clock = list(views), clock
        self._early: list[Event] | None = []  # messages before the first stage

    def __call__(self, line: str) -> None:
        """Report a message of one or several lines."""
        self.tell(Message(self.now(), line))

    def now(self) -> float:
        """The time, for an event."""
        return self._clock()

    def tell(self, event: Event) -> None:
        """Report an event."""
        with self.lock:
            self.progress.apply(event)
        if isinstance(event, StageStarted):
            self._early = None
        elif self._early is not None:
            self._early.append(event)
        for view in list(self._views):
            view.show(event, self.progress)

    def tick(self) -> None:
        """Report a heartbeat where one is due; to be called every second or so."""
        now = self.now()
        if self.progress.is_beat_due(now):
            self.tell(Heartbeat(now))
        for view in list(self._views):
            view.tick(now)

    @contextmanager
    def also(self, view: View) -> Iterator[None]:
        """Show the events in another view, too; also what was said before the first stage."""
        for event in self._early or ():
            view.show(event, self.progress)
        self._views.append(view)
        try:
            yield
        finally:
            self._views.remove(view)
            view.close()

    def close(self) -> None:
        """Close all views."""
        for view in self._views:
            view.close()


@contextmanager
def reporting_to(reporter: Reporter) -> Iterator[Reporter]:
    """Report what has no reporter of its own, such as a download, to this one, too."""
    before = _current.set(reporter)
    try:
        yield reporter
    finally:
        _current.reset(before)


def current_reporter() -> Reporter:
    """The reporter of the work that runs; without one, lines go to standard error."""
    return _current.get() or Reporter(PlainView(to_stderr))


def to_lines(write: Log) -> Reporter:
    """A reporter to a function that takes lines; they have no time of their own."""
    return Reporter(PlainView(write, has_time=False))


@contextmanager
def naming_restart(reporter: Reporter) -> Iterator[None]:
    """Say in the message of Ctrl-C before the first trial or run that nothing is left of a study.

    Args:
        reporter: of the command that makes the study.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        if error.args or reporter.progress.stage is not None:
            raise
        raise KeyboardInterrupt("no study was made: give the same command again") from error
