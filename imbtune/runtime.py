"""Process tuning, for worker processes and the command line: imports, memory, threads.

None of it changes a result. Importing imbtune in a notebook or a script does none of it; functions
of the API that train limit the spinning of threads.
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

GC_THRESHOLD = 200_000  # allocations between two collections of the youngest objects; default 700
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt, from malloc.h
_NEVER = 2**30  # bytes; no tensor of a step that is worth keeping is larger
_LARGEST_OLD = 2**25  # the largest value that glibc accepted before 2.35


@contextmanager
def fewer_collections() -> Iterator[None]:
    """Raise the garbage collector's threshold inside, for imports.

    Importing torch and Ray creates a million objects that all stay; with the default threshold a
    fifth of the import time goes into scanning them.
    """
    threshold = gc.get_threshold()
    gc.set_threshold(GC_THRESHOLD)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)


def keep_freed_memory() -> None:
    """Keep freed memory in the process for the next training step.

    By default glibc returns large blocks to the system at every step: 200 page faults per image of
    a ResNet-32 step on a CPU, a tenth of its time. With this, the process stays at its peak size.
    Without effect where the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    if not mallopt(_MMAP_THRESHOLD, _NEVER):
        mallopt(_MMAP_THRESHOLD, _LARGEST_OLD)
    mallopt(_TRIM_THRESHOLD, _NEVER)


def limit_thread_spinning() -> None:
    """Let OpenMP threads that wait for one another spin briefly; call before torch is imported.

    They spin 300,000 times by default. Where another process (Ray's own, too) runs on one of their
    CPUs, most of the time is lost so. Worker processes inherit the setting.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
