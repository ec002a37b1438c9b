"""Searches on real Ray clusters on this machine: two nodes, shares of a GPU, a lost node."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import yaml
from command import run, start
from ray_nodes import Cluster, free_port, wait_for


def two_nodes(autoscaling: bool = False) -> Iterator[Cluster]:
    """A head and another node with a CPU each, which ask for a token.

    Args:
        autoscaling: whether Ray's autoscaler may add a node with a GPU and four CPUs. The GPU is
            one on paper: Ray counts it, and PyTorch finds none.
    """
    folder = Path(tempfile.mkdtemp(prefix="imbtune-", dir="/tmp"))  # a socket's path has 107 bytes
    cluster = Cluster(folder)
    port = cluster.address.partition(":")[2]
    more = ["--include-dashboard=false"]
    if find_spec("grpc"):
        more.append(f"--ray-client-server-port={free_port()}")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)
        if autoscaling:
            path = folder / "autoscaler.yaml"
            path.write_text(yaml.safe_dump(autoscaler(cluster.address)))
            more.append(f"--autoscaling-config={path}")
            patch.setenv("RAY_FAKE_CLUSTER", "1")
            patch.setenv("AUTOSCALER_UPDATE_INTERVAL_S", "1")
        try:
            cluster.start("--head", f"--port={port}", f"--temp-dir={folder}/ray", *more)
            cluster.start(f"--address={cluster.address}")
            cluster.wait()
            yield cluster
        finally:
            cluster.kill(*cluster.nodes)
            shutil.rmtree(folder, ignore_errors=True)


def autoscaler(address: str) -> dict[str, object]:
    """The configuration of Ray's autoscaler for tests: a "machine" is one more node on this one."""
    lists = "initialization setup head_setup worker_setup head_start_ray worker_start_ray"
    return {
        "cluster_name": "test",
        "max_workers": 1,
        "idle_timeout_minutes": 5,
        "upscaling_speed": 1.0,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": address,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "foreground_node_launch": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
            "gpu": {
                "resources": {"CPU": 4, "GPU": 1, "object_store_memory": 100_000_000},
                "node_config": {},
                "min_workers": 0,
                "max_workers": 1,
            },
        },
        "head_node_type": "ray.head.default",
        "auth": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        "cluster_synced_files": [],
        "rsync_exclude": [],
        "rsync_filter": [],
        **{f"{name}_commands": [] for name in lists.split()},
    }


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    yield from two_nodes()


@pytest.fixture
def growing_cluster() -> Iterator[Cluster]:
    yield from two_nodes(autoscaling=True)


def read(study: Path, table: str) -> pd.DataFrame:
    """A table of a study that may be running."""
    folder = study / table
    return pd.read_parquet(folder) if folder.is_dir() else pd.DataFrame({"trial": []})


