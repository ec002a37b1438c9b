"""How long-running work tells the user about its progress."""

from __future__ import annotations

import sys
from collections.abc import Callable

Log = Callable[[str], None]  # is called with a line for the user


def print_line(line: str) -> None:
    """Prints the line at once, also into a file or a pipe.

    Output that cannot be written does not end the work: a character that the terminal does not
    have is replaced, and a line is dropped where nobody reads it (the pipe's reader has gone, the
    terminal is closed, the disk with the log is full).
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        print(line.encode(encoding, "replace").decode(encoding), flush=True)
    except (OSError, ValueError):  # ValueError: a closed file
        return


def no_line(line: str) -> None:
    """Says nothing: the log of a caller that wants no progress."""
