"""Trials that take all of a machine's CPUs have their own ones: real processes, a real search."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from command import run
from hypothesis import given
from hypothesis import strategies as st

from imbtune.search.resources import Node, Resources, fills

CPUS = sorted(os.sched_getaffinity(0))
TAKES = """
import os, sys, threading, time
from imbtune.search import cpus
cpus.NAME = sys.argv[1]
early = threading.Thread(target=lambda: (wait.wait(), say(3)))
wait, found = threading.Event(), {}
def say(place):
    found[place] = sorted(os.sched_getaffinity(0))
early.start()
cpus.keep_to_own_cpus(int(sys.argv[2]), int(sys.argv[3]))
say(0)
late = threading.Thread(target=say, args=[1])
late.start(), late.join(), wait.set(), early.join()
print([found[0], found[1], found[3]], flush=True)
for _ in sys.stdin:
    child = os.fork()
    if not child:
        os.close(0), os.close(1), time.sleep(60), os._exit(0)
    print(child, flush=True)
"""


FORBIDDEN = """
import os
def forbidden(*_):
    raise PermissionError(1, "Operation not permitted")
os.sched_setaffinity = forbidden
"""


class Process:
    """Takes CPUs, and keeps them until it is ended."""

    def __init__(self, lane: str, count: int, machine: int, forbidden: bool = False) -> None:
        forbid = FORBIDDEN if forbidden else ""
        command = [sys.executable, "-c", forbid + TAKES, lane, str(count), str(machine)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        self.mine, self.of_late_thread, self.of_early_thread = json.loads(
            self.process.stdout.readline()
        )

    def ask(self, what: str) -> str:
        """The answer to a line."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def lane() -> str:
    """Names of its own: a search that runs elsewhere on this machine has the usual ones."""
    return f"imbtune-test-{uuid.uuid4().hex}-"


def test_each_process_has_its_own_cpus_and_a_killed_one_frees_them(lane: str) -> None:
    with ExitStack() as stack:
        all_of_them = [
            stack.enter_context(Process(lane, 1, len(CPUS))) for _ in range(min(4, len(CPUS)))
        ]
        taken = [process.mine for process in all_of_them]
        assert taken == [[cpu] for cpu in CPUS[: len(taken)]]
        all_of_them[0].__exit__()
        with Process(lane, 1, len(CPUS)) as following:
            assert following.mine == CPUS[:1]


def test_threads_that_come_later_stay_there_too_earlier_ones_do_not(lane: str) -> None:
    """Ray's own threads are there before."""
    with Process(lane, 1, len(CPUS)) as process:
        assert process.of_late_thread == process.mine == CPUS[:1]
        assert process.of_early_thread == CPUS


def test_a_fork_that_outlives_its_process_holds_nothing(lane: str) -> None:
    """As a DataLoader's worker may."""
    with Process(lane, 1, len(CPUS)) as process:
        forked = int(process.ask("fork"))
        try:
            process.__exit__()
            with Process(lane, 1, len(CPUS)) as following:
                assert following.mine == CPUS[:1]
        finally:
            os.kill(forked, signal.SIGKILL)


def test_a_system_that_forbids_it_fails_no_trial(lane: str) -> None:
    with (
        Process(lane, 1, len(CPUS), forbidden=True) as process,
        Process(lane, 1, len(CPUS)) as following,
    ):
        assert process.mine == CPUS
        assert following.mine == CPUS[:1]  # and no CPU is held for nothing


def test_where_not_enough_are_free_none_is_taken(lane: str) -> None:
    with (
        Process(lane, 1, len(CPUS)),
        Process(lane, len(CPUS), len(CPUS)) as too_many,
        Process(lane, max(1, len(CPUS) - 1), len(CPUS)) as rest,
    ):
        assert too_many.mine == CPUS
        assert rest.mine == (CPUS[1:] or CPUS)


@pytest.mark.parametrize("machine", [0, len(CPUS) - 1, len(CPUS) + 1])
def test_a_process_that_sees_other_cpus_than_ray_takes_none(lane: str, machine: int) -> None:
    """A container whose quota Ray has read; a node that was started with fewer or more."""
    with Process(lane, 1, machine) as process:
        assert process.mine == CPUS


