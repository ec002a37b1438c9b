"""Real kills of workers, of Ray's processes and of the command: what is lost, and what goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from command import descendants, invoke_in, run, start

WORKER = "ray::ResourceTrainable"
SEARCH = "search digits-lt --trials 3 --epochs 9 --seed 3 --max-concurrent 1 --cpus-per-trial 1"
FINALS = "--finals 1 --final-seeds 4"
CLOCK = ["seconds", "started", "ended", "node"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study of a search without failures."""
    folder = tmp_path_factory.mktemp("whole")
    invoke_in(folder, *f"{SEARCH} {FINALS}".split())
    return folder / "runs" / "digits-lt"


def check_same(study: Path, whole: Path) -> None:
    """The same trials, epochs, finals and winner, to the last bit."""
    for table, clock in (("trials", CLOCK), ("epochs", ["time"]), ("finals", CLOCK)):
        frames = [pd.read_parquet(each / table).drop(columns=clock) for each in (study, whole)]
        keys = [key for key in ("trial", "seed", "phase", "budget", "epoch") if key in frames[0]]
        one, other = (frame.sort_values(keys).reset_index(drop=True) for frame in frames)
        pd.testing.assert_frame_equal(one, other)
    best = [re.sub(r"study: .*", "", (each / "best.yaml").read_text()) for each in (study, whole)]
    assert best[0] == best[1]


def named(pid: int, name: str) -> list[int]:
    """The processes below `pid` with this in their title."""
    return [child for child, title in descendants(pid).items() if name in title]


