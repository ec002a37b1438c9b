"""Where an epoch stands in a run, the paths of the rungs, and the plan of an epoch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_data import make_splits
from torch import Tensor

from imbtune.config.train_config import TrainConfig
from imbtune.methods.lr_schedules import Phases
from imbtune.methods.mixing.pairing import Ints
from imbtune.training.device.device_data import DeviceData
from imbtune.training.epoch_plan import (
    EpochPlan,
    draw_epoch,
)
from imbtune.training.phases import (
    RUNG_KINDS,
    Epoch,
    cooldown,
    rung_segments,
    steps_per_epoch,
    trunk,
    whole_run,
)
from imbtune.training.run_methods import RunMethods

DATA = DeviceData(make_splits([60, 20, 6, 1]), torch.device("cpu"))  # 87 images
WEIGHTS_K = torch.tensor([0.25, 0.5, 1.25, 2.0])

phases = st.builds(Phases, warmup=st.floats(0, 0.5), cooldown=st.floats(0.02, 1))
rungs = st.lists(st.integers(1, 60), min_size=1, max_size=5, unique=True).map(sorted)


def make_config(**changes: Any) -> TrainConfig:
    return TrainConfig.from_settings({k.replace("__", "."): v for k, v in changes.items()})


class InPixels:
    """Training images whose neighbours are those by pixels, whatever the space."""

    host_labels_N = DATA.host_labels_N

    def nearest(self, k: int, same_class: bool, space: str) -> tuple[Ints, Ints]:
        return DATA.neighbours.nearest(k, same_class)


def plan_of(config: TrainConfig, epoch: Epoch) -> EpochPlan:
    methods = replace(methods_of(config), weights_K=WEIGHTS_K)
    return draw_epoch(methods, DATA, InPixels(), epoch)


def methods_of(config: TrainConfig) -> RunMethods:
    return RunMethods.from_config(config, DATA.train_counts_K)


def epochs_of(config: TrainConfig) -> list[Epoch]:
    return whole_run(config.epochs, config.schedule.shared)


def tensors(plan: EpochPlan) -> list[Tensor]:
    views = [*plan.image, *(plan.partner or [])]
    return [t for t in (*views, *plan[2:]) if isinstance(t, Tensor)]


# ---- phases ------------------------------------------------------------------------------------


@given(st.integers(1, 500), phases)
def test_phases_are_whole_epochs_and_add_up_to_the_run(budget: int, drawn: Phases) -> None:
    run = whole_run(budget, drawn)
    assert [epoch.index for epoch in run] == list(range(budget))
    phase = [epoch.phase for epoch in run]
    cooling = phase.count("cooldown")
    assert phase == ["trunk"] * (budget - cooling) + ["cooldown"] * cooling
    assert cooling == 1 or abs(cooling - drawn.cooldown * budget) <= 0.5 + 1e-9
    assert [epoch.cooldown_index for epoch in run[budget - cooling :]] == list(range(cooling))
    assert all(epoch.cooldown_epochs == cooling for epoch in run[budget - cooling :])
    assert {epoch.warmup for epoch in run} == {drawn.warmup * budget}


@given(st.integers(1, 100), phases, st.integers(1, 9))
def test_shares_of_warmup_and_cooldown_rise_from_0_to_1(
    budget: int, drawn: Phases, steps: int
) -> None:
    run = whole_run(budget, drawn)
    cooled_E = np.concatenate([epoch.cooldown_done(steps) for epoch in run])
    warmed_E = np.concatenate([epoch.warmup_done(steps) for epoch in run])
    in_trunk = np.repeat([epoch.phase == "trunk" for epoch in run], steps)
    assert ((cooled_E == 0) == in_trunk).all()
    assert (np.diff(cooled_E[~in_trunk]) > 0).all() and cooled_E[-1] < 1
    assert (np.diff(warmed_E) >= 0).all() and (warmed_E > 0).all() and (warmed_E <= 1).all()
    middle_E = (np.arange(budget * steps) + 0.5) / steps  # epochs done in the middle of each step
    assert ((warmed_E == 1) == (middle_E >= drawn.warmup * budget)).all()


def test_the_papers_protocol_has_the_papers_rates() -> None:
    """0.1 up to epoch 160 after five of warm-up, ×0.01 up to 180, ×0.0001 after."""
    config = make_config(
        epochs=200, optimizer__lr=0.1, schedule="step", schedule__cooldown=0.2, schedule__drop=0.01
    )
    rates = [methods_of(config).learning_rates(epoch, steps=4) for epoch in epochs_of(config)]
    ramp = [0.1 * (epoch + (step + 0.5) / 4) / 5 for epoch in range(5) for step in range(4)]
    assert np.concatenate(rates[:5]) == pytest.approx(ramp)
    assert np.concatenate(rates[5:160]) == pytest.approx(0.1)
    assert np.concatenate(rates[160:180]) == pytest.approx(0.001)
    assert np.concatenate(rates[180:]) == pytest.approx(0.00001)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_smooth_schedule_falls_from_the_peak_to_almost_nothing(schedule: str) -> None:
    config = make_config(epochs=10, schedule=schedule, schedule__cooldown=0.4, schedule__warmup=0.0)
    rates = np.concatenate(
        [methods_of(config).learning_rates(epoch, 8) for epoch in epochs_of(config)]
    )
    share = (np.arange(32) + 0.5) / 32
    decay = 1 - share if schedule == "linear" else (1 + np.cos(math.pi * share)) / 2
    assert rates == pytest.approx(0.1 * np.concatenate([np.ones(48), decay]))


# ---- rungs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RUNG_KINDS)
@given(budgets=rungs, drawn=phases)
def test_every_rung_scores_a_model_of_its_budget(
    kind: str, budgets: list[int], drawn: Phases
) -> None:
    """Followed as `climb` does: the epochs behind the scored model are 0, 1, … budget - 1."""
    behind: list[Epoch] = []
    path = rung_segments(kind, budgets, drawn)
    assert [(segment.rung, segment.budget) for segment in path] == list(enumerate(budgets))
    assert path[0].fresh
    for segment in path:
        behind = ([] if segment.fresh else behind) + list(segment.epochs)
        scored = behind + list(segment.branch)
        assert [epoch.index for epoch in scored] == list(range(segment.budget))
        if kind != "prefix":
            assert scored[-1].cooldown_index == scored[-1].cooldown_epochs - 1  # finished
    assert [epoch for epoch in scored if epoch.phase == "trunk"] == trunk(
        0, drawn.trunk_epochs(budgets[-1]), budgets[-1], drawn
    )
    assert scored == whole_run(budgets[-1], drawn)


@given(rungs, phases)
def test_what_each_kind_of_rung_costs(budgets: list[int], drawn: Phases) -> None:
    cost = {
        kind: sum(len(s.epochs) + len(s.branch) for s in rung_segments(kind, budgets, drawn))
        for kind in RUNG_KINDS
    }
    cools = [budget - drawn.trunk_epochs(budget) for budget in budgets]
    assert cost["prefix"] == budgets[-1]
    assert cost["compressed"] == sum(budgets)
    assert cost["cooldown"] == budgets[-1] + sum(cools[:-1])


@given(rungs, phases)
def test_the_trunk_is_trained_once_and_cools_only_on_copies(
    budgets: list[int], drawn: Phases
) -> None:
    path = rung_segments("cooldown", budgets, drawn)
    once = [epoch for segment in path for epoch in segment.epochs]
    assert once == trunk(0, drawn.trunk_epochs(budgets[-1]), budgets[-1], drawn)
    assert [segment.fresh for segment in path] == [True] + [False] * (len(budgets) - 1)
    for segment in path:
        turn = drawn.trunk_epochs(segment.budget)
        warmup = drawn.warmup * budgets[-1]  # as the trunk's
        branch = list(segment.branch)
        assert branch == cooldown(turn, segment.budget, budgets[-1], drawn)
        assert {epoch.warmup for epoch in branch} == {warmup}


def middles(count: int, steps: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Epochs done in the middle of each step."""
    return (np.arange(count * steps) + 0.5) / steps


