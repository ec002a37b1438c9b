"""Settings of the process that make imbtune faster: garbage collection, memory, threads.

They change no result. Only worker processes and the command line use them; importing imbtune in a
notebook or a script changes nothing. `is_command` tells the two apart.
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

is_command = False  # whether this process is the command line, which a signal may end at once

GC_THRESHOLD = 200_000  # new objects between two collections of the youngest; the default is 700
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt, from malloc.h
_NEVER = 2**30  # bytes, larger than the tensors of a training step
_LARGEST_OLD = 2**25  # bytes, the largest value that glibc accepted before 2.35


@contextmanager
def fewer_collections() -> Iterator[None]:
    """Raise the garbage collector's threshold in a `with` block that imports modules.

    Importing torch and Ray creates a million objects that stay in use. With the default threshold,
    scanning them takes a fifth of the import time.
    """
    threshold = gc.get_threshold()
    gc.set_threshold(GC_THRESHOLD)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)


def keep_freed_memory() -> None:
    """Keep freed memory in the process, for the next training step.

    By default glibc returns large blocks to the system at every step. For ResNet-32 on a CPU, that
    causes 200 page faults per image, which take a tenth of the time. With this setting, the process
    keeps its peak size. No effect where the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    if not mallopt(_MMAP_THRESHOLD, _NEVER):
        mallopt(_MMAP_THRESHOLD, _LARGEST_OLD)
    mallopt(_TRIM_THRESHOLD, _NEVER)


def limit_thread_spinning() -> None:
    """Shorten the busy-waiting of OpenMP threads. Call it before torch is imported.

    Threads that wait for each other spin 300,000 times by default. If another process, such as one
    of Ray's, uses one of their CPUs, most of the time is spent spinning. Worker processes inherit
    the setting. $OMP_WAIT_POLICY and $GOMP_SPINCOUNT take precedence.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
