"""Machines that join a search are used, and trials leave those that are about to be taken away."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from command import run, start
from ray.cluster_utils import Cluster

pytestmark = pytest.mark.slow
NODE: dict[str, Any] = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 100_000_000}


def epochs_by_node(study: Path) -> dict[str, set[int]]:
    """The trials that were seen on each machine, of those that have ended."""
    folder = study / "trials"
    trials = pd.read_parquet(folder) if folder.is_dir() else pd.DataFrame({"trial": [], "node": []})
    return {str(node): set(rows["trial"]) for node, rows in trials.groupby("node")}


def running(study: Path, seconds: float = 10) -> set[int]:
    """The trials that have trained an epoch in the last seconds."""
    folder = study / "epochs"
    if not folder.is_dir():
        return set()
    epochs = pd.read_parquet(folder)
    late = epochs[epochs["time"] > pd.Timestamp.now(tz="UTC") - pd.Timedelta(seconds=seconds)]
    return set(late["trial"])


def wait_for(happened: Callable[[], Any], search: subprocess.Popen[str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert search.poll() is None, search.communicate()[0]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


def test_a_trial_leaves_a_machine_that_is_drained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on elsewhere with the scores that it would have had, and counts as no failure."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    study = tmp_path / "runs/digits-lt"
    args = (
        "search digits-lt --trials 2 --epochs 2100 --max-failures 0 --rungs prefix --finals 0 "
        f"--address {cluster.address}"
    )
    search = start(*args.split(), cwd=tmp_path)
    try:
        wait_for(lambda: running(study) == {0}, search, 300)
        spot = cluster.add_node(**NODE)
        wait_for(lambda: running(study) == {0, 1}, search, 300)  # no --max-concurrent was given
        drain = (
            f"drain-node --address {cluster.address} --node-id {spot.node_id} --reason "
            "DRAIN_NODE_REASON_PREEMPTION --reason-message test --deadline-remaining-seconds 25"
        )
        subprocess.run([sys.executable, "-m", "ray.scripts.scripts", *drain.split()], check=True)
        cluster.add_node(**NODE)
        output, _ = search.communicate(timeout=900)
    finally:
        search.send_signal(signal.SIGKILL)
        search.wait()
        cluster.shutdown()
    assert search.returncode == 0, output
    assert "trial 1 lost its worker (its machine is about to be taken away)" in output
    trials = pd.read_parquet(study / "trials").set_index("trial")
    assert set(trials["state"]) <= {"COMPLETE", "PRUNED"}
    assert str(spot.node_id) not in epochs_by_node(study)
    epochs = pd.read_parquet(study / "epochs")
    assert not epochs.duplicated(["trial", "budget", "epoch"]).any()
    again = run("train", "--trial", str(study), "1", cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "to the last bit" in again.stdout
