"""CPUs of its own for a trial, where trials take all of a machine's.

The system moves threads from CPU to CPU, and one that has been moved finds nothing of its data in
the caches. Where every CPU has a trial nothing is lost if they stay where they are.
"""

from __future__ import annotations

import os
import socket

NAME = "imbtune-cpu-"  # of the socket that holds a CPU; its number follows
_held: list[socket.socket] = []  # one for each CPU of this process, until it ends


def keep_to_own_cpus(count: int, machine: int) -> None:
    """Keep this thread, and those that it starts from now on, to `count` CPUs that no other
    process has taken so.

    Without effect where so many are not free, where this process sees other CPUs than `machine`
    (a container with a quota sees all, and those beside it would choose the same ones), and where
    the system is not Linux.

    Args:
        machine: how many CPUs Ray has on this machine.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    free = sorted(os.sched_getaffinity(0))
    if len(free) != machine:
        return
    mine: dict[int, socket.socket] = {}
    while free and len(mine) < count:
        cpu = free.pop(0)
        if taken := _take(cpu):
            mine[cpu] = taken
    if len(mine) == count:
        os.sched_setaffinity(0, mine)
        _held.extend(mine.values())


def _take(cpu: int) -> socket.socket | None:
    """What holds a CPU while this process lives: a name that Linux gives to one socket of a
    machine, and frees by itself. None where another has it."""
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0{NAME}{cpu}")
    except OSError:
        name.close()
        return None
    return name