# ---- when they do --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus", "concurrent", "full"),
    [
        ([(2, 0)], 1, 0.0, 2, True),
        ([(2, 0)], 1, 0.0, 1, False),  # one CPU is left
        ([(5, 0)], 2, 0.0, 2, False),
        ([(2, 0), (4, 0)], 2, 0.0, 3, True),
        ([(2, 0), (4, 0)], 2, 0.0, 2, False),
        ([(8, 1)], 2, 0.25, 4, False),  # which CPUs are near the GPU nobody has asked
        ([(8, 1)], 2, 0.0, 4, True),
        ([(4, 0)], 1, 0.0, 8, False),  # more machines have still to come
        ([(3, 0), (5, 0)], 2, 0.0, 4, False),  # the sum is right, and a CPU is left on each
        ([(16, 0)], 1, 0.0, 16, False),  # nine runs
    ],
)
def test_trials_that_take_every_cpu(
    nodes: list[tuple[int, int]], cpus: int, gpus: float, concurrent: int, full: bool
) -> None:
    machines = [Node(*node) for node in nodes]
    assert fills(machines, Resources(cpus, gpus, concurrent), 9) is full


@given(
    st.lists(st.builds(Node, st.integers(1, 8), st.integers(0, 4)), min_size=1, max_size=3),
    st.integers(1, 4),
    st.integers(1, 24),
    st.integers(1, 24),
)
def test_they_do_where_places_and_runs_are_as_many_and_no_cpu_is_left(
    nodes: list[Node], cpus: int, concurrent: int, runs: int
) -> None:
    places = [node.cpus // cpus for node in nodes]
    left = any(node.cpus - place * cpus for node, place in zip(nodes, places, strict=True))
    full = not left and min(concurrent, runs) == sum(places)
    assert fills(nodes, Resources(cpus, 0.0, concurrent), runs) == full


# ---- in a search ---------------------------------------------------------------------------------

OWN_LOSS = """
import os, time
from pathlib import Path
from imbtune.methods.losses import ce, losses
from imbtune.search import cpus

cpus.NAME = {lane!r}  # each actor reads this file before it takes its CPUs

@losses.register("watched", help="for this test")
def watched(counts_K):
    folder, cpu = Path({folder!r}), sorted(os.sched_getaffinity(0))
    (folder / str(os.getpid())).write_text(str(cpu))
    ends = time.monotonic() + 60
    while len(cpu) == 1 and len(list(folder.iterdir())) < {processes} and time.monotonic() < ends:
        time.sleep(0.1)  # else the first actor could have all trials
    return ce(counts_K)
"""
SPACE = {
    "imports": ["my_watch"],
    "data": {"name": "digits", "head": 40, "ratio": 10, "val_per_class": 5},
    "train": {"epochs": 2, "loss": "watched"},
    "rungs": {"count": 1},
    "presets": [],
    "knobs": {"optimizer.lr": {"low": 0.1, "high": 0.2}},
}


@pytest.mark.skipif(len(CPUS) < 2, reason="one CPU is everybody's own")
@pytest.mark.parametrize(("options", "own"), [([], True), (["--pack"], False)])
def test_the_trials_of_a_search_that_fills_the_machine(
    tmp_path: Path, lane: str, options: list[str], own: bool
) -> None:
    """Each actor's trials ran on one CPU; those of a pack on all of them."""
    seen, few = tmp_path / "seen", CPUS[:2]
    seen.mkdir()
    given = {"lane": lane, "folder": str(seen), "processes": 1 + len(few) if own else 1}
    (tmp_path / "my_watch.py").write_text(OWN_LOSS.format(**given))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(SPACE))
    os.sched_setaffinity(0, few)  # the command inherits it
    try:
        done = run("search", "mine.yaml", "--trials", "4", "--finals", "0", *options, cwd=tmp_path)
    finally:
        os.sched_setaffinity(0, CPUS)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {tuple(json.loads(file.read_text())) for file in seen.iterdir()}
    actors = {(cpu,) for cpu in few} if own else set()
    assert found == {tuple(few)} | actors  # the command itself tries the loss too
