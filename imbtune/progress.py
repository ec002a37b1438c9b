"""How long-running work tells the user about its progress."""

from __future__ import annotations

from collections.abc import Callable

Log = Callable[[str], None]  # is called with a line for the user


def print_line(line: str) -> None:
    """Prints the line at once, also into a file or a pipe."""
    print(line, flush=True)


def no_line(line: str) -> None:
    """Says nothing: the log of a caller that wants no progress."""
