"""Ray clusters of several nodes on this machine, whose nodes can be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

RAY = str(Path(sys.executable).parent / "ray")
WORKER = "ray::ResourceTrainable"  # how Ray calls the process of a trial


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Cluster:
    """Ray nodes on this machine, each started by `ray start` in a session of its own."""

    def __init__(self, folder: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.folder = folder
        self.nodes: list[subprocess.Popen[bytes]] = []

    def start(self, *args: str) -> subprocess.Popen[bytes]:
        """One more node, not yet ready."""
        common = "--num-cpus=1 --num-gpus=0 --object-store-memory=100000000 --block"
        ports = "--min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0"
        with (self.folder / f"node{len(self.nodes)}.log").open("wb") as log:
            node = subprocess.Popen(
                [RAY, "start", *common.split(), *ports.split(), *args],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.nodes.append(node)
        return node

    def wait(self) -> None:
        """Until all nodes are ready."""
        for number, node in enumerate(self.nodes):
            log = self.folder / f"node{number}.log"
            deadline = time.monotonic() + 120
            while "Ray runtime started" not in (said := log.read_text()):
                assert node.poll() is None and time.monotonic() < deadline, said
                time.sleep(0.2)

    def kill(self, *nodes: subprocess.Popen[bytes]) -> None:
        """End the nodes as a lost machine does: every process at once."""
        sessions = {node.pid for node in nodes}

        def none_is_left() -> bool:
            left = [pid for pid, session in running() if session in sessions]
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not left

        wait_for(none_is_left, 30)
        for node in nodes:
            node.wait()

    def workers(self, kind: str = WORKER) -> dict[int, subprocess.Popen[bytes]]:
        """The processes that train trials, and the node of each."""
        nodes = {node.pid: node for node in self.nodes}
        found = {pid: nodes[session] for pid, session in running() if session in nodes}
        return {pid: node for pid, node in found.items() if kind in title(pid)}


def running() -> Iterator[tuple[int, int]]:
    """Process and session IDs of all processes that have not ended."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # it ended while we looked
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    yield int(folder.name), int(fields[3])


def wait_for(happened: Callable[[], Any], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


def title(pid: int) -> str:
    """What a process calls itself; nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
