"""Random failures in real searches, and what they leave: `make chaos`.

    python tests/chaos/chaos.py --faults 200 --seed 0 --out chaos.json

Each round is one search of a few trials, on this machine or on a cluster of `ray start` nodes in
network namespaces of their own (so it needs root), in a folder, on a small disk or in a bucket.
While it runs, failures of random kinds come at random times; where it ends, it is resumed. In the
end the study must be that of a search without failures, row by row, and its winner the same. One
trial runs at a time, since only then the order in which trials end does not depend on the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from checks import Ended, problems_of, read_ended
from places import WORKER, Bucket, Cluster, Disk, Node, below, network, signal_tree

from imbtune.storage import Store, join

IMBTUNE = str(Path(sys.executable).parent / "imbtune")
SEARCH = (
    "search digits-lt --trials 8 --epochs 9 --seed 5 --finals 2 --final-seeds 2 "
    "--max-concurrent 1 --cpus-per-trial 1 --max-failures 20 --trial-timeout 20s"
)
NAME, TRIALS = "digits-lt", 8
LONGEST = 600.0  # seconds of a round, after which it counts as hung
# exit codes of a command that failures ended; by a signal itself before Python has started
ENDS = (0, 2, 130, -signal.SIGKILL, -signal.SIGINT, -signal.SIGTERM)


@dataclass
class Round:
    """One search, with what is broken in it.

    Attributes:
        faults: the kinds that came, in order.
        output: of all commands so far.
        commands: how many there were.
    """

    rng: random.Random
    folder: Path
    storage: str
    cluster: Cluster | None = None
    disk: Disk | None = None
    bucket: Bucket | None = None
    faults: list[str] = field(default_factory=list)
    log: Path = Path()
    commands: int = 0
    driver: subprocess.Popen[bytes] | None = None

    @property
    def study(self) -> str:
        return join(self.storage, NAME)

    def start(self) -> None:
        """Start the search, or resume it."""
        started = Store(self.study).exists("study.yaml")
        line = f"resume {self.study}" if started else f"{SEARCH} --storage {self.storage}"
        if started:
            line += " --max-concurrent 1 --cpus-per-trial 1"
        if self.cluster:
            line += f" --address {self.cluster.address}"
        self.commands += 1
        with self.log.open("ab") as output:
            self.driver = subprocess.Popen(
                [IMBTUNE, *line.split()],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
            )

    def first_pause(self) -> float:
        """Wait until a trial is trained, mostly; returns how long the first failure is off then."""
        if self.rng.random() < 0.8:
            while self.is_running() and not self.workers():
                time.sleep(0.2)
        return self.rng.uniform(0, 8)

    @property
    def pid(self) -> int:
        assert self.driver
        return self.driver.pid

    def is_running(self) -> bool:
        return self.driver is not None and self.driver.poll() is None

    def workers(self) -> list[int]:
        """The processes that train, on any node."""
        roots = [self.pid]
        if self.cluster:
            roots = [node.process.pid for node in self.cluster.workers]
        return [process.pid for root in roots for process in below(root, WORKER)]


# ---- failures: each returns whether it could happen ------------------------------------------

Fault = Callable[[Round], bool]


def driver_killed(round: Round) -> bool:
    os.kill(round.pid, signal.SIGKILL)
    return True


def driver_interrupted(round: Round) -> bool:
    os.kill(round.pid, signal.SIGINT)
    return True


def driver_interrupted_twice(round: Round) -> bool:
    os.kill(round.pid, signal.SIGINT)
    time.sleep(round.rng.uniform(0, 1))
    if round.is_running():
        os.kill(round.pid, signal.SIGINT)
    return True


def group_terminated(round: Round) -> bool:
    """SIGTERM to every process of the command, as systemd and Slurm send it."""
    signal_tree(round.pid, signal.SIGTERM)
    return True


def worker_killed(round: Round) -> bool:
    found = round.workers()
    if found:
        os.kill(round.rng.choice(found), signal.SIGKILL)
    return bool(found)


def worker_stopped(round: Round) -> bool:
    """It hangs, and never goes on."""
    found = round.workers()
    if found:
        os.kill(round.rng.choice(found), signal.SIGSTOP)
    return bool(found)


def gcs_killed(round: Round) -> bool:
    return _kill_below(round.pid, "gcs_server")


def raylet_killed(round: Round) -> bool:
    return _kill_below(round.pid, "raylet")


def node_raylet_killed(round: Round) -> bool:
    assert round.cluster
    node = round.rng.choice(round.cluster.workers)
    if not _kill_below(node.process.pid, "raylet"):
        return False
    _replace(round.cluster, node)
    return True


def node_killed(round: Round) -> bool:
    """All processes of a machine at once; another machine joins."""
    assert round.cluster
    _replace(round.cluster, round.rng.choice(round.cluster.workers))
    return True


def node_stopped(round: Round) -> bool:
    """All processes of a machine hang for up to a minute."""
    assert round.cluster
    node = round.rng.choice(round.cluster.workers)
    signal_tree(node.process.pid, signal.SIGSTOP)
    time.sleep(round.rng.uniform(2, 60))
    signal_tree(node.process.pid, signal.SIGCONT)
    time.sleep(2)
    if node.process.poll() is not None or not below(node.process.pid, "raylet"):
        _replace(round.cluster, node)  # the head has given it up
    return True


def node_cut_off(round: Round) -> bool:
    """Its network is down for up to a minute."""
    assert round.cluster
    node = round.rng.choice(round.cluster.workers)
    subprocess.run(["ip", "link", "set", node.link, "down"], check=True)
    time.sleep(round.rng.uniform(2, 60))
    subprocess.run(["ip", "link", "set", node.link, "up"], check=True)
    time.sleep(2)
    if node.process.poll() is not None or not below(node.process.pid, "raylet"):
        _replace(round.cluster, node)
    return True


def head_killed(round: Round) -> bool:
    """The driver ends with a line; the cluster is started again."""
    assert round.cluster and round.cluster.head
    round.cluster.head.kill()
    assert round.driver
    round.driver.wait(LONGEST)
    round.cluster.stop()
    round.cluster.start(2)
    return True


def disk_full(round: Round) -> bool:
    assert round.disk
    round.disk.fill()
    time.sleep(round.rng.uniform(1, 15))
    round.disk.free()
    return True


def bucket_down(round: Round) -> bool:
    assert round.bucket
    round.bucket.stop()
    time.sleep(round.rng.uniform(1, 40))
    round.bucket.go_on()
    return True


def checkpoint_damaged(round: Round) -> bool:
    """A byte of a checkpoint is another one, or its end is missing; then a worker is lost."""
    store = Store(round.study)
    names = store.names("checkpoints") if store.exists("checkpoints") else []
    if not names or not store.local:
        return False
    path = store.local / "checkpoints" / round.rng.choice(names)
    try:
        content = bytearray(path.read_bytes())
    except FileNotFoundError:
        return False
    place = round.rng.randrange(len(content))
    if round.rng.random() < 0.5:
        content[place] ^= 0xFF
    else:
        del content[place:]
    path.write_bytes(content)
    worker_killed(round)  # if there is one
    return True


def hidden_files_damaged(round: Round) -> bool:
    """The driver is killed; its hidden files are garbage, and foreign files lie beside them."""
    store = Store(round.study)
    if not store.local or not store.local.is_dir():
        return False
    os.kill(round.pid, signal.SIGKILL)
    assert round.driver
    round.driver.wait()
    for path in store.local.glob(".*.jsonl"):
        with path.open("ab") as lines:
            lines.write(b'{"trial": \x00\xff garbage\n')
    (store.local / "checkpoints").mkdir(exist_ok=True)
    (store.local / "checkpoints" / "notes.txt").write_text("foreign")
    (store.local / ".trials-part-000009.parquet.tmp").write_text("a half-written file")
    return True


def _kill_below(pid: int, name: str) -> bool:
    found = below(pid, name) or [
        p for p in below(pid, "") if f"/{name}" in " ".join(p.cmdline()[:1])
    ]
    for process in found[:1]:
        process.kill()
    return bool(found)


def _replace(cluster: Cluster, node: Node) -> None:
    node.kill()
    cluster.workers.remove(node)
    cluster.add_worker()


DRIVER: list[Fault] = [driver_killed, driver_interrupted, driver_interrupted_twice]
HERE: list[Fault] = [*DRIVER, group_terminated, worker_killed, worker_stopped]
HERE += [gcs_killed, raylet_killed]
FILES: list[Fault] = [checkpoint_damaged, hidden_files_damaged]
NODES: list[Fault] = [*DRIVER, worker_killed, worker_stopped, node_raylet_killed, node_killed]
NODES += [node_stopped, node_cut_off, head_killed]


# ---- rounds ----------------------------------------------------------------------------------


def play(round: Round, kinds: list[Fault], count: int, expected: Ended) -> list[str]:
    """Run the search to its end, with up to `count` failures; returns what is wrong then."""
    deadline = time.monotonic() + LONGEST
    round.start()
    pause, known = round.first_pause(), 0  # how many failures had come when a command ended
    while True:
        due = time.monotonic() + pause
        while round.is_running() and time.monotonic() < due:
            time.sleep(0.1)
        if time.monotonic() > deadline:
            signal_tree(round.pid, signal.SIGKILL)
            return [f"it hangs after {round.faults}"]
        if round.is_running():
            if len(round.faults) < count:
                fault = round.rng.choice(kinds)
                if fault(round):
                    round.faults.append(fault.__name__)
                    pause = round.rng.uniform(0.5, 12)
                else:
                    pause = 0.5
            else:
                pause = 5.0
            continue
        assert round.driver
        code = round.driver.returncode
        last = round.log.read_text(errors="replace").splitlines()[-1:]
        if code not in ENDS or (code == 2 and len(round.faults) == known):
            return [f"exit code {code} after {round.faults[-1:]}: {last}"]
        known = len(round.faults)
        if code == 0:
            output = round.log.read_text(errors="replace")
            # without its checkpoint a trial is trained from its start, which its cost includes
            ignored = ["images"] if "checkpoint_damaged" in round.faults else []
            return problems_of(round.study, TRIALS, output, expected, ignored)
        round.start()
        pause = round.first_pause()


def place(rng: random.Random, folder: Path, number: int, kind: str) -> tuple[Round, list[Fault]]:
    """A round of a kind: `here`, `disk`, `bucket` or `cluster`."""
    home = folder / f"round{number}"
    home.mkdir()
    made = Round(rng, home, str(home / "runs"), log=home / "output.log")
    if kind == "disk":
        made.disk = Disk(home / "disk")
        made.storage = made.disk.storage
        return made, [*HERE, *[disk_full] * 6]
    if kind == "bucket":
        made.bucket = Bucket()
        made.storage = made.bucket.storage
        return made, [*HERE, *[bucket_down] * 6]
    if kind == "cluster":
        made.cluster = Cluster(home)
        made.cluster.start(2)
        return made, NODES
    return made, [*HERE, *FILES * 2]


def main() -> None:
    """Play rounds until there were enough failures; exit with 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--faults", type=int, default=200, help="failures in all")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no round after them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default="here,disk,bucket,cluster", help="places of the rounds")
    parser.add_argument("--out", type=Path, default=Path("chaos.json"))
    given = parser.parse_args()
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    rng, began = random.Random(given.seed), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="imbtune-chaos-"))
    command = f"{IMBTUNE} {SEARCH} --storage {folder}/expected"
    subprocess.run(command.split(), check=True, capture_output=True)
    expected = read_ended(f"{folder}/expected/{NAME}")
    counts, wrong, rounds, commands = Counter[str](), list[str](), Counter[str](), 0
    kinds = given.kinds.split(",")
    with network() if "cluster" in kinds else nullcontext():
        while counts.total() < given.faults and time.monotonic() - began < 60 * given.minutes:
            number = rounds.total()
            kind = kinds[number % len(kinds)]
            made, possible = place(rng, folder, number, kind)
            try:
                found = play(made, possible, rng.randint(2, 8), expected)
            finally:
                if made.is_running():
                    signal_tree(made.pid, signal.SIGKILL)
                for each in (made.disk, made.bucket):
                    if each:
                        each.close()
                if made.cluster:
                    made.cluster.stop()
            rounds[kind] += 1
            commands += made.commands
            counts.update(made.faults)
            wrong += [f"round {number} ({kind}, {made.faults}): {each}" for each in found]
            print(f"round {number} {kind}: {made.faults}: {found or 'whole'}", flush=True)
            result = {
                "rounds": dict(rounds), "commands": commands, "faults": dict(counts),
                "wrong": wrong, "seconds": round(time.monotonic() - began),
            }  # fmt: skip
            given.out.write_text(json.dumps(result, indent=1) + "\n")
            if not found:
                shutil.rmtree(made.folder, ignore_errors=True)
    print(f"{counts.total()} failures in {rounds.total()} searches; wrong: {len(wrong)}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
