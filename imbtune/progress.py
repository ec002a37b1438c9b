"""How long-running work tells the user about its progress."""

from __future__ import annotations

import functools
from collections.abc import Callable

Log = Callable[[str], None]  # is called with a line for the user

print_line: Log = functools.partial(print, flush=True)


def no_line(line: str) -> None:
    """Says nothing: the log of a caller that wants no progress."""
