"""The second Ctrl-C ends a command within a second, whatever it does at that moment.

The first one is a KeyboardInterrupt, or is taken by what ends a search in order. Ending takes
seconds: trials are ended, rows written, Ray is shut down; and Python handles no signal while its
main thread is in a library that waits. So a thread learns of each signal from the system itself.
All that a command has recorded is on the disk at any moment, so nothing is lost.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType

from imbtune.errors import INTERRUPTED

# Seconds after the second signal: what takes it in order, with a line of its own, comes first
GRACE = 0.4
LONGEST_LEAVE = 0.5  # seconds for erasing the live view, which a terminal may not take

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
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # it shares the pipe
    threading.Thread(target=_wait, args=(read,), daemon=True).start()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Python's own handler, but only once: later ones would interrupt the end with tracebacks."""
    if is_first_interrupt():
        raise KeyboardInterrupt


def _wait(read: int) -> None:
    left = 2
    while left > 0:
        left -= os.read(read, 64).count(signal.SIGINT)
    time.sleep(GRACE)
    view = sys.modules.get("imbtune.progress.live_view")  # an import might have to wait
    if leave := getattr(view, "leave", None):
        leaving = threading.Thread(target=leave, daemon=True)
        leaving.start()
        leaving.join(LONGEST_LEAVE)
    with contextlib.suppress(OSError, ValueError):
        os.write(sys.stderr.fileno(), b"ended at once; what was recorded is kept\n")
    os._exit(INTERRUPTED)
