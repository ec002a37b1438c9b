"""`imbtune plan`: cases worked by hand, what holds for every plan, and where its speed is from."""

from __future__ import annotations

import math
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import invoke
from hypothesis import given, settings
from hypothesis import strategies as st
from parsed import parsed_request
from scripted import BUDGETS, rung_record, tiny_space
from short_runs import CPU, make_config
from small_data import make_splits

from imbtune.cli.plan import as_planned, duration, early_stopping_note
from imbtune.config.slots import SLOTS
from imbtune.errors import ConfigError, StudyError
from imbtune.search_options import search_request
from imbtune.spaces.knob_types import knob_types
from imbtune.spaces.space_file import list_spaces, load_space
from imbtune.storage import Store
from imbtune.study.files import write_study
from imbtune.study.records import COMPLETE, TrialRecord
from imbtune.study.request import SearchRequest
from imbtune.study.tables.parquet import ParquetSink
from imbtune.training.cost.image_passes import run_passes
from imbtune.training.cost.timing import Speed, measure_speed, stratified_subset
from imbtune.training.phases import RUNG_KINDS
from imbtune.tuning.cluster.resources import Node, Resources, plan_resources
from imbtune.tuning.forecast import trial_speed
from imbtune.tuning.forecast.first_configs import draw_configs
from imbtune.tuning.forecast.forecast import OVERHEAD, Costs, Plan, plan_search
from imbtune.tuning.forecast.trial_speed import Fleet, find_trial_speed

COUNTS_K = np.array([60, 20, 6, 1])
HELD = 40
SPEED = Speed(0.01, 0.008, 0.02, image_seconds=0.001)


def ask(trials: int, late: int = 1, **fields: Any) -> SearchRequest:
    return SearchRequest(tiny_space(late), trials, "planned", **fields)


def planned(request: SearchRequest, workers: int, speed: Speed = SPEED, **more: float) -> Plan:
    return plan_search(request, Costs(request, speed, COUNTS_K, HELD), workers, **more)


def a_whole_run() -> float:
    """Seconds of a trial of the tiny space without rungs, which are the same for all."""
    passes = run_passes(tiny_space().base(), COUNTS_K)
    evaluated = (BUDGETS[-1] + 2) * HELD + COUNTS_K.sum()  # epochs, score, margins
    return float(OVERHEAD + 0.01 * passes + 0.001 * evaluated)


def test_whole_runs_on_two_workers_by_hand() -> None:
    plan = planned(ask(5, rungs="none", finals=0), 2)
    assert plan.reached == {BUDGETS[-1]: 5}
    assert plan.seconds == pytest.approx(3 * a_whole_run())  # two at a time
    assert plan.trained_seconds == pytest.approx(5 * a_whole_run())
    assert (plan.final_seconds, plan.final_runs, plan.share) == (0, 0, 1)


def test_finals_by_hand() -> None:
    """The best trial and the best preset, which may be one, with three seeds on two workers."""
    for seed in range(4):
        plan = planned(ask(5, rungs="none", finals=1, seed=seed), 2)
        assert plan.final_runs in (3, 6)
        rounds = math.ceil(plan.final_runs / 2)
        assert plan.final_seconds == pytest.approx(rounds * a_whole_run())
        assert plan.seconds == pytest.approx((3 + rounds) * a_whole_run())
        assert plan.trained_seconds == pytest.approx((5 + plan.final_runs) * a_whole_run())
    assert planned(ask(5, rungs="none", finals=1, final_seeds=1), 2).final_runs in (1, 2)
    assert planned(ask(5, rungs="none"), 2).final_runs == 0  # fewer than ten trials


def test_each_rung_costs_what_is_trained_for_it() -> None:
    """One trial after another, so nothing but the costs of the path add up."""
    request = ask(1, rungs="prefix")
    space = request.space
    (trunk,) = [Costs(request, SPEED, COUNTS_K, HELD).trunk(*c) for c in draw_configs(request)]
    steps, batch = 1, 87  # batches of 128 of 87 images
    epochs = np.diff([0, *BUDGETS])
    assert [cost.budget for cost in trunk.rungs] == BUDGETS
    assert [cost.passes for cost in trunk.rungs] == (epochs * steps * batch).tolist()
    seconds = 0.01 * epochs * batch + 0.001 * HELD * (epochs + 1)
    seconds[0] += OVERHEAD
    seconds[-1] += 0.001 * (HELD + 87)
    assert [cost.seconds for cost in trunk.rungs] == pytest.approx(seconds.tolist())
    assert trunk.whole[0].passes == run_passes(space.preset("erm"), COUNTS_K)


