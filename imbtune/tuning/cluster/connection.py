"""Connects to Ray: started on this machine, or a running cluster. Lists its machines."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import ray

from imbtune.errors import ClusterError
from imbtune.tuning.cluster.address import resolved
from imbtune.tuning.cluster.draining import draining_nodes
from imbtune.tuning.cluster.local_ray import LONGEST, private_ray
from imbtune.tuning.cluster.ray_processes import (
    ENDINGS,
    sigterm_held_back,
    start_ray,
    stop_ray,
    watched,
)
from imbtune.tuning.cluster.resources import Node

CONNECT_SECONDS = 10  # time limit for a TCP connection to the head node
STATUS_SECONDS = 40  # time limit for `ray status`: a second, or many times that on a busy machine
SOCKET_PATH = 107  # bytes of a Unix socket's path at most (unix(7))
SESSION = "session_2026-01-01_00-00-00_000000_"  # the folder of a Ray session, before its process
SHORT_FOLDER = "/tmp"
GPU_KIND = "accelerator_type:"  # begins the name of a resource that Ray gives a machine with a GPU


def local_node() -> Node:
    """The CPUs and GPUs of this machine that this process may use."""
    import torch  # inside: the packed trials' proxies import this module, but do not need torch

    return Node(len(os.sched_getaffinity(0)), torch.cuda.device_count())


def cluster_nodes() -> list[Node]:
    """The machines of the cluster that this process is connected to, but for draining ones."""
    leaving = draining_nodes()
    nodes = [node for node in ray.nodes() if node["Alive"]]
    staying = [node for node in nodes if node["NodeID"] not in leaving]
    return [_node(node) for node in staying or nodes]


def node_of(machine: str) -> Node:
    """The machine with this node ID of Ray's."""
    (found,) = (node for node in ray.nodes() if node["NodeID"] == machine)
    return _node(found)


def _node(found: Mapping[str, Any]) -> Node:
    """A machine as Ray describes it; of several kinds of GPU in it, Ray names the first."""
    resources: Mapping[str, float] = found["Resources"]
    kinds = sorted(name for name in resources if name.startswith(GPU_KIND))
    return Node(
        int(resources.get("CPU", 0)),
        int(resources.get("GPU", 0)),
        kinds[0].removeprefix(GPU_KIND) if kinds else "",
        found["NodeID"],
    )


@contextmanager
def connected(address: str | None, hint: str = "start it again") -> Iterator[None]:
    """Start Ray on this machine, or connect to the cluster at `address`; disconnect at the end.

    Args:
        address: `HOST:PORT` of the head node, `auto`, or None for this machine.
        hint: what to do if Ray is lost meanwhile, which ends this process.

    Raises:
        ClusterError: no Ray cluster answers, or it refuses the connection.
    """
    # Tune's own CSV, JSON and TensorBoard files repeat what the study holds, and writing them is
    # most of Tune's overhead per trial
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    # between rungs, epochs are reported without a score, which Tune would treat as an error
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
    # Tune need not save all trials every few seconds: a search is resumed from its study's journal
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "inf"
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # execution/interrupts.py has one
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    processes: list[psutil.Process] = []
    with _interrupt_on_terminate(), ExitStack() as stack:
        try:
            if address:
                address = resolved(address)
                _check_answers(address)
                with sigterm_held_back():
                    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            else:
                node = local_node()
                with _short_temporary_folder():
                    folder = stack.enter_context(private_ray())  # until Ray has ended
                    processes = start_ray(
                        _temp_dir=folder,
                        num_cpus=node.cpus,
                        num_gpus=node.gpus,
                        include_dashboard=False,
                        log_to_driver=False,
                        logging_level=logging.ERROR,
                    )
        except Exception as error:  # Ray raises many kinds, among them a plain Exception
            raise _unreachable(address, error) from error
        try:
            with _without_ray_messages(), watched(processes, hint):
                yield
        finally:
            stop_ray(processes)


