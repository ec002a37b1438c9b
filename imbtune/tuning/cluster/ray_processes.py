"""Ray's processes on this machine: they outlive a SIGTERM to the whole group, and are watched.

systemd, Slurm and a shell send a signal to all processes of a command. The driver ends its search
in order, which takes Ray. So Ray's own processes hold the signal back, as they do with the SIGHUP
of a terminal that is closed, and end when the driver does: the kernel kills them where it is
killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import ray

from imbtune.errors import EXPECTED, ClusterError

AGENT = "raylet's agent"
ESSENTIAL = ("gcs_server", "raylet", AGENT)  # without one of them, nothing can be trained
# Processes of the raylet, which ends with either of them: their titles, and at first their files
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
AGENT_FILES = ("dashboard/agent.py", "runtime_env/agent/main.py")
# Between two looks. Ray may end this process without a word as soon as the raylet has ended, which
# it does 0.1 s after an agent.
LOCAL_POLL_SECONDS, HEAD_POLL_SECONDS = 0.02, 1.0
HEAD_SECONDS = 45.0  # without an answer of a cluster's head; after 60 Ray aborts the process
CONNECT_SECONDS = 5.0
ENDINGS = (signal.SIGTERM, signal.SIGHUP)  # that the driver takes as Ctrl-C
NO_HANDLER = "RAY_DISABLE_FAILURE_SIGNAL_HANDLER"


def start_ray(**options: Any) -> list[psutil.Process]:
    """Start Ray on this machine; returns its processes.

    Args:
        options: of `ray.init`.

    Raises:
        KeyboardInterrupt: Ctrl-C, or SIGTERM; what was started is ended.
    """
    before = set(psutil.Process().children())
    try:
        with sigterm_held_back():
            ray.init(address="local", **options)
    except KeyboardInterrupt:
        stop_ray(_started(before))
        raise
    return _started(before)


@contextlib.contextmanager
def sigterm_held_back() -> Iterator[None]:
    """Take a SIGTERM or SIGHUP only after the block; processes that it starts never take one.

    The handler stays as it was: `ray.init` installs one that would end the process immediately,
    and its C++ code another one, which prints a stack trace, unless a variable says no.

    Only this thread blocks the signal. Another one, of a library, may take it, and then Ray's
    handler raises SystemExit here. Then what was started is ended, and the handler called.
    """
    handler, before = signal.getsignal(signal.SIGTERM), set(psutil.Process().children())
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    os.environ.setdefault(NO_HANDLER, "1")
    is_ended = False
    try:
        yield
    except SystemExit as error:
        if error.code != signal.SIGTERM:
            raise
        is_ended = True
        stop_ray(_started(before))
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)
    if is_ended:
        signal.raise_signal(signal.SIGTERM)
        raise KeyboardInterrupt


def stop_ray(processes: list[psutil.Process]) -> None:
    """Disconnect, and end the processes that were started here; none for a cluster's.

    `ray.shutdown` sends each of them a SIGTERM, and waits a second for it. Since they hold it back,
    they are killed as soon as this process has disconnected.
    """
    ours = [each for process in processes for each in (process, *_children(process))]

    def kill() -> None:
        while ray.is_initialized():
            time.sleep(0.01)
        for process in ours:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    killer = threading.Thread(target=kill, daemon=True)
    if ours:
        killer.start()
    ray.shutdown()
    if ours:
        killer.join()


@contextlib.contextmanager
def watched(processes: list[psutil.Process], hint: str) -> Iterator[None]:
    """End this process with one line if Ray is lost meanwhile.

    Without its head process Ray would wait for a minute, and then abort this process with a
    traceback of its own. All that a search has recorded is on the disk at any moment.

    Args:
        processes: of Ray, where it was started here; none for a cluster's.
        hint: what to do, for the end of the line.
    """
    over = threading.Event()
    if processes:
        lost, seconds = _local_loss(processes), LOCAL_POLL_SECONDS
    else:
        lost, seconds = _head_loss(ray.get_runtime_context().gcs_address), HEAD_POLL_SECONDS

    def watch() -> None:
        while not over.wait(seconds):
            if reason := lost():
                sys.stdout.flush()
                print(f"error: {ClusterError(f'{reason}: {hint}')}", file=sys.stderr, flush=True)
                os._exit(EXPECTED)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _local_loss(processes: list[psutil.Process]) -> Callable[[], str | None]:
    every = [each for process in processes for each in (process, *_children(process))]
    named = {process: _name(process) for process in every}
    essential = {process: name for process, name in named.items() if name in ESSENTIAL}

    def lost() -> str | None:
        gone = [name for process, name in essential.items() if not _is_running(process)]
        return f"a process of Ray, {gone[0]}, has ended" if gone else None

    return lost


def _head_loss(address: str) -> Callable[[], str | None]:
    host, _, port = address.rpartition(":")
    answered = time.monotonic()

    def lost() -> str | None:
        nonlocal answered
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
            answered = time.monotonic()
        except OSError:
            if time.monotonic() - answered > HEAD_SECONDS:
                return f"the head of the Ray cluster at {address} does not answer any more"
        return None

    return lost


def _started(before: set[psutil.Process]) -> list[psutil.Process]:
    """The child processes of this one that were not there before."""
    return [each for each in psutil.Process().children() if each not in before]


def _is_running(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _name(process: psutil.Process) -> str:
    """One of `ESSENTIAL`, or another name; empty if the process has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        name, words = str(process.name()), process.cmdline()
        is_agent = name in AGENTS or any(word.endswith(AGENT_FILES) for word in words)
        return AGENT if is_agent else name
    return ""


def _children(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return list(process.children(recursive=True))
    return []