@given(st.integers(1, 100), phases, st.integers(1, 9))
def test_progress_through_a_whole_run_is_the_plain_share(
    budget: int, drawn: Phases, steps: int
) -> None:
    done = np.concatenate([epoch.progress(steps) for epoch in whole_run(budget, drawn)])
    assert done == pytest.approx(middles(budget, steps) / budget)


@pytest.mark.parametrize("kind", RUNG_KINDS)
@given(budgets=rungs, drawn=phases, steps=st.integers(1, 7))
def test_progress_is_the_trunks_share_and_every_cooldown_takes_it_to_1(
    kind: str, budgets: list[int], drawn: Phases, steps: int
) -> None:
    """In a cool-down a line from where the trunk was left to 1 at its end, so without a jump."""
    behind: list[Epoch] = []
    for segment in rung_segments(kind, budgets, drawn):
        behind = ([] if segment.fresh else behind) + list(segment.epochs)
        scored = behind + list(segment.branch)
        full = segment.budget if kind == "compressed" else budgets[-1]
        done = np.concatenate([epoch.progress(steps) for epoch in scored])
        trunk_epochs = sum(epoch.phase == "trunk" for epoch in scored)
        on_trunk, cooling = done[: trunk_epochs * steps], done[trunk_epochs * steps :]
        assert on_trunk == pytest.approx(middles(trunk_epochs, steps) / full)
        if kind != "prefix":
            left, length = trunk_epochs / full, segment.budget - trunk_epochs
            line = left + (1 - left) * middles(length, steps) / length
            assert cooling == pytest.approx(line)
            half_a_step = (1 - left) / (length * steps) / 2
            assert 1 - cooling[-1] == pytest.approx(half_a_step, abs=1e-9)
            assert cooling[0] - left == pytest.approx(half_a_step, abs=1e-9)
        assert (np.diff(done) > 0).all() and done[0] > 0 and done[-1] <= 1


