"""A share of a GPU, as far as it goes without one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import ray
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_data import make_splits

from imbtune.errors import ConfigError
from imbtune.tuning.cluster.resources import check_gpu_fraction
from imbtune.tuning.worker import ray_actor
from imbtune.tuning.worker.gpu_memory import (
    CONTEXT,
    explain_out_of_memory,
    limit_memory,
    memory_share,
)
from imbtune.tuning.worker.machine import this_machine
from imbtune.tuning.worker.trial_runner import WorkerSettings

GIB = 2**30


def test_a_gpu_that_torch_cannot_use_is_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray counts what it is told; a machine may lack the driver."""
    given = {"ids": ["0"]}
    context = SimpleNamespace(
        get_accelerator_ids=lambda: {"GPU": given["ids"]}, get_node_id=lambda: "a node"
    )
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = this_machine()
    assert (found.device, found.gpu) == ("cpu", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H100")
    assert this_machine().device == "H100"
    given["ids"] = []
    assert this_machine().device == "cpu"


def test_what_a_worker_cannot_find_out_is_the_reason_and_no_lost_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error in its setup would end the process, and its text with it."""

    def broken() -> None:
        raise RuntimeError("no driver")

    monkeypatch.setattr(ray_actor, "this_machine", broken)
    actor = object.__new__(ray_actor.TrialActor)
    settings = WorkerSettings("none", [1], 3, (), None, 1, 1.0, imports=(), pack=False)
    actor.setup({}, make_splits([2, 2]), settings)
    with pytest.raises(RuntimeError, match="no driver"):
        actor.step()


@given(st.integers(2, 16), st.integers(16, 192))
def test_as_many_trials_as_shares_fit_into_the_memory(n: int, gib: int) -> None:
    total = gib * GIB
    assert n * (memory_share(1 / n, total) * total + CONTEXT) <= total * (1 + 1e-9)


def test_a_trial_on_a_cpu_or_on_whole_gpus_has_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []
    gpu = SimpleNamespace(total_memory=80 * GIB)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: gpu)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limits.append)
    for gpus in (0.0, 1.0, 2.0):
        limit_memory(gpus)
    assert limits == []
    limit_memory(0.25)
    assert limits == [memory_share(0.25, 80 * GIB)]


@pytest.mark.parametrize("gpus", [1 / n for n in range(2, 33)])
def test_the_fix_for_a_full_share_is_the_next_larger_share(gpus: float) -> None:
    with pytest.raises(ConfigError, match="out of memory") as caught, explain_out_of_memory(gpus):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    said = str(caught.value).partition("--gpus-per-trial ")[2]
    larger = float(said.partition(",")[0])
    assert larger == pytest.approx(1 / (round(1 / gpus) - 1), abs=1e-4)
    check_gpu_fraction(larger)


def test_a_whole_gpu_that_is_full_has_no_larger_share() -> None:
    with pytest.raises(ConfigError, match="a GPU with more memory"), explain_out_of_memory(1.0):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="something else"), explain_out_of_memory(0.5):
        raise RuntimeError("something else")
