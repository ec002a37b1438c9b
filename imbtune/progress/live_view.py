"""The live view on a terminal: lines scroll above a part that is drawn again in place.

One thread draws, at most twice a second. Everything else that this process and its children write
to standard output and error meanwhile, goes through a pipe, and is printed above the view: Python's
warnings, Ray, and C libraries cannot tear it. The cursor is never hidden, so nothing is left to
restore where the process is killed.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import sys
import threading
import time
from collections import deque
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any, TextIO

from rich.console import Console, ConsoleDimensions, Group
from rich.live import Live
from rich.text import Text

from imbtune.progress.live_lines import LEAST_ROWS, live_lines
from imbtune.progress.log_lines import wrapped
from imbtune.progress.plain_view import lines_of
from imbtune.progress.run_events import Event, Heartbeat, Interrupted
from imbtune.progress.search_progress import SearchProgress

PERIOD = 0.5  # seconds between two drawings
PATIENCE = 2.0  # seconds for which the end waits for a terminal that takes no output (Ctrl-S)
KEPT = 100  # lines above the view that are printed again after the terminal was resized
# What moves the cursor or changes the terminal, in what other programs print
ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?")
OUTPUT, ERROR = 1, 2  # file descriptors

_current: LiveView | None = None


class LiveView:
    """Shows the progress on the terminal of standard output.

    Args:
        lock: is held while the state changes.
    """

    def __init__(self, lock: AbstractContextManager[bool]) -> None:
        self._lock = lock
        self._progress = SearchProgress()
        self._lines: deque[str] = deque()  # to be printed above the view
        self._above: deque[str] = deque(maxlen=KEPT)
        self._ends = threading.Event()
        self._thread: threading.Thread | None = None
        self._painting = threading.RLock()
        self._console: Console
        self._live: Live | None = None
        self._is_open = False

    def show(self, event: Event, progress: SearchProgress) -> None:
        """Print the event's lines above the view, at its next drawing."""
        self._progress = progress
        if not isinstance(event, Heartbeat | Interrupted):  # the view itself says it
            self._lines.extend(lines_of(event, progress))
        if not self._is_open and not self._ends.is_set():
            self._open()

    def tick(self, now: float) -> None:
        """Does nothing: a thread draws."""

    def close(self) -> None:
        """Erase the view, and give the terminal back."""
        global _current
        if not self._is_open:
            return
        self._is_open = False
        self._ends.set()
        is_free = self._painting.acquire(timeout=PATIENCE)  # else the terminal takes no output
        self._captured.close()
        if is_free:
            with contextlib.suppress(OSError, ValueError):  # the terminal was closed
                self._take_captured()
                self._draw()
                self._stop()
            self._painting.release()
        stop_restoring(self._before)
        _current = None

    # ---- opening ---------------------------------------------------------------------------------

    def _open(self) -> None:
        global _current
        sys.stdout.flush()
        sys.stderr.flush()
        self._captured = Captured()
        self._terminal = self._captured.terminal
        self._size = self._measure()
        self._console = Console(
            file=self._terminal,
            force_terminal=True,
            width=self._size[0],
            height=self._size[1],
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=True,
        )
        self._is_open, _current = True, self
        self._before = restore_at_sigterm(self)
        self._thread = threading.Thread(target=self._run, name="terminal", daemon=True)
        self._thread.start()

    def _measure(self) -> tuple[int, int]:
        """Columns and rows of the terminal."""
        try:
            size = os.get_terminal_size(self._terminal.fileno())
        except OSError:  # it was closed
            return 80, 24
        return size.columns or 80, size.lines or 24

    # ---- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ends.wait(PERIOD):
            with self._painting:
                if self._ends.is_set():
                    return
                with contextlib.suppress(OSError, ValueError):  # the terminal was closed
                    self._take_captured()
                    self._draw()

    def _take_captured(self) -> None:
        for text in self._captured.lines():
            self._lines.append(text)

    def _draw(self) -> None:
        """Print the new lines, and draw the view below them."""
        size = self._measure()
        is_resized, self._size = size != self._size, size
        new = [self._lines.popleft() for _ in range(len(self._lines))]
        self._above.extend(new)
        if is_resized:
            self._clear(size)
            new = list(self._above)[-max(1, size[1] - LEAST_ROWS) :]
        is_begun = self._progress.stage is not None or self._progress.download is not None
        if self._live is None and is_begun and not self._ends.is_set():
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            self._live.start()
            self._console.show_cursor(True)
        if self._live is not None:
            self._live.update(self._view())
        if new:
            text = "\n".join(wrapped(printed(line), size[0]) for line in new)
            self._console.print(Text(text), soft_wrap=True)
        elif self._live is not None:
            self._live.refresh()

    def _view(self) -> Group:
        with self._lock:
            lines = live_lines(self._progress, time.time(), *self._size)
        width = self._size[0]
        texts = [Text(line.text, line.style, no_wrap=True, overflow="crop") for line in lines]
        return Group(*(text for text in texts if width))

    def _clear(self, size: tuple[int, int]) -> None:
        """After a resize nobody knows where the view is: the lines are printed again instead."""
        self._stop()
        self._console.size = ConsoleDimensions(*size)
        self._terminal.write("\x1b[H\x1b[2J")

    def _stop(self) -> None:
        """Erase the view."""
        live, self._live = self._live, None
        if live:
            live.stop()
        self._terminal.flush()