@settings(max_examples=25)
@given(
    st.integers(1, 60),
    st.integers(1, 20),
    st.integers(1, 3),
    st.sampled_from([*RUNG_KINDS, "none"]),
    st.integers(0, 2),
)
def test_what_holds_for_every_plan(
    trials: int, workers: int, late: int, rungs: str, finals: int
) -> None:
    request = ask(trials, 1 if rungs == "prefix" else late, rungs=rungs, finals=finals)
    plan = planned(request, workers)
    reached = list(plan.reached.values())
    assert list(plan.reached) == request.budgets
    assert reached[0] == trials
    assert reached == sorted(reached, reverse=True)
    assert reached[-1] > 0
    assert plan.final_runs <= (finals + 1) * 3
    assert (plan.final_seconds > 0) == (plan.final_runs > 0)
    assert plan.trained_seconds <= workers * plan.seconds * (1 + 1e-9)
    if workers == 1:
        assert plan.seconds == pytest.approx(plan.trained_seconds)
    if rungs == "prefix":  # nobody trains anything twice
        assert plan.share == pytest.approx(passes_of(request, plan) / (87 * BUDGETS[-1] * trials))
    assert plan == planned(request, workers)


def passes_of(request: SearchRequest, plan: Plan) -> int:
    """Image passes of a search by the trials at each rung, of equal costs."""
    epochs = np.diff([0, *request.budgets])
    return int(87 * sum(epochs * list(plan.reached.values())))


@settings(max_examples=20)
@given(st.integers(1, 30), st.integers(1, 12))
def test_more_workers_are_never_slower_without_stopping(trials: int, workers: int) -> None:
    request = ask(trials, rungs="none", finals=2)
    fewer, more = planned(request, workers), planned(request, workers + 1)
    assert more.seconds <= fewer.seconds
    assert more.trained_seconds == pytest.approx(fewer.trained_seconds)


def test_twice_as_slow_takes_twice_as_long() -> None:
    """But for the overhead, in which nothing is trained."""
    request = ask(40, finals=2)
    once, twice = planned(request, 1), planned(request, 1, SPEED.shared(2))
    overhead = OVERHEAD * (40 + once.final_runs)
    assert twice.seconds == pytest.approx(2 * once.seconds - overhead)
    assert twice.reached == once.reached


def test_what_reaches_a_rung_hardly_depends_on_how_well_it_predicts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("imbtune.tuning.forecast.first_configs.DRAWN", 20)
    request = ask(400, sampler="random")
    counts = [list(planned(request, 8, predicts=rho).reached.values()) for rho in (0.3, 0.8, 1)]
    assert np.ptp(counts, axis=0).max() <= 0.05 * 400
    assert all(0.3 < row[1] / 400 < 0.45 for row in counts)


def test_a_sampler_that_learns_has_more_trials_pass() -> None:
    for trials in (30, 100):
        random, tpe = (planned(ask(trials, sampler=s), 2) for s in ("random", "tpe"))
        assert sum(tpe.reached.values()) > sum(random.reached.values())