def test_trials_run_on_both_nodes(cluster: Cluster, tmp_path: Path) -> None:
    """Long enough ones for the second node's process to start before the first has trained all."""
    args = f"search digits-lt --trials 6 --epochs 120 --address {cluster.address} --storage studies"
    done = run(*args.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "6 trials, 2 at a time on 1 CPU each" in done.stdout
    trials = read(tmp_path / "studies/digits-lt", "trials")
    assert len(trials) == 6
    assert set(trials["state"]) <= {"COMPLETE", "PRUNED"}
    assert trials["node"].nunique() == 2


@pytest.mark.slow
def test_a_final_run_is_shared_by_both_nodes(cluster: Cluster, tmp_path: Path) -> None:
    """Each has one CPU, so one worker each. The results are written here, in no shared folder."""
    train = "train --preset mamix_drw --space digits-lt --epochs 2 --set precision=float32"
    args = f"{train} --workers 2 --address {cluster.address} --out shared"
    done = run(*args.split(), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 epochs on 2 workers with 1 CPU each" in done.stdout
    alone = run(*f"{train} --out alone".split(), cwd=tmp_path)
    table = done.stdout.partition("test set")[2].replace("shared", "alone")
    assert table == alone.stdout.partition("test set")[2]
    many = args.replace("--workers 2", "--workers 9").replace("--out shared", "--out many")
    refused = run(*many.split(), cwd=tmp_path)
    assert refused.returncode == 2 and not (tmp_path / "many").exists()
    assert refused.stderr.startswith("error: --workers 9: the cluster has room for ")
    assert refused.stderr.count("\n") == 1


def side_by_side(trials: int, study: Path, search: subprocess.Popen[str]) -> bool:
    """Whether that many trials have each trained an epoch before any other's last one."""
    assert search.poll() is None, search.communicate()[0]
    epochs = read(study, "epochs")
    if epochs["trial"].nunique() < trials:
        return False
    times = epochs.groupby("trial")["time"].agg(["min", "max"])
    return bool(times["min"].max() < times["max"].min())


def trained_since(time: pd.Timestamp, study: Path) -> int:
    """How many trials have trained an epoch since."""
    epochs = read(study, "epochs")
    return int(epochs[epochs["time"] > time]["trial"].nunique())


@pytest.mark.slow
def test_the_trial_of_a_node_that_dies_goes_on_elsewhere(cluster: Cluster, tmp_path: Path) -> None:
    """Here at a node that joins later, as the nodes that are left train their own trials."""
    lost = cluster.start(f"--address={cluster.address}")
    cluster.wait()
    args = f"search digits-lt --trials 4 --epochs 9000 --address {cluster.address}"
    study = tmp_path / "runs/digits-lt"
    search = start(*args.split(), cwd=tmp_path)
    try:
        wait_for(lambda: side_by_side(3, study, search), 240)
        cluster.kill(lost)
        cluster.start(f"--address={cluster.address}")
        joined = pd.Timestamp.now("UTC")
        wait_for(lambda: trained_since(joined, study) == 3, 240)
        search.send_signal(signal.SIGINT)
        output, _ = search.communicate(timeout=120)
    finally:
        search.kill()
    assert search.returncode == 130, output
    trials = read(study, "trials")
    assert set(trials["state"]) == {"STOPPED"} and trials["error"].isna().all()
    assert output.count("lost its worker") == 1
    assert trials["node"].nunique() == 3


@pytest.mark.slow
def test_four_trials_share_a_gpu_that_the_autoscaler_adds(
    growing_cluster: Cluster, tmp_path: Path
) -> None:
    """Eight trials may run; one GPU takes four, side by side until the search is interrupted."""
    args = (
        "search digits-lt --trials 8 --epochs 9000 --gpus-per-trial 0.25 --max-concurrent 8 "
        f"--address {growing_cluster.address}"
    )
    study = tmp_path / "runs/digits-lt"
    search = start(*args.split(), cwd=tmp_path)
    try:
        wait_for(lambda: side_by_side(4, study, search), 240)
        search.send_signal(signal.SIGINT)
        output, _ = search.communicate(timeout=120)
    finally:
        search.kill()
    assert search.returncode == 130, output
    assert "8 at a time on 1 CPU + 0.25 GPU each" in output
    assert "No machine of the cluster has a GPU yet" in output
    trials = read(study, "trials")
    assert trials["state"].tolist() == ["STOPPED"] * 8  # four of them before they began
    assert trials["node"].nunique() == 1
    assert read(study, "epochs")["trial"].nunique() == 4


@pytest.mark.slow
def test_packs_end_with_the_driver_that_is_killed(cluster: Cluster, tmp_path: Path) -> None:
    """There is a packed worker on each node, and none soon after; the cluster goes on."""
    args = f"search digits-lt --trials 4 --epochs 9000 --pack --address {cluster.address}"
    search = start(*args.split(), cwd=tmp_path)
    try:
        wait_for(lambda: len(cluster.workers("ray::PackedWorkerActor.")) == 2, 240)
    finally:
        search.kill()
        search.communicate()
    wait_for(lambda: not cluster.workers("ray::PackedWorkerActor"), 60)


@pytest.mark.slow
def test_a_missing_token_is_said_in_one_line(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("HOME", str(tmp_path))
    done = run("search", "digits-lt", "--address", cluster.address, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: the Ray cluster at '127.0.0.1:")
    assert "needs a token: set RAY_AUTH_MODE=token" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()
