"""A terminal for tests: what a program in a pseudo-terminal shows, and what scrolled away."""

from __future__ import annotations

import codecs
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

SEQUENCE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])")


class Screen:
    """The sequences that rich writes, as a terminal without reflow shows them.

    Attributes:
        lines: the visible rows.
        gone: the rows that scrolled away.
        is_cursor_hidden: whether the cursor is hidden now.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.lines, self.gone = [""] * rows, list[str]()
        self.row = self.column = 0
        self.is_cursor_hidden = False
        self._rest = ""

    @property
    def text(self) -> str:
        """All rows, also those that scrolled away."""
        return "\n".join([*self.gone, *(line.rstrip() for line in self.lines)])

    def resize(self, columns: int, rows: int) -> None:
        """Another size; rows are cut or added at the bottom, and nothing is wrapped anew."""
        while len(self.lines) > rows:
            self.gone.append(self.lines.pop(0))
        self.lines = [line[:columns] for line in self.lines] + [""] * (rows - len(self.lines))
        self.columns, self.rows = columns, rows
        self.row, self.column = min(self.row, rows - 1), min(self.column, columns - 1)

    def feed(self, text: str) -> None:
        """Show what a program writes."""
        text, self._rest = self._rest + text, ""
        at = 0
        while at < len(text):
            if text[at] == "\x1b":
                match = SEQUENCE.match(text, at)
                if match is None:
                    self._rest = text[at:]
                    return
                self._control(match[1], match[2])
                at = match.end()
                continue
            self._character(text[at])
            at += 1

    def _character(self, char: str) -> None:
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self._line_feed()
        elif char.isprintable():
            if self.column == self.columns:
                self.column = 0
                self._line_feed()
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + char + line[self.column + 1 :]
            self.column += 1

    def _line_feed(self) -> None:
        if self.row + 1 < self.rows:
            self.row += 1
            return
        self.gone.append(self.lines.pop(0).rstrip())
        self.lines.append("")

    def _control(self, numbers: str, letter: str) -> None:
        if letter in "lh" and numbers == "?25":
            self.is_cursor_hidden = letter == "l"
        elif letter == "A":
            self.row = max(0, self.row - int(numbers or 1))
        elif letter == "K":
            line = self.lines[self.row]
            self.lines[self.row] = "" if numbers == "2" else line[: self.column]
        elif letter == "H":
            self.row = self.column = 0
        elif letter == "J":
            self.lines = [""] * self.rows
        else:
            assert letter == "m", f"a sequence that is not known: {numbers}{letter}"


class Terminal:
    """A program in a pseudo-terminal.

    Args:
        command: its words.
        columns: of the terminal.
        rows: of the terminal.
        cwd: the folder that it runs in.
        environment: of it, besides ours.
    """

    def __init__(
        self,
        command: Sequence[str],
        columns: int = 80,
        rows: int = 24,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._main, other = os.openpty()
        self.screen = Screen(columns, rows)
        self._set_size(columns, rows)
        plain = {k: v for k, v in os.environ.items() if k not in ("CI", "NO_COLOR", "COLUMNS")}
        self.process = subprocess.Popen(
            command,
            stdin=other,
            stdout=other,
            stderr=other,
            cwd=cwd,
            env={**plain, "TERM": "xterm-256color", **(environment or {})},
            start_new_session=True,
            preexec_fn=_take_terminal,  # no threads: Ctrl-C needs a terminal
        )
        os.close(other)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def wait_for(self, wanted: Callable[[Screen], bool], seconds: float = 60) -> Screen:
        """Read until the screen is as wanted; an AssertionError has what it shows."""
        ends = time.monotonic() + seconds
        while not wanted(self.screen):
            assert time.monotonic() < ends, self.screen.text
            if not self._read(0.1):
                assert wanted(self.screen), self.screen.text
        return self.screen

    def end(self, seconds: float = 60) -> int:
        """Read to the end; the exit code, or the negative number of the signal."""
        ends = time.monotonic() + seconds
        while self._read(0.1):
            assert time.monotonic() < ends, self.screen.text
        return self.process.wait(timeout=seconds)

    def press(self, keys: bytes) -> None:
        """Type on the keyboard; b"\\x03" is Ctrl-C."""
        os.write(self._main, keys)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of the terminal."""
        while self._read(0.1) and select.select([self._main], [], [], 0)[0]:
            pass
        self.screen.resize(columns, rows)
        self._set_size(columns, rows)

    def close(self) -> None:
        """End the program."""
        self.process.kill()
        self.process.wait()
        os.close(self._main)

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._main, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self, seconds: float) -> bool:
        """Read what there is; False at the end of the program."""
        if not select.select([self._main], [], [], seconds)[0]:
            return True
        try:
            found = os.read(self._main, 65536)
        except OSError:  # the last program with this terminal has ended
            return False
        self.screen.feed(self._decoder.decode(found))
        return True


def _take_terminal() -> None:
    # a shell starts what runs in its background, such as these tests, with Ctrl-C ignored
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def in_terminal(code: str, columns: int = 80, rows: int = 24, **environment: str) -> Terminal:
    """A Python program in a pseudo-terminal."""
    return Terminal([sys.executable, "-c", code], columns, rows, environment=environment)