def test_more_trials_than_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each configuration then stands for several, but no preset for more than one."""
    monkeypatch.setattr("imbtune.tuning.forecast.first_configs.DRAWN", 12)
    seen: list[str | None] = []
    trunk = Costs.trunk

    def watched(self: Costs, preset: str | None, variants: Any) -> Any:
        seen.append(preset)
        return trunk(self, preset, variants)

    monkeypatch.setattr(Costs, "trunk", watched)
    for late, presets in ((1, ["erm", "drw"]), (3, ["erm"])):  # one trunk with both presets
        seen.clear()
        assert planned(ask(50, late), 4).reached[BUDGETS[0]] == 50
        assert [preset for preset in seen if preset] == presets
        assert len(seen) <= 12 + 1  # the last trunk may be a shorter one


@pytest.mark.parametrize("name", list_spaces())
def test_every_shipped_space_can_be_planned(name: str) -> None:
    """With 10 classes of made-up sizes: every trial costs something, and most are stopped."""
    request = SearchRequest(load_space(name), 60, name)
    counts_K = (1000 * 0.01 ** (np.arange(10) / 9)).astype(int)
    plan = plan_search(request, Costs(request, SPEED, counts_K, 100), 8)
    reached = list(plan.reached.values())
    assert reached[0] == 60 and 0 < reached[-1] < 45
    assert 0.1 < plan.share < 1
    assert plan.final_runs in (15, 18)


def test_a_stratified_part_has_every_class() -> None:
    images = make_splits([60, 20, 6, 1]).train
    part = stratified_subset(images, 20, 4)
    assert part.counts(4).tolist() == [14, 5, 2, 1]
    assert stratified_subset(images, 87, 4) is images
    rows = {image.tobytes() for image in images.array()}
    assert all(image.tobytes() in rows for image in part.array())
    assert stratified_subset(images, 20, 5).counts(5).tolist() == [14, 5, 2, 1, 0]


def test_speed_is_measured_with_every_kind_of_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imbtune.training.cost.timing.TIMED_SECONDS", 0.0)
    # so all images are taken
    monkeypatch.setattr("imbtune.training.cost.timing.MIN_EPOCH_SECONDS", 1e9)
    splits = make_splits([60, 20, 6, 1])
    configs = [
        make_config(model="small_cnn", model__width=2, **changes)
        for changes in (
            {"mix": "smote", "optimizer": "sam"},
            {"generate": "m2m", "generate__schedule": "always"},
            {"after": "crt"},
        )
    ]
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    speed = measure_speed(configs, splits, CPU, threads=3)
    assert 0 < speed.low <= speed.pass_seconds <= speed.high
    assert speed.image_seconds > 0
    assert threads == [3, 1]  # and back to conftest's


def put_study(place: Path, request: SearchRequest, resources: Resources, rows: int = 2) -> str:
    """A study of two trials: 100 passes in 1 s and 300 in 2 s; and one that trained nothing."""
    store = Store(str(place))
    store.create()
    write_study(
        store, replace(request, name=place.name), make_splits([60, 20, 6, 1]), vars(resources)
    )
    sink = ParquetSink(store, knob_types(request.space))
    spent = [(100, 1.0), (300, 2.0)]
    for number in range(3):
        rungs = []
        if number < rows:
            images, seconds = spent[number]
            rungs = [replace(rung_record(0, 9, 0.5, images), seconds=seconds)]
        config = request.space.base().flat()
        record = TrialRecord(number, number, None, COMPLETE, config, rungs)
        sink.trial(record.row())
    sink.close()
    return str(place)


def test_the_speed_of_a_study(tmp_path: Path) -> None:
    """400 passes in 3 s, and nothing measured; 64 GPUs have room for 256 such trials."""
    study = put_study(tmp_path / "gpu", ask(3), Resources(2, 0.25, 6))
    request = ask(1000)
    fleet, found = find_trial_speed(request, None, None, study)
    assert (fleet.gpus, fleet.cpus, fleet.unit, fleet.units) == (2, 12, "GPU", 2)
    assert fleet.trial == Resources(2, 0.25, 6)
    assert found.speed == Speed(3 / 400, 2 / 300, 1 / 100)
    assert found.counts_K.tolist() == [60, 20, 6, 1] and found.held_out == 40
    fleet, _ = find_trial_speed(request, 64, None, study)
    assert fleet.trial == Resources(2, 0.25, 256) and fleet.units_per_trial == 0.25
    fleet, _ = find_trial_speed(request, 64, 100, study)
    assert fleet.trial.concurrent == 50  # of 2 CPUs
    fleet, _ = find_trial_speed(replace(request, max_concurrent=9), 64, None, study)
    assert fleet.trial.concurrent == 9


@pytest.mark.parametrize(
    ("changes", "gpus", "cpus", "line"),
    [
        ({}, 4, None, "the study {study} ran on CPUs only: give --cpus, or another --study"),
        ({"cpus_per_trial": 3}, None, 8, "--cpus-per-trial 3: the trials of {study} had 2"),
        ({"gpus_per_trial": 0.5}, None, None, "--gpus-per-trial 0.5: the trials of {study} had 0"),
        ({"space": {"batch_size": 32}}, None, None, "--study {study} has batch_size=128, this"),
        ({"space": {"model": "resnet32"}}, None, None, "--study {study} has model=small_cnn, this"),
        ({"space": {"data.ratio": 7}}, None, None, "--study {study} has data.ratio=100.0, this"),
        ({"sampler": "tpee"}, None, None, "unknown sampler 'tpee'"),
        ({}, None, 1, "--cpus-per-trial 2: give 1 to 1"),
    ],
)
def test_a_study_that_says_nothing_of_this_search(
    changes: dict[str, Any], gpus: int | None, cpus: int | None, line: str, tmp_path: Path
) -> None:
    study = put_study(tmp_path / "cpu", ask(3), Resources(2, 0.0, 4))
    if "space" in changes:
        changes = {"space": tiny_space().pin(changes["space"])}
    with pytest.raises(ConfigError) as raised:
        find_trial_speed(replace(ask(9), **changes), gpus, cpus, study)
    assert str(raised.value).startswith(line.format(study=study))


def test_a_study_without_a_trial(tmp_path: Path) -> None:
    study = put_study(tmp_path / "empty", ask(3), Resources(2, 0.0, 4), rows=0)
    with pytest.raises(StudyError, match=f"{study} has no trial with a recorded speed"):
        find_trial_speed(ask(9), None, None, study)


def test_trials_that_share_a_gpu_are_no_faster_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_speed, "local_node", lambda: Node(8, 2))
    monkeypatch.setattr(trial_speed, "measure_speed", lambda *_: SPEED)
    for share, trials, times, cpus in ((None, 9, 4, 1), (0.5, 9, 2, 2), (1, 9, 1, 4), (2, 9, 1, 8)):
        fleet, found = find_trial_speed(ask(trials, gpus_per_trial=share), None, None, None)
        assert found.speed == SPEED.shared(times)
        assert (fleet.gpus, fleet.trial.cpus) == (2, cpus)
    fleet, found = find_trial_speed(ask(3), 64, None, None)
    assert fleet.trial.concurrent == 3
    assert found.speed == SPEED.shared(3)  # Ray may put all three on one
    fleet, found = find_trial_speed(ask(9), None, 4, None)
    assert (fleet.unit, fleet.trial) == ("CPU", Resources(1, 0.0, 4))
    assert found.speed == SPEED


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it prints, and the search that it names, which is the one that was planned."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("imbtune.training.cost.timing.TIMED_SECONDS", 0.0)
    monkeypatch.setattr("imbtune.training.cost.timing.MIN_EPOCH_SECONDS", 0.0)
    asked = "digits-lt --trials 12 --epochs 9 --rungs compressed --finals 0 --set mix=mamix"
    code, out, err = invoke("plan", *asked.split(), *["--cpus", "640", "--price", "2.5"])
    assert (code, err) == (0, "")
    assert "digits-lt: 12 trials on 640 CPUs, 12 at a time on 1 CPU each" in out
    for words in (
        "│      3 │",
        "12 │  100% │",
        "for 0 runs of the finals",
        "CPU hours",
        "at 2.5 per CPU",
    ):
        assert words in out
    assert list(tmp_path.iterdir()) == []
    command = shlex.split(out.splitlines()[-1])[1:]
    assert command[-2:] == ["--set", "mix=mamix"] and "--address" in command
    given = parsed_request(command)
    assert (given.trials, given.budgets, given.rungs, given.finals, given.address) == (
        12, [3, 9], "compressed", 0, "auto",
    )  # fmt: skip


def test_early_stopping_that_saves_nothing_is_told_with_what_to_give() -> None:
    for rungs, why in (("cooldown", "through a cool-down"), ("compressed", "and begins again")):
        request = search_request("digits-lt", trials=4, rungs=rungs, epochs=9)
        note = early_stopping_note(request, 1.33)
        assert note.startswith("Early stopping costs more than it saves here: at each rung")
        assert "(3 epochs)" in note and why in note and "--rungs none" in note
        assert early_stopping_note(request, 1.0) == early_stopping_note(request, 0.7) == ""


@pytest.mark.parametrize(
    ("trial", "options"),
    [
        (Resources(1, 0.0, 4), {}),  # what the search gives of itself
        (Resources(1, 0.0, 1), {"max_concurrent": 1}),
        (Resources(2, 0.0, 2), {"cpus_per_trial": 2}),
        (Resources(2, 0.0, 1), {"cpus_per_trial": 2, "max_concurrent": 1}),
    ],
)
def test_the_search_that_is_named_is_the_one_that_was_planned(
    trial: Resources, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Node(4, 0)
    monkeypatch.setattr("imbtune.tuning.cluster.connection.local_node", lambda: here)
    request = SearchRequest(tiny_space(), 30, "plan")
    planned = as_planned(request, Fleet(0, trial.cpus * trial.concurrent, trial))
    assert planned == replace(request, **options)
    given = plan_resources(
        [here], 30, planned.cpus_per_trial, planned.share, planned.max_concurrent
    )
    assert given == trial
    for more in (Fleet(0, 5, trial), Fleet(1, 4, Resources(1, 1.0, 1))):
        assert as_planned(request, more) == replace(request, address="auto")


def test_a_trial_on_a_gpu_that_wants_more_cpus_than_there_are_is_for_a_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("imbtune.tuning.cluster.connection.local_node", lambda: Node(4, 1))
    request = SearchRequest(tiny_space(), 30, "plan", cpus_per_trial=8)
    assert as_planned(request, Fleet(1, 8, Resources(8, 1.0, 1))).address == "auto"


WRONG = [
    ("digits-lt --gpus 64", "--gpus 64: this machine has no GPU to measure on: give --study"),
    ("digits-lt --cpus 900 --cpus-per-trial 800", "--cpus-per-trial 800: this machine has "),
    ("digits-lt --cpus-per-trial 999", "--cpus-per-trial 999: give 1 to "),
    ("digits-lt --gpus-per-trial 0.5", "--gpus-per-trial 0.5: no machine has a GPU"),
    (
        "digits-lt --gpus 4 --gpus-per-trial 0",
        "--gpus 4 and --gpus-per-trial 0 contradict",
    ),
    ("digits-lt --gpus 4 --gpus-per-trial 0.3", "--gpus-per-trial 0.3 is not possible"),
    ("digits-lt --gpus 4 --gpus-per-trial 8", "--gpus-per-trial 8: a machine here has 4 at most"),
    ("digits-lt --gpus 0", "--gpus 0: give a number of at least 1"),
    ("digits-lt --price -1", "--price -1: give a number of at least 0"),
    ("digits-lt --study nowhere", "nowhere is not a study, it has no study.yaml"),
    ("fashion_mnist-lt --data nowhere", "no data folder nowhere"),
    (
        'digits-lt --objective {"name":"top_k","k":10}',
        "the objective top_k (k 10) tells nothing on the validation images",
    ),
    ("digit-lt", "unknown space 'digit-lt': did you mean 'digits-lt'?"),
]


@pytest.mark.parametrize(("args", "line"), WRONG)
def test_a_plan_that_cannot_be_is_one_line(
    args: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    code, out, err = invoke("plan", *args.split())
    assert (code, out) == (2, "")
    assert err.startswith("error: " + line) and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (5000, "83 min"), (5401, "1 h 30 min"),
     (86400, "24 h 0 min"), (200000, "2 days 7 h")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_plan_covers_every_slot() -> None:
    """The configurations are a real search's, so none of a space's parts is left out."""
    request = SearchRequest(load_space("digits-lt-all"), 200, "all")
    drawn = [config for _, variants in draw_configs(request) for config in variants]
    for slot in [knob.key for knob in request.space.knobs if knob.key in SLOTS]:
        choices = request.space.possible(slot)
        assert {getattr(config, slot).name for config in drawn} == set(choices)
