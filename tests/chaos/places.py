"""Where a search runs and writes, and what can be broken there."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyarrow.fs as pafs

RAY = str(Path(sys.executable).parent / "ray")
NODE_OPTIONS = (
    "--num-gpus=0 --object-store-memory=100000000 --block "
    "--min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0"
)
BRIDGE = "10.77.0.1"  # of the network between the nodes
NUMBERS = itertools.count(1)  # of the nodes of all clusters, whose namespaces stay for a while
WORKER = "ray::ResourceTrainable"


def run(command: str) -> None:
    """A system command that must succeed."""
    subprocess.run(command.split(), check=True, capture_output=True)


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait; RuntimeError after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not in {seconds} s")
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def signal_tree(pid: int, number: int) -> None:
    """Send a signal to a process and all below it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


def below(pid: int, start: str) -> list[psutil.Process]:
    """The processes below `pid` whose name or title starts so."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                title = " ".join(process.cmdline())
                if process.name().startswith(start) or title.startswith(start):
                    found.append(process)
    return found


@dataclass
class Node:
    """A Ray node of a cluster, in a network namespace of its own (but for the head).

    Attributes:
        link: the network interface on our side; empty for the head.
    """

    process: subprocess.Popen[bytes]
    link: str = ""

    def kill(self) -> None:
        """All of its processes at once, as a machine that loses its power."""
        while self.process.poll() is None or below(self.process.pid, ""):
            signal_tree(self.process.pid, signal.SIGKILL)
            time.sleep(0.05)


@dataclass
class Cluster:
    """A head and workers on this machine, each worker with one CPU and a network of its own."""

    folder: Path
    address: str = ""
    head: Node | None = None
    workers: list[Node] = field(default_factory=list)
    _names: int = 0

    def start(self, workers: int) -> None:
        """Start the head, and so many workers."""
        self.address = f"{BRIDGE}:{free_port()}"
        port = self.address.rpartition(":")[2]
        options = f"--head --port={port} --node-ip-address={BRIDGE} --num-cpus=0 "
        self.head = Node(self._node(options + "--include-dashboard=false"))
        for _ in range(workers):
            self.add_worker()

    def add_worker(self) -> None:
        """One more machine."""
        self._names = next(NUMBERS)
        name, host = f"c{os.getpid()}-{self._names}", f"10.77.0.{10 + self._names % 200}"
        run(f"ip netns add {name}")
        run(f"ip link add {name}h type veth peer name {name}n")
        run(f"ip link set {name}h master chaosbr up")
        run(f"ip link set {name}n netns {name}")
        run(f"ip -n {name} addr add {host}/24 dev {name}n")
        run(f"ip -n {name} link set {name}n up")
        run(f"ip -n {name} link set lo up")
        options = f"--address={self.address} --node-ip-address={host} --num-cpus=1"
        self.workers.append(Node(self._node(options, f"ip netns exec {name} "), f"{name}h"))

    def _node(self, options: str, prefix: str = "") -> subprocess.Popen[bytes]:
        log = self.folder / f"node{self._names}-{time.monotonic_ns()}.log"
        with log.open("wb") as output:
            node = subprocess.Popen(
                [*prefix.split(), RAY, "start", *options.split(), *NODE_OPTIONS.split()],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(lambda: "Ray runtime started" in log.read_text(), 120, f"ray start {options}")
        return node

    def stop(self) -> None:
        """End all nodes."""
        for node in [*self.workers, *([self.head] if self.head else [])]:
            node.kill()
        self.workers, self.head = [], None


@contextmanager
def network() -> Iterator[None]:
    """A bridge between the network namespaces of the nodes; needs root."""
    with contextlib.suppress(subprocess.CalledProcessError):
        run("ip link del chaosbr")
    run("ip link add chaosbr type bridge")
    run(f"ip addr add {BRIDGE}/24 dev chaosbr")
    run("ip link set chaosbr up")
    try:
        yield
    finally:
        run("ip link del chaosbr")
        names = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
        for name in names.split():
            if name.startswith(f"c{os.getpid()}-"):
                run(f"ip netns del {name}")


class Disk:
    """A small disk for studies, which can be filled; needs root."""

    def __init__(self, folder: Path) -> None:
        self.storage, self._filler = str(folder), folder / "filler"
        folder.mkdir(exist_ok=True)
        run(f"mount -t tmpfs -o size=64m tmpfs {folder}")

    def fill(self) -> None:
        """Until nothing more can be written."""
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))

    def free(self) -> None:
        """Make room again."""
        self._filler.unlink(missing_ok=True)

    def close(self) -> None:
        run(f"umount -l {self.storage}")


class Bucket:
    """An S3 server on loopback, which can be stopped and killed. A kill loses nothing."""

    def __init__(self) -> None:
        os.environ |= {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        port = free_port()
        self._server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        endpoint = f"http://127.0.0.1:{port}"
        self.storage = f"s3://studies/chaos?endpoint_override={endpoint}&region=us-east-1"

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(answers, 30, "the S3 server")
        pafs.S3FileSystem(
            endpoint_override=endpoint, region="us-east-1", allow_bucket_creation=True
        ).create_dir("studies")

    def stop(self) -> None:
        """It does not answer any more."""
        self._server.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """It answers again."""
        self._server.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self._server.kill()
        self._server.wait()
