"""What a trial gets of a machine, and how many run at a time."""

from __future__ import annotations

import pytest

from imbtune.errors import ConfigError
from imbtune.tuning.cluster.resources import (
    Node,
    Resources,
    capacity,
    check_gpu_fraction,
    plan_resources,
)


def test_a_head_node_without_gpus_has_no_say_in_gpu_trials() -> None:
    plan = plan_resources([Node(32, 0), Node(4, 1), Node(4, 1)], 100, None, None, None)
    assert plan == Resources(1, 0.25, 8)
    with pytest.raises(ConfigError, match="give 1 to 4"):
        plan_resources([Node(32, 0), Node(4, 1)], 100, 8, 0.5, None)


def test_a_cluster_may_have_its_gpus_still_to_come() -> None:
    head = [Node(2, 0)]
    plan = plan_resources(head, 100, None, 0.5, 8, may_grow=True)
    assert plan == Resources(1, 0.5, 8)
    with pytest.raises(ConfigError, match="give --max-concurrent too"):
        plan_resources(head, 100, None, 0.5, None, may_grow=True)
    with pytest.raises(ConfigError, match="a machine here has 1 at most"):
        plan_resources([Node(4, 1)], 100, None, 2, 8, may_grow=True)
    with pytest.raises(ConfigError, match=r"no machine has a GPU: give 0$"):
        plan_resources(head, 100, None, 0.5, 8)


@pytest.mark.parametrize("gpus", [0, 1, 2, 8, 0.5, 0.25, 0.2, 0.125, 0.3333, 0.33, 0.1, 0.01])
def test_shares_of_a_gpu_that_pack(gpus: float) -> None:
    check_gpu_fraction(gpus)


@pytest.mark.parametrize("gpus", [-1, 0.3, 0.4, 0.6, 0.9, 1.5, 0.001, float("nan"), float("inf")])
def test_shares_of_a_gpu_that_do_not(gpus: float) -> None:
    with pytest.raises(ConfigError, match="--gpus-per-trial") as caught:
        check_gpu_fraction(gpus)
    assert "\n" not in str(caught.value)


def test_the_proposed_share_packs() -> None:
    for hundredths in range(1, 100):
        try:
            check_gpu_fraction(hundredths / 100)
        except ConfigError as error:
            check_gpu_fraction(float(str(error).rsplit("such as ", 1)[1]))


def test_resources_follow_from_the_nodes() -> None:
    laptop, box = Node(8, 0), Node(16, 2)
    assert plan_resources([laptop], 100, None, None, None) == Resources(1, 0.0, 8)
    assert plan_resources([box], 100, None, None, None) == Resources(2, 0.25, 8)
    assert plan_resources([laptop, box], 100, 1, 0.5, None).concurrent == 4
    assert plan_resources([box, box], 100, 4, 2, None).concurrent == 2
    assert plan_resources([laptop], 3, None, None, None).concurrent == 3
    assert plan_resources([laptop], 100, None, None, 64).concurrent == 64
    assert plan_resources([laptop], 100, 3, 0, None).concurrent == 2


@pytest.mark.parametrize(
    ("cpus", "gpus", "line"),
    [
        (9, None, "--cpus-per-trial 9: give 1 to 8"),
        (0, None, "--cpus-per-trial 0: give 1 to 8"),
        (None, 1.0, "--gpus-per-trial 1: no machine has a GPU: give 0"),
    ],
)
def test_more_than_any_machine_has(cpus: int | None, gpus: float | None, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        plan_resources([Node(8, 0)], 10, cpus, gpus, None)


def test_only_a_cluster_without_a_given_number_grows() -> None:
    one = [Node(4, 1)]
    assert not plan_resources(one, 100, None, None, None).grows
    assert not plan_resources(one, 100, None, None, 4, may_grow=True).grows
    assert plan_resources(one, 100, None, None, None, may_grow=True).grows


def test_machines_that_join_make_room() -> None:
    """Each for as many trials as its own CPUs and GPUs allow; those without GPUs for none."""
    plan = plan_resources([Node(4, 1)], 100, None, 0.5, None, may_grow=True)
    assert plan == Resources(2, 0.5, 2, grows=True)
    assert capacity([Node(4, 1), Node(64, 0), Node(32, 8), Node(3, 2)], plan) == 2 + 0 + 16 + 1
