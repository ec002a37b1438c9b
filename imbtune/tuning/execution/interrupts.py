"""Ctrl-C and SIGTERM while trials run: the first ends them in order, the second at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from ray.tune import Stopper

from imbtune import runtime
from imbtune.errors import INTERRUPTED
from imbtune.progress.live_view import leave
from imbtune.progress.second_interrupt import is_first_interrupt
from imbtune.tuning.messages import TuneDict

ORDERLY_SECONDS = 30.0  # after the first signal, until the process is ended


class Interrupts(Stopper):
    """Ends all trials of Ray Tune when this process gets SIGINT (Ctrl-C).

    Used as a context. A second SIGINT ends the command at once, and so does an orderly end that
    takes too long, as without a cluster's head: what the study has is on the disk at any moment. A
    Python session goes on: there, the second SIGINT is a KeyboardInterrupt.

    Args:
        note: is called at the first SIGINT, in a signal handler.
    """

    def __init__(self, note: Callable[[], None] = lambda: None) -> None:
        self._note = note
        self._asked = False
        self._before: Any = None
        self._timer: threading.Timer | None = None

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()  # Tune pickles what a Tuner holds, but nothing reads it

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer:
            self._timer.cancel()
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def __call__(self, trial_id: str, result: TuneDict) -> bool:
        """Whether to stop this trial: never."""
        return False

    def stop_all(self) -> bool:
        """Whether to stop all trials."""
        return self._asked

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._asked and runtime.is_command:
            _end()
        if self._asked:
            raise KeyboardInterrupt
        is_first_interrupt()
        self._asked = True
        self._note()
        _say("\ninterrupted: the trials are ended (Ctrl-C again ends at once; nothing is lost)")
        if runtime.is_command:
            self._timer = threading.Timer(ORDERLY_SECONDS, _end)
            self._timer.daemon = True
            self._timer.start()


def _end() -> None:
    leave()
    _say("ended; imbtune resume goes on with the study")
    os._exit(INTERRUPTED)


def _say(line: str) -> None:
    """Print a line from a signal handler, in the middle of whatever else is printed."""
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), f"{line}\n".encode())
