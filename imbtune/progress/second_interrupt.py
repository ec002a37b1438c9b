"""The second Ctrl-C ends a command within a second, whatever it does at that moment.

The first one is a KeyboardInterrupt, or is taken by what ends a search in order. Ending takes
seconds: trials are ended, rows written, Ray is shut down; and Python handles no signal while its
main thread is in a library that waits. So a thread learns of each signal from the system itself.
All that a command has recorded is on the disk at any moment, so nothing is lost.

Python ignores an exception of what runs at a fork or when an object is deleted, also the
KeyboardInterrupt of a signal that came just then. Such a Ctrl-C is raised again a moment later.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from imbtune.errors import INTERRUPTED

# Seconds after the second signal: what takes it in order, with a line of its own, comes first
GRACE = 0.4
LONGEST_LEAVE = 0.5  # seconds for erasing the live view, which a terminal may not take
AGAIN = b"\0"  # in the pipe of signals, which have the numbers from 1 on: raise the first again
AGAIN_SECONDS = 0.02  # after which the fork or the deletion is over; if not, it is repeated

_count = 0  # interrupts that this process has handled


def is_first_interrupt() -> bool:
    """Count an interrupt that is being handled; whether it is the first."""
    global _count
    _count += 1
    return _count == 1


def end_at_second_interrupt() -> None:
    """Install it for this process, which must be a command; called in its main thread."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.signal(signal.SIGINT, _interrupt)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    sys.unraisablehook = partial(_ignored, write, sys.unraisablehook)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # it shares the pipe
    threading.Thread(target=_wait, args=(read,), daemon=True).start()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Python's own handler, but only once: later ones would interrupt the end with tracebacks."""
    if is_first_interrupt():
        raise KeyboardInterrupt


def _ignored(write: int, hook: Callable[[Any], object], what: Any) -> None:
    """Python's hook for exceptions that it ignores, but for a KeyboardInterrupt."""
    if what.exc_type is KeyboardInterrupt:
        os.write(write, AGAIN)
    else:
        hook(what)


def _wait(read: int) -> None:
    global _count
    left, main = 2, threading.main_thread().ident or 0
    while left > 0:
        signals = os.read(read, 64)
        left -= signals.count(signal.SIGINT)
        if AGAIN in signals and left == 1:
            time.sleep(AGAIN_SECONDS)
            _count, left = 0, 2  # it is the same one
            signal.pthread_kill(main, signal.SIGINT)  # interrupt_main would not end a wait
    time.sleep(GRACE)
    view = sys.modules.get("imbtune.progress.live_view")  # an import might have to wait
    if leave := getattr(view, "leave", None):
        leaving = threading.Thread(target=leave, daemon=True)
        leaving.start()
        leaving.join(LONGEST_LEAVE)
    with contextlib.suppress(OSError, ValueError):
        os.write(sys.stderr.fileno(), b"ended at once; what was recorded is kept\n")
    os._exit(INTERRUPTED)