@contextmanager
def _without_ray_messages() -> Iterator[None]:
    """Keep Ray's messages about lost workers off the terminal: a search says what it does then.

    Ray prints them from a thread of its own, whatever its logging level is.
    """
    with patch.object(ray._private.worker, "print_to_stdstream", lambda *_, **__: None):
        yield


@contextmanager
def _short_temporary_folder() -> Iterator[None]:
    """Let Ray and its workers use /tmp where the path of the temporary folder is too long or empty.

    The system limits the path of a socket, and Ray's are deep inside that folder.

    Raises:
        ClusterError: it is too long, and nothing can be written to /tmp.
    """
    longest = SOCKET_PATH - len(f"{LONGEST}/{SESSION}{os.getpid()}/sockets/plasma_store")
    given = {name: os.environ[name] for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ}
    replaced = {
        name: folder
        for name, folder in given.items()
        if not folder or len(os.fsencode(Path(folder).absolute())) > longest
    }
    if any(replaced.values()) and not os.access(SHORT_FOLDER, os.W_OK | os.X_OK):
        name, folder = next(iter(replaced.items()))
        raise ClusterError(
            f"${name} {folder} is too long for the sockets of Ray: set it to a folder of at most "
            f"{longest} bytes"
        )
    os.environ.update(dict.fromkeys(replaced, SHORT_FOLDER))
    try:
        yield
    finally:
        os.environ.update(replaced)


@contextmanager
def _interrupt_on_terminate() -> Iterator[None]:
    """Treat SIGTERM (`ray job stop`, a batch system) as Ctrl-C, so that all rows are written.

    So it does with SIGHUP (the terminal is gone, as with a lost connection), unless it is ignored,
    as behind `nohup`.
    In a Ray job, SIGINT is blocked, since Ray blocks it in its own processes, so it is let through.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    numbers = [n for n in ENDINGS if signal.getsignal(n) is not signal.SIG_IGN]
    before = {
        number: signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
        for number in numbers
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_answers(address: str) -> None:
    """Check that a Ray head node answers at `HOST:PORT`.

    `ray.init` itself would try for 40 seconds or more, and print warnings of Ray's C++ code.

    Raises:
        OSError: nothing listens there, or `ray status` gets no answer within its time limit. Other
            failures of `ray status`, such as a missing token, are left to `ray.init`, which reports
            them.
    """
    host, colon, port = address.rpartition(":")
    if not colon:
        return
    socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    command = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address]
    try:
        subprocess.run(command, timeout=STATUS_SECONDS, capture_output=True, check=False)
    except subprocess.TimeoutExpired:
        raise ConnectionError(
            f"`ray status` got no answer in {STATUS_SECONDS} s; another program may use this port"
        ) from None


def _unreachable(address: str | None, error: Exception) -> ClusterError:
    """The user's error for a failed connection: why it failed, and what to do."""
    messages = ""
    cause: BaseException | None = error  # its text is often the address alone; its causes say why
    while cause:
        messages += f" {type(cause).__name__} {cause}"
        cause = cause.__cause__ or cause.__context__
    if "AuthenticationError" in messages or "AuthToken" in messages:
        return ClusterError(
            f"the Ray cluster at {address!r} needs a token: set RAY_AUTH_MODE=token, and copy "
            "~/.ray/auth_token from its head node or set RAY_AUTH_TOKEN"
        )
    reason = str(error.__cause__ or error).strip().partition("\n")[0]
    if address is None:
        return ClusterError(
            f"cannot start Ray on this machine ({reason}): check that its temporary folder can be "
            "written and has space, or set RAY_TMPDIR to another one"
        )
    return ClusterError(
        f"cannot connect to a Ray cluster at {address!r} ({reason}): start one with `ray start "
        "--head`, add this machine to it with `ray start --address`, or leave --address out"
    )