def printed(line: str) -> str:
    """A line without what would move the cursor."""
    last = line.rstrip("\r").rpartition("\r")[2]  # of a bar that is drawn again and again
    plain = ESCAPES.sub("", last.replace("\t", "    "))
    return "".join(char if char.isprintable() else "?" for char in plain)


class Captured:
    """Standard output and error of this process, as lines, until they are given back.

    Attributes:
        terminal: what standard output was.
    """

    def __init__(self) -> None:
        kept = os.dup(OUTPUT)
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        self.terminal: TextIO = os.fdopen(kept, "w", encoding=encoding, errors="replace")
        self._kept = {OUTPUT: os.dup(OUTPUT)}
        if os.isatty(ERROR):
            self._kept[ERROR] = os.dup(ERROR)
        self._reading, writing = os.pipe()
        os.set_blocking(self._reading, False)
        for descriptor in self._kept:
            os.dup2(writing, descriptor)
        os.close(writing)
        self._rest, self._is_open = b"", True
        self._read: deque[str] = deque()
        self._thread = threading.Thread(target=self._collect, name="captured output", daemon=True)
        self._thread.start()

    def lines(self) -> list[str]:
        """The lines since the last call."""
        return [self._read.popleft() for _ in range(len(self._read))]

    def close(self) -> None:
        """Give the descriptors back; what comes later goes to the terminal."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        for descriptor, kept in self._kept.items():
            os.dup2(kept, descriptor)
            os.close(kept)
        self._is_open = False
        if self._thread is not threading.current_thread():
            self._thread.join(1.0)
        if self._rest:
            self._read.append(self._rest.decode("utf-8", "replace"))

    def _collect(self) -> None:
        """Read what is written, so that no writer waits for a full pipe."""
        while True:
            is_last = not self._is_open
            ready, _, _ = select.select([self._reading], [], [], 0 if is_last else 0.1)
            try:
                content = os.read(self._reading, 65536) if ready else b""
            except OSError:
                content = b""
            if not content and (is_last or ready):
                return
            *whole, self._rest = (self._rest + content).split(b"\n")
            self._read.extend(line.decode("utf-8", "replace").rstrip("\r") for line in whole)


def leave() -> None:
    """Erase the live view, if there is one: before the process ends without its usual way."""
    if _current is not None:
        _current.close()


def restore_at_sigterm(view: LiveView) -> Any:
    """Erase the view before SIGTERM ends the process, where it would; returns what to restore."""

    def end(number: int, frame: FrameType | None) -> None:
        view.close()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return None
    signal.signal(signal.SIGTERM, end)
    return end


def stop_restoring(handler: Any) -> None:
    """Undo `restore_at_sigterm`, unless another handler was set since."""
    if threading.current_thread() is not threading.main_thread():
        return
    if handler is not None and signal.getsignal(signal.SIGTERM) is handler:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
