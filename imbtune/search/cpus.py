"""CPUs of its own for a trial, where trials take all of a machine's.

The system moves threads from CPU to CPU, and one that has been moved finds nothing of its data in
the caches. Where every CPU has a trial nothing is lost if they stay where they are.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

NAME = "imbtune-cpu-"  # of the socket that holds a CPU; its number follows
_held: list[socket.socket] = []  # one for each CPU of this process, until it ends


def keep_to_own_cpus(count: int, machine: int) -> None:
    """Keep this thread, and those that it starts from now on, to `count` CPUs that no other
    process has taken so.

    Without effect where so many are not free, where this process sees other CPUs than `machine`
    (a container whose quota Ray has read: those beside it would choose the same ones), and where
    the system does not allow it.

    Args:
        machine: how many CPUs Ray has on this machine.
    """
    free = sorted(os.sched_getaffinity(0))
    if len(free) != machine:
        return
    mine: dict[int, socket.socket] = {}
    try:
        while free and len(mine) < count:
            cpu = free.pop(0)
            if taken := _take(cpu):
                mine[cpu] = taken
        if len(mine) == count:
            os.sched_setaffinity(0, mine)
            _held.extend(mine.values())
            mine = {}
    except OSError:  # it only saves time: a system that forbids it forbids no trial
        pass
    _close(mine.values())


def _take(cpu: int) -> socket.socket | None:
    """What holds a CPU while this process lives: a name that Linux gives to one socket of a network
    namespace, and frees by itself. None where another has it."""
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0{NAME}{cpu}")
    except OSError:
        name.close()
        return None
    return name


def _close(names: Iterable[socket.socket]) -> None:
    for name in names:
        name.close()


# a DataLoader's worker, which may outlive this process, must not hold them on
os.register_at_fork(after_in_child=lambda: _close(_held))