def wait_for(found: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not found():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def searching(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The same search, when its first trial is trained."""
    process = start(*f"{SEARCH} {FINALS}".split(), cwd=tmp_path)
    try:
        wait_for(lambda: named(process.pid, f"{WORKER}.train"), process)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow  # tests/unit/tuning/test_failures.py has what becomes of a lost worker
def test_a_search_goes_on_where_its_workers_are_killed(
    searching: subprocess.Popen[str], tmp_path: Path, whole: Path
) -> None:
    """One while trials run, one in the finals."""
    assert searching.stdout
    os.kill(named(searching.pid, WORKER)[0], signal.SIGKILL)
    said = []
    for line in searching.stdout:
        said.append(line)
        if "  final 1/" in line:
            wait_for(lambda: named(searching.pid, WORKER), searching)
            os.kill(named(searching.pid, WORKER)[0], signal.SIGKILL)
    output = "".join(said)
    assert searching.wait() == 0, output
    assert "trial 0 lost its worker (its process ended): another one goes on with it" in output
    assert output.count("lost its worker") == 2 and "Traceback" not in output
    check_same(tmp_path / "runs" / "digits-lt", whole)


@pytest.mark.slow
def test_a_worker_that_hangs_is_ended(tmp_path: Path, whole: Path) -> None:
    """Also one that a signal has stopped, which cannot answer."""
    process = start(*f"{SEARCH} {FINALS} --trial-timeout 8s".split(), cwd=tmp_path)
    wait_for(lambda: named(process.pid, f"{WORKER}.train"), process)
    os.kill(named(process.pid, WORKER)[0], signal.SIGSTOP)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert "trial 0 lost its worker (it reported nothing for 8 s)" in output
    check_same(tmp_path / "runs" / "digits-lt", whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("/gcs_server", "gcs_server"),
        ("/raylet", "raylet"),
        ("ray::DashboardAgent", "ray::DashboardA"),
        ("ray::RuntimeEnvAgent", "ray::RuntimeEnv"),
    ],
)
def test_without_ray_the_search_ends_with_one_line(
    title: str, name: str, searching: subprocess.Popen[str]
) -> None:
    (killed,) = [
        pid
        for pid in named(searching.pid, title)
        if Path(f"/proc/{pid}/comm").read_text().strip() == name
    ]
    os.kill(killed, signal.SIGKILL)
    output, _ = searching.communicate(timeout=20)
    assert searching.returncode == 2, output
    lost = "raylet's agent" if "Agent" in title else name
    assert output.splitlines()[-1].startswith(f"error: a process of Ray, {lost}, has ended: ")
    assert "imbtune resume runs/digits-lt" in output and "Traceback" not in output


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_all_processes_ends_the_search_in_order(
    number: signal.Signals, searching: subprocess.Popen[str], tmp_path: Path, whole: Path
) -> None:
    """As systemd, Slurm and a closed terminal send it. What is left is trained by resume."""
    for pid in [*descendants(searching.pid), searching.pid]:
        os.kill(pid, number)
    output, _ = searching.communicate(timeout=60)
    assert searching.returncode == 130, output
    assert "Next: to resume the search:" in output and "Traceback" not in output
    resumed = run("resume", "runs/digits-lt", *["--max-concurrent", "1"], cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    check_same(tmp_path / "runs" / "digits-lt", whole)


@pytest.mark.slow
def test_the_second_interrupt_ends_the_search_at_once(
    searching: subprocess.Popen[str], tmp_path: Path
) -> None:
    searching.send_signal(signal.SIGINT)
    assert searching.stdout
    said = []
    for line in searching.stdout:
        said.append(line)
        if "interrupted: " in line:
            searching.send_signal(signal.SIGINT)
    assert searching.wait() == 130
    output = "".join(said)
    assert "Traceback" not in output and (tmp_path / "runs/digits-lt/journal.log").exists()
    assert said[-1].startswith(("ended; ", "  imbtune resume")) or "imbtune resume" in said[-1]


@pytest.mark.slow
def test_failed_trials_are_trained_again_when_asked(tmp_path: Path) -> None:
    """A part that fails in workers until it is mended: its trial comes again, as a new one."""
    (tmp_path / "mine.py").write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from torch import Tensor\n"
        "from imbtune.methods.losses import MarginSoftmax, ce, losses\n\n"
        "@losses.register('mine', help='cross-entropy, once it is mended')\n"
        "def mine(counts_K: Tensor) -> MarginSoftmax:\n"
        f"    if 'worker' in sys.argv[0] and not Path({str(tmp_path / 'mended')!r}).exists():\n"
        "        raise RuntimeError('not mended')\n"
        "    return ce(counts_K)\n"
    )
    (tmp_path / "mine.yaml").write_text(
        "imports: [mine]\ndata: {name: digits}\ntrain: {epochs: 3, loss: mine}\n"
        "knobs: {optimizer.lr: {low: 0.05, high: 0.1}}\n"
    )
    ended = run(*["search", "mine.yaml", "--trials", "2", "--finals", "0"], cwd=tmp_path)
    assert ended.returncode == 1 and "RuntimeError: not mended" in ended.stdout, ended.stderr
    (tmp_path / "mended").touch()
    again = run("resume", "runs/mine", "--retry-failed", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "Failed trials to train again (not those that diverged): 2" in again.stdout
    rows = pd.read_parquet(tmp_path / "runs" / "mine" / "trials").sort_values("trial")
    assert list(rows["state"]) == ["FAIL", "FAIL", "COMPLETE", "COMPLETE"]
    assert list(rows["error"][:2]) == ["RuntimeError: not mended"] * 2
    assert rows["host"].notna().all() and rows["started"].notna().all()
    assert list(rows["optimizer.lr"][:2]) == list(rows["optimizer.lr"][2:])
    resumed = run("resume", "runs/mine", "--retry-failed", cwd=tmp_path)
    assert "Failed trials to train again (not those that diverged): 0" in resumed.stdout
    assert "All 4 trials of runs/mine are complete" in resumed.stdout
    said = "2 failed (2 since trained again without failing)"
    wall = "[0-9.]+ (s|min) of wall time"
    assert re.search(rf"\n4 of 4 trials in {wall}: 2 finished, {re.escape(said)}\n", resumed.stdout)
