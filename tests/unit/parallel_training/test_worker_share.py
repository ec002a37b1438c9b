"""How many workers fit, and what each gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imbtune.errors import ConfigError
from imbtune.parallel_training.worker_share import WorkerShare, plan_workers
from imbtune.tuning.cluster.resources import Node


@pytest.mark.parametrize(
    ("nodes", "workers", "share"),
    [
        ([Node(8, 0)], 2, WorkerShare(4, 0)),
        ([Node(8, 0)], 3, WorkerShare(2, 0)),
        ([Node(1, 0)], 1, WorkerShare(1, 0)),
        ([Node(8, 0), Node(2, 0)], 3, WorkerShare(2, 0)),
        ([Node(8, 0), Node(2, 0)], 10, WorkerShare(1, 0)),
        ([Node(16, 4)], 4, WorkerShare(4, 1)),
        ([Node(16, 4), Node(64, 0)], 2, WorkerShare(8, 1)),  # the second has no GPU: not used
        ([Node(16, 4), Node(8, 4)], 8, WorkerShare(2, 1)),
        ([Node(2, 4)], 2, WorkerShare(1, 1)),
    ],
)
def test_a_gpu_each_or_an_even_share_of_the_cpus(
    nodes: list[Node], workers: int, share: WorkerShare
) -> None:
    assert plan_workers(nodes, workers, "this machine") == share


@pytest.mark.parametrize(
    ("nodes", "workers", "line"),
    [
        ([Node(2, 0)], 3, "--workers 3: this machine has room for 2, a CPU each: give at most 2"),
        ([Node(9, 1)], 2, "--workers 2: this machine has room for 1, a GPU each: give at most 1"),
        ([Node(2, 4)], 3, "--workers 3: this machine has room for 2, a GPU each: give at most 2"),
    ],
)
def test_more_than_there_are_is_refused(nodes: list[Node], workers: int, line: str) -> None:
    with pytest.raises(ConfigError) as error:
        plan_workers(nodes, workers, "this machine")
    assert str(error.value) == line


@given(
    nodes=st.lists(st.builds(Node, st.integers(1, 20), st.integers(0, 4)), min_size=1, max_size=4),
    workers=st.integers(1, 30),
)
def test_what_is_planned_fits(nodes: list[Node], workers: int) -> None:
    try:
        share = plan_workers(nodes, workers, "the cluster")
    except ConfigError:
        return
    fit = [
        min(node.cpus // share.cpus, node.gpus) if share.gpus else node.cpus // share.cpus
        for node in nodes
    ]
    assert sum(fit) >= workers
