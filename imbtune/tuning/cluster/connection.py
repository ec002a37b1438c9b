"""Ray: started on this machine, or a running cluster; and the machines that it has."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import AuthenticationError

from imbtune.errors import ClusterError
from imbtune.tuning.cluster.resources import Node

# Ray's head speaks gRPC, which is HTTP/2: both sides begin with a frame of settings (RFC 9113, 3.4)
SETTINGS = b"\4"  # the type of such a frame, its fourth byte
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + SETTINGS + b"\0\0\0\0\0"


def local_node() -> Node:
    """This machine."""
    import torch  # the actors of packs have no use for it (hosts.py)

    return Node(len(os.sched_getaffinity(0)), torch.cuda.device_count())


def cluster_nodes() -> list[Node]:
    """The machines of the cluster that this process is connected to."""
    return [_node(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def node_of(machine: str) -> Node:
    """The machine with an ID of Ray's."""
    (found,) = (node["Resources"] for node in ray.nodes() if node["NodeID"] == machine)
    return _node(found)


def _node(resources: Mapping[str, float]) -> Node:
    return Node(int(resources.get("CPU", 0)), int(resources.get("GPU", 0)))


def check_address(address: str | None) -> None:
    """ClusterError for Ray Client: Tune would move the search to the head node, away from us."""
    if address == "local":
        raise ClusterError("--address local is no cluster: leave --address out to use this machine")
    if address and "://" in address:
        raise ClusterError(
            f"--address {address}: a search cannot run through Ray Client: run it on a machine of "
            "the cluster with --address auto, or send it there with `ray job submit`"
        )


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Ray on this machine, or the cluster at `address`; left again at the end."""
    # Tune's own CSV, JSON and TensorBoard files repeat what the study holds, and cost a trial most
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    # epochs are reported between rungs too, without a score; Tune would call that an error
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
    # no snapshots of all trials every few seconds: a search goes on from the journal of its study
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "inf"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address:
            _knock(address)
            ray.init(address=address, **quiet)
        else:
            node = local_node()
            ray.init(
                address="local",
                num_cpus=node.cpus,
                num_gpus=node.gpus,
                include_dashboard=False,
                **quiet,
            )
    except (AuthenticationError, OSError, ValueError) as error:
        raise _unreachable(address, error) from error
    try:
        with _interrupt_on_terminate():
            yield
    finally:
        ray.shutdown()


@contextmanager
def _interrupt_on_terminate() -> Iterator[None]:
    """SIGTERM (`ray job stop`, a batch system) ends a search as Ctrl-C does: its rows are kept.

    Ray's own handler, which comes with `ray.init`, ends the process at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _knock(address: str) -> None:
    """OSError at once where nothing answers, or no Ray: Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon:
        return
    with socket.create_connection((host.strip("[]"), int(port)), timeout=10) as connection:
        if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
            return
        connection.sendall(HTTP2)
        if connection.recv(9, socket.MSG_WAITALL)[3:4] != SETTINGS:
            raise ConnectionError("something else than Ray answers")


def _unreachable(address: str | None, error: Exception) -> ClusterError:
    """What to do about a cluster that Ray could not join."""
    said = ""
    cause: BaseException | None = (
        error  # Ray's own error says only the address; the reason is in its causes
    )
    while cause:
        said, cause = f"{said} {type(cause).__name__} {cause}", cause.__cause__ or cause.__context__
    if "AuthenticationError" in said or "AuthToken" in said:
        return ClusterError(
            f"the Ray cluster at {address!r} wants a token: set RAY_AUTH_MODE=token, and copy "
            "~/.ray/auth_token from its head node or set RAY_AUTH_TOKEN"
        )
    reason = str(error.__cause__ or error).strip().partition("\n")[0]
    return ClusterError(
        f"no Ray cluster at {address!r} for this machine ({reason}): start one with `ray start "
        "--head`, join it with `ray start --address`, or leave --address out"
    )
