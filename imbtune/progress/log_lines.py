"""Lines for the user: printed at once, in the width of the terminal, and never an error."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable

Log = Callable[[str], None]  # is called with a line for the user
NARROWEST = 20  # columns


def print_line(line: str) -> None:
    """Prints the line at once, also into a file or a pipe.

    A terminal gets it in lines of its width. In a file or a pipe it stays whole, for programs that
    search it, unless $COLUMNS is set.

    Output that cannot be written does not end the work: a character that the terminal does not
    have is replaced, and a line is dropped where nobody reads it (the pipe's reader has gone, the
    terminal is closed, the disk with the log is full).
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if width := line_width():
        line = wrapped(line, width)
    try:
        print(line.encode(encoding, "replace").decode(encoding), flush=True)
    except (OSError, ValueError):  # ValueError: a closed file
        return


def line_width() -> int | None:
    """The columns of standard output: of its terminal, or $COLUMNS; None for a file or a pipe."""
    given = os.environ.get("COLUMNS", "")
    if re.fullmatch(r"[0-9]{1,4}", given):
        return max(NARROWEST, int(given))
    try:
        is_terminal = sys.stdout.isatty()
    except (AttributeError, ValueError):  # none, or a closed one
        return None
    return max(NARROWEST, shutil.get_terminal_size().columns) if is_terminal else None


def wrapped(text: str, width: int) -> str:
    """The text in lines of at most `width` characters; what is continued is indented.

    Words are not cut, so that names and paths can be copied. A line that begins with two spaces is
    one to copy, such as a command, and stays as it is.
    """
    return "\n".join(
        line
        if len(line) <= width or line.startswith("  ")
        else textwrap.fill(
            line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
        for line in text.split("\n")
    )


def no_line(line: str) -> None:
    """Says nothing: the log of a caller that wants no progress."""
