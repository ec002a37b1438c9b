"""Python's garbage collector, told that nearly everything here stays."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG = 200_000  # objects that are made before the young ones are looked through; Python's is 700


@contextmanager
def collected_seldom() -> Iterator[None]:
    """Look for garbage seldom inside.

    The imports of torch and Ray make a million objects that all stay, and a fifth of their time
    goes into looking through them again and again.
    """
    threshold = gc.get_threshold()
    gc.set_threshold(YOUNG)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
