"""A search with packed workers: one is killed, then the driver; it is resumed to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from command import descendants, run, start

SEARCH = (
    "search digits-lt --trials 7 --epochs 18 --sampler random --finals 0 --pack "
    "--max-concurrent 2 --cpus-per-trial 1"
)


def read(study: Path, table: str) -> pd.DataFrame:
    folder = study / table
    try:
        return pd.read_parquet(folder)
    except FileNotFoundError:  # not yet there, or replaced by one file while it was listed
        return pd.DataFrame({"trial": [], "state": []})


def wait_for(happened: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def called(name: str, pid: int) -> list[int]:
    """The processes below `pid` that Ray calls so."""
    return [child for child, title in descendants(pid).items() if f"ray::{name}" in title]


def with_torch(pid: int) -> list[int]:
    """The processes below `pid` that have loaded torch."""

    def has_torch(child: int) -> bool:
        try:
            return "libtorch_cpu" in Path(f"/proc/{child}/maps").read_text()
        except OSError:  # it ended while we looked
            return False

    return [child for child in descendants(pid) if has_torch(child)]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packed worker is killed while it trains, the driver some trials later."""
    home = tmp_path_factory.mktemp("home")
    study = home / "runs/digits-lt"
    search = start(*SEARCH.split(), cwd=home)
    try:
        wait_for(lambda: called("PackedWorkerActor.step", search.pid))
        assert len(called("ResourceTrainable.", search.pid)) <= 2
        (worker,) = with_torch(search.pid)
        assert b"MALLOC_ARENA_MAX=1" in Path(f"/proc/{worker}/environ").read_bytes()
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: len(read(study, "trials")) >= 3)
    finally:
        search.kill()
        search.communicate()
    done = run("resume", "runs/digits-lt", cwd=home)
    assert done.returncode == 0, done.stdout + done.stderr
    return study


@pytest.mark.slow  # packs are experimental and off
def test_a_worker_that_dies_fails_its_trials_alone(study: Path) -> None:
    trials = read(study, "trials").sort_values("trial").reset_index()
    assert trials["trial"].tolist() == list(range(7))
    failed = trials["state"] == "FAIL"
    assert 1 <= failed.sum() <= 2
    assert set(trials["state"][~failed]) == {"COMPLETE", "PRUNED"}
    assert trials["error"].notna().tolist() == failed.tolist()
    assert yaml.safe_load((study / "study.yaml").read_text())["request"]["pack"] is True


@pytest.mark.slow
def test_packed_trials_score_as_they_do_alone(study: Path) -> None:
    """Every epoch and rung, to the last bit, on the pack's threads: one for each of its trials."""
    trials = read(study, "trials")
    assert set(trials["threads"].dropna()) == {2}
    for state in ("COMPLETE", "PRUNED"):
        number = trials["trial"][trials["state"] == state].iloc[-1]
        again = run("train", "--trial", "runs/digits-lt", str(number), cwd=study.parents[1])
        assert again.returncode == 0, again.stdout + again.stderr


def test_the_actor_that_Tune_sees_does_not_load_torch() -> None:
    code = "import sys, imbtune.tuning.packing.ray_hosts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