# ---- the plan of an epoch ----------------------------------------------------------------------


@given(st.integers(1, 5000), st.integers(1, 600))
def test_an_epoch_is_as_near_to_all_images_once_as_full_batches_come(
    images: int, batch_size: int
) -> None:
    steps, batch = steps_per_epoch(images, batch_size)
    assert steps >= 1 and batch == min(batch_size, images)
    assert steps == 1 or abs(steps * batch - images) <= batch / 2


def test_the_same_seed_and_epoch_draw_the_same_plan() -> None:
    config = make_config(mix="cutmix", batch_size=20)
    first, third = (epochs_of(config)[i] for i in (0, 2))
    plan, again = plan_of(config, first), plan_of(config, first)
    pairs = zip(tensors(plan), tensors(again), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    for other in (plan_of(config.replace(seed=1), first), plan_of(config, third)):
        assert not torch.equal(plan.image.index_SB, other.image.index_SB)
        assert plan.lam_SB is not None and other.lam_SB is not None
        assert not torch.equal(plan.lam_SB, other.lam_SB)


def test_a_trunk_epoch_is_the_same_in_every_budget_and_a_cooldown_epoch_is_not() -> None:
    """So an interrupted trunk goes on as if nothing had happened."""
    config = make_config(mix="mixup", batch_size=20)
    drawn = Phases()
    short, long = (plan_of(config, trunk(3, 4, budget, drawn)[0]) for budget in (10, 30))
    assert torch.equal(short.image.index_SB, long.image.index_SB)
    assert short.lam_SB is not None and long.lam_SB is not None
    assert torch.equal(short.lam_SB, long.lam_SB)
    cooling, other = (plan_of(config, cooldown(3, budget, 20, drawn)[0]) for budget in (4, 5))
    for plan in (cooling, other):
        assert not torch.equal(short.image.index_SB, plan.image.index_SB)
    assert not torch.equal(cooling.image.index_SB, other.image.index_SB)


@given(st.integers(1, 120), st.integers(0, 5), st.integers(0, 99))
def test_an_epoch_shows_every_image_once_up_to_the_wraparound(
    batch_size: int, index: int, seed: int
) -> None:
    config = make_config(batch_size=batch_size, seed=seed)
    index_SB = plan_of(config, epochs_of(config)[index]).image.index_SB
    shown_N = np.bincount(index_SB.flatten().numpy(), minlength=87)
    assert shown_N.min() == index_SB.numel() // 87
    assert shown_N.max() == -(-index_SB.numel() // 87)


def test_class_balanced_epochs_show_classes_equally_often() -> None:
    config = make_config(sampler="class_balanced", batch_size=29)
    drawn = [plan_of(config, epoch).image.index_SB for epoch in epochs_of(config)]
    labels = DATA.host_labels_N[torch.cat(drawn).flatten().numpy()]
    share_K = np.bincount(labels) / len(labels)  # of 17 400 draws
    assert share_K == pytest.approx(0.25, abs=0.015)


@pytest.mark.parametrize("kind", RUNG_KINDS)
@pytest.mark.parametrize("sampler", ["class_balanced", "square_root", "progressively_balanced"])
def test_classes_are_drawn_as_often_as_the_sampler_says(sampler: str, kind: str) -> None:
    """Over many seeds, in an epoch of the trunk and in the last of a lower rung's cool-down."""
    config = make_config(sampler=sampler, batch_size=87, epochs=20, schedule__cooldown=0.5)
    path = rung_segments(kind, [10, 20], config.schedule.shared)
    first = 0.05 if kind == "compressed" else 0.025  # t in the middle of the epoch
    last = {"cooldown": 0.25 + 0.75 * 0.9, "compressed": 0.95, "prefix": 0.475}[kind]
    for epoch, t in ((path[0].epochs[0], first), ((*path[0].epochs, *path[0].branch)[-1], last)):
        drawn = [
            DATA.host_labels_N[plan_of(config.replace(seed=seed), epoch).image.index_SB.numpy()]
            for seed in range(100)
        ]
        share_K = np.bincount(np.concatenate(drawn).ravel(), minlength=4) / 8700
        n_K, balanced = np.array([60, 20, 6, 1]), np.full(4, 0.25)
        literal = {
            "class_balanced": balanced,
            "square_root": np.sqrt(n_K) / np.sqrt(n_K).sum(),
            "progressively_balanced": (1 - t) * n_K / 87 + t * balanced,
        }[sampler]
        assert share_K == pytest.approx(literal, abs=0.02)


SCHEDULES = ["never", "always", "deferred", "linear", "cosine", "cumulative"]


@pytest.mark.parametrize("kind", RUNG_KINDS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_class_weights_act_when_their_schedule_says(schedule: str, kind: str) -> None:
    """In the finished model of a lower rung as in that of the whole run."""
    config = make_config(epochs=10, batch_size=30, weights="inverse", weights__schedule=schedule)
    for segment in rung_segments(kind, [5, 10], config.schedule.shared):
        for epoch in (*segment.epochs, *segment.branch):
            cool_S = torch.from_numpy(epoch.cooldown_done(3)).float()
            done_S = torch.from_numpy(epoch.progress(3)).float()
            strength_S = {
                "never": torch.zeros(3),
                "always": torch.ones(3),
                "deferred": torch.full((3,), float(epoch.phase == "cooldown")),
                "linear": cool_S,
                "cosine": 0.5 - 0.5 * torch.cos(math.pi * cool_S),
                "cumulative": done_S * done_S,
            }[schedule]
            expected_SK = (1 - strength_S)[:, None] + strength_S[:, None] * WEIGHTS_K
            torch.testing.assert_close(plan_of(config, epoch).weights_SK, expected_SK)


@pytest.mark.parametrize("early", ["keep", "wait"])
def test_mixing_may_wait_for_the_end_of_the_warmup(early: str) -> None:
    config = make_config(epochs=10, mix="mixup", mix__early=early, schedule__warmup=0.25)
    mixed = [plan_of(config, epoch).partner is not None for epoch in epochs_of(config)]
    waiting = 3 if early == "wait" else 0  # the third epoch is half warm-up
    assert mixed == [False] * waiting + [True] * (10 - waiting)


@pytest.mark.parametrize("late", ["keep", "stop"])
def test_mixing_may_switch_off_in_the_cooldown(late: str) -> None:
    config = make_config(epochs=10, mix="cutmix", mix__late=late)
    for epoch in epochs_of(config):
        plan = plan_of(config, epoch)
        mixed = epoch.phase == "trunk" or late == "keep"
        assert [plan.partner is not None, plan.lam_SB is not None] == [mixed, mixed]
        assert (plan.box_SB4 is not None) == mixed


def test_one_lambda_a_batch_or_a_sample() -> None:
    for draw, few in (("batch", True), ("sample", False)):
        config = make_config(mix="mixup", mix__draw=draw, batch_size=29)
        lam_SB = plan_of(config, epochs_of(config)[0]).lam_SB
        assert lam_SB is not None and lam_SB.shape == (3, 29)
        assert bool((lam_SB == lam_SB[:, :1]).all()) == few
        assert len(lam_SB.unique()) == (3 if few else 87)


def test_neighbours_are_cropped_and_flipped_together_and_strangers_apart() -> None:
    for mix, together in (("smote", True), ("soft_smote", True), ("mixup", False)):
        config = make_config(mix=mix, batch_size=87)
        image, partner = plan_of(config, epochs_of(config)[0])[:2]
        assert partner is not None
        for one, other in zip(image[1:], partner[1:], strict=True):  # shifts, flips
            assert one is not None and other is not None
            assert torch.equal(one, other) == together


def test_shifts_reach_both_edges_of_the_padding_and_half_are_flipped() -> None:
    config = make_config(batch_size=87)
    views = [plan_of(config, epoch).image for epoch in epochs_of(config)[:40]]
    shifts = torch.cat([view.shift_SB2 for view in views if view.shift_SB2 is not None])
    flips = torch.cat([view.flip_SB for view in views if view.flip_SB is not None])
    assert shifts.unique().tolist() == [0, 1, 2]  # pad = 1
    assert flips.float().mean().item() == pytest.approx(0.5, abs=0.05)
