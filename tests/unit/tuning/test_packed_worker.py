"""Several trials in one process: each as if alone, whatever the others do."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from short_runs import CHEAP, CPU, DATA

from imbtune.metrics.metric import metric_from
from imbtune.study.records import Machine
from imbtune.tuning.cluster.resources import Node, Resources, pack_size
from imbtune.tuning.messages import TrialReport, TrialSpec
from imbtune.tuning.packing.packed_worker import PackedWorker
from imbtune.tuning.packing.ray_hosts import _is_alive
from imbtune.tuning.worker.trial_runner import TrialRunner, WorkerSettings

SETTINGS = WorkerSettings("cooldown", [3, 9], 3, [metric_from("balanced_accuracy")])
SMALL: dict[str, Any] = {"model.width": 2, "batch_size": 60, "precision": "float32", "epochs": 9}
TRIALS: list[dict[str, Any]] = [
    {"mix": "mamix", "weights": "inverse", "seed": 1},
    {"mix": "cutmix", "loss": "gcl", "after": "crt", "seed": 2},  # draws noise in the step
    {"generate": "deepsmote", **CHEAP["deepsmote"], "seed": 3},
    {"generate": "deepsmote", **CHEAP["deepsmote"], "generate.seed": 1, "seed": 4},  # another set
    {"generate": "m2m", **CHEAP["m2m"], "optimizer": "imbsam", "seed": 5},
    {"mix": "soft_smote", "optimizer": "adamw", "seed": 6},  # neighbours, which all share
]
BAD = {"model": "shufflenet_v2_x0_5", "batch_size": 1}  # batch norm of one image


def run_of(number: int, changes: dict[str, Any]) -> TrialSpec:
    small = {k: v for k, v in SMALL.items() if k != "model.width" or "model" not in changes}
    return TrialSpec.single_run(number, {**small, **changes}, without_rungs=False)


def make(spec: TrialSpec) -> TrialRunner:
    return TrialRunner(SETTINGS, DATA, Machine("here"), spec)


def new_pack() -> PackedWorker:
    return PackedWorker(make, CPU, is_alive=_is_alive)


def told(reports: list[TrialReport]) -> tuple[list[Any], list[Any]]:
    """All that reports say, without the clock; epochs in one list, however they were bundled."""
    epochs = [replace(epoch, time=0.0) for report in reports for epoch in report.epochs]
    rungs = [replace(rung, seconds=0.0) for report in reports for rung in report.rung]
    return epochs, rungs


def alone(spec: TrialSpec) -> list[TrialReport]:
    runner = make(spec)
    reports = [runner.step()]
    while not reports[-1].is_last:
        reports.append(runner.step())
    return reports


def together(pack: PackedWorker, runs: dict[int, TrialSpec]) -> dict[int, list[TrialReport]]:
    """Every run to its end, each asked for its next report when it has given one."""
    reports: dict[int, list[TrialReport]] = {slot: [] for slot in runs}
    asked = {slot: pack.step(slot, spec) for slot, spec in runs.items()}
    while asked:
        for slot, future in list(asked.items()):
            reports[slot].append(future.result(60))
            if reports[slot][-1].is_last:
                del asked[slot]
            else:
                asked[slot] = pack.step(slot)
    return reports


def test_trials_in_turn_are_each_as_if_alone() -> None:
    """Epoch for epoch and rung for rung, to the last bit: scores, losses, margins, image passes."""
    runs = {os.getpid() + i: run_of(i, changes) for i, changes in enumerate(TRIALS)}
    packed = together(PackedWorker(make, CPU), runs)
    for slot, run in runs.items():
        epochs, rungs = told(packed[slot])
        assert (epochs, rungs) == told(alone(run))
        assert [rung.budget for rung in rungs] == [3, 9]


def test_late_variants_and_a_trial_that_goes_on_take_their_turns() -> None:
    variants = replace(
        run_of(0, {}),
        trials=[0, 1],
        settings=[SMALL, {**SMALL, "weights": "inverse"}],
        images=[0, 0],
        seconds=[0.0, 0.0],
    )
    resumed = replace(run_of(2, {"mix": "mamix"}), reached_budget=3, images=[240], seconds=[1.0])
    packed = together(PackedWorker(make, CPU), {1: variants, 2: resumed})
    assert told(packed[1]) == told(alone(variants))
    assert told(packed[2]) == told(alone(resumed))
    assert [row.trial for row in told(packed[1])[1]] == [0, 1, 0, 1]
    assert [row.budget for row in told(packed[2])[1]] == [9]


def test_a_trial_that_raises_fails_alone_and_its_slot_takes_the_next() -> None:
    pack = new_pack()
    good, bad = pack.step(os.getpid(), run_of(0, TRIALS[0])), pack.step(1, run_of(1, BAD))
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        bad.result(60)
    assert good.result(60).epochs
    after = together(pack, {1: run_of(2, TRIALS[1])})
    assert told(after[1]) == told(alone(run_of(2, TRIALS[1])))


def test_a_trial_that_cannot_begin_fails_alone() -> None:
    pack = new_pack()
    with pytest.raises(Exception, match="no_such_knob"):
        pack.step(1, run_of(0, {"no_such_knob": 1})).result(60)
    assert pack.step(1, run_of(1, TRIALS[0])).result(60).epochs


@pytest.mark.parametrize("error", [ValueError("bad"), StopIteration(3), SystemExit(2)])
def test_a_trial_whose_constructor_raises_anything_fails_alone(error: BaseException) -> None:
    """asyncio passes on neither SystemExit nor StopIteration."""

    def make_one(spec: TrialSpec) -> TrialRunner:
        if spec.number:
            raise error
        return make(spec)

    pack = PackedWorker(make_one, CPU)
    assert pack.step(1, run_of(0, TRIALS[0])).result(60).epochs
    failed = pack.step(2, run_of(1, TRIALS[0])).exception(60)
    assert isinstance(failed, Exception) and not isinstance(failed, StopIteration)
    assert type(error).__name__ in repr(failed)
    assert pack.step(1).result(60).epochs and not pack.broken


def test_the_trial_in_training_is_known() -> None:
    begun, over = threading.Event(), threading.Event()

    def make_one(spec: TrialSpec) -> TrialRunner:
        begun.set()
        over.wait()
        return make(spec)

    pack = PackedWorker(make_one, CPU)
    waiting = pack.step(7, run_of(0, TRIALS[0]))
    begun.wait()
    assert pack.in_turn == 7
    over.set()
    assert waiting.result(60).epochs


def test_a_stopped_trial_leaves_the_others_and_its_seat() -> None:
    """ASHA stops one behind its first rung; another trial takes the slot in the middle of all."""
    pack, run = new_pack(), run_of(0, TRIALS[0])
    here = os.getpid()
    stayed = [pack.step(here, run).result(60)]
    stopped = pack.step(1, run_of(1, TRIALS[1]))
    stayed.append(pack.step(here).result(60))
    assert stopped.result(60).epochs
    taken = pack.step(1, run_of(2, TRIALS[5]))
    while not stayed[-1].is_last:
        stayed.append(pack.step(here).result(60))
    first = told([taken.result(60)])[0]
    assert first == told(alone(run_of(2, TRIALS[5])))[0][: len(first)]
    assert told(stayed) == told(alone(run))


def test_a_slot_is_free_when_its_trial_leaves_or_its_process_has_ended() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    pack, here = new_pack(), os.getpid()
    for slot in (ended.pid, here, here + 2**22):  # Linux gives no process such a number
        pack.step(slot, run_of(0, TRIALS[0])).result(60)
    assert set(pack._slots) == {here, here + 2**22}  # the third trial found the first one gone
    pack.leave(here)
    pack.step(here + 2**23, run_of(0, TRIALS[0])).result(60)
    assert set(pack._slots) == {here + 2**23}


class Failing(TrialRunner):
    """A trial whose step meets a fault of the device."""

    def launch(self) -> Any:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


def test_a_fault_of_the_device_fails_every_trial_of_the_pack() -> None:
    """CUDA answers everything with it from then on, so no trial may be begun there."""

    def make_one(spec: TrialSpec) -> TrialRunner:
        kind = Failing if spec.number else TrialRunner
        return kind(SETTINGS, DATA, Machine("here"), spec)

    pack = PackedWorker(make_one, CPU)
    pack.step(1, run_of(0, TRIALS[0])).result(60)
    futures: list[Future[TrialReport]] = [pack.step(2, run_of(1, TRIALS[0]))]
    assert not pack.broken or futures[0].exception(60)
    with pytest.raises(torch.AcceleratorError, match="illegal memory access"):
        futures[0].result(60)
    assert pack.broken
    with pytest.raises(torch.AcceleratorError):
        pack.step(3, run_of(2, TRIALS[0])).result(60)


class Faulty:
    """A stream on which CUDA has failed, as whoever waits for it learns."""

    def synchronize(self) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


@pytest.mark.parametrize("how", ["fails", "leaves"])
def test_a_fault_that_freeing_a_slot_meets_is_one_of_the_device(how: str) -> None:
    """Nobody waits for an answer that never comes."""
    pack = new_pack()
    pack.step(1, run_of(0, TRIALS[0])).result(60)
    other = pack.step(os.getpid(), run_of(1, TRIALS[0]))
    other.result(60)
    pack._slots[1].stream = Faulty()  # type: ignore[assignment]
    if how == "leaves":
        pack.leave(1)
    else:
        with pytest.raises(Exception, match="illegal memory access"):
            pack.step(1, run_of(2, BAD)).result(60)
    answers = (pack.step(os.getpid()).exception(60) for _ in range(100))
    assert any(isinstance(answer, torch.AcceleratorError) for answer in answers)
    assert pack.broken


def test_running_out_of_memory_names_the_trials_share() -> None:
    class Greedy(TrialRunner):
        def launch(self) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    pack = PackedWorker(lambda spec: Greedy(SETTINGS, DATA, Machine("here"), spec), CPU, gpus=0.25)
    with pytest.raises(Exception, match=r"out of memory with 0.25 of a GPU .*give --gpus-per-"):
        pack.step(1, run_of(0, TRIALS[0])).result(60)


@given(st.integers(1, 64), st.integers(0, 8), st.integers(1, 8), st.integers(1, 12))
def test_the_processes_of_packs_hold_as_many_trials_as_fit(
    cpus: int, gpus: int, share: int, concurrent: int
) -> None:
    """On a GPU as many as its shares, without one as many as the machine's CPUs; never more than
    may run."""
    each = 1 / share if gpus else 0.0
    size = pack_size(Node(cpus, gpus), Resources(1, each, concurrent))
    assert size == max(1, min(cpus, share if gpus else cpus, concurrent))


def test_whole_gpus_are_packs_of_one() -> None:
    assert [pack_size(Node(8, 4), Resources(2, gpus, 9)) for gpus in (1.0, 2.0)] == [1, 1]
