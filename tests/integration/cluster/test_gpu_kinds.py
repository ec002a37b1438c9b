"""`--gpus-per-trial auto` on a cluster with two kinds of GPU, which exist on paper only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command import run
from ray.cluster_utils import Cluster

NODE: dict[str, Any] = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 100_000_000}


@pytest.mark.slow
def test_each_kind_of_gpu_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray counts GPUs that PyTorch does not find, so trials train on CPUs."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    kinds = [{**NODE, "resources": {f"accelerator_type:{kind}": 1}} for kind in ("T4", "H100")]
    cluster = Cluster(initialize_head=True, head_node_args={**kinds[0], "include_dashboard": False})
    try:
        cluster.add_node(**kinds[1])
        args = f"search digits-lt --trials 2 --epochs 1 --address {cluster.address}"
        # two nodes, two measurements and two workers start on what may be two busy cores
        done = run(*args.split(), "--gpus-per-trial", "auto", cwd=tmp_path, timeout=900)
    finally:
        cluster.shutdown()
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = (line for line in done.stdout.splitlines() if "chosen: --gpus-per-trial" in line)
    assert "1 trial on T4 trains " in line
    assert "1 trial on H100 trains " in line
    assert line.endswith("chosen: --gpus-per-trial 1, the largest share that a kind needs")
