"""Generated images inside a run: DeepSMOTE's balanced set, and M2m's translations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from short_runs import CHEAP, CPU, epochs_of, everything, make_config, same, train, trained
from small_data import make_splits
from torch import Tensor

from imbtune.config.train_config import TrainConfig
from imbtune.data.splits import Splits
from imbtune.methods.image_generation import generators
from imbtune.methods.lr_schedules import Phases
from imbtune.training import loop
from imbtune.training.device.device_data import DeviceData
from imbtune.training.device.image_store import Resident
from imbtune.training.epoch_plan import EpochPlan, draw_epoch
from imbtune.training.generators import deepsmote
from imbtune.training.generators.m2m import image_noise, translate
from imbtune.training.phases import cooldown, rung_segments, trunk
from imbtune.training.run_methods import RunMethods
from imbtune.training.rungs import EpochResult, train_through_rungs
from imbtune.training.state import TrainState

SPLITS = make_splits([60, 20, 6, 1])


@pytest.fixture
def data() -> DeviceData:
    """Its own, so that nothing is kept from another test."""
    return DeviceData(SPLITS, CPU)


def generating(name: str, **changes: Any) -> TrainConfig:
    knobs = {k.replace(".", "__"): v for k, v in CHEAP[name].items()}
    return make_config(**({"generate": name} | knobs | changes))


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TrainConfig, DeviceData, EpochPlan]]:
    """What the epochs of the test are drawn from, and what is drawn."""
    seen = []

    def recorded(methods: RunMethods, data: DeviceData, *args: Any, **more: Any) -> EpochPlan:
        plan = draw_epoch(methods, data, *args, **more)
        seen.append((methods.config, data, plan))
        return plan

    monkeypatch.setattr(loop, "draw_epoch", recorded)
    return seen


def calls(monkeypatch: pytest.MonkeyPatch, name: str) -> list[tuple[Any, ...]]:
    """The arguments of every call of one of the loop's functions."""
    seen: list[tuple[Any, ...]] = []
    function = getattr(loop, name)

    def recorded(*args: Any, **knobs: Any) -> Any:
        seen.append(args)
        return function(*args, **knobs)

    monkeypatch.setattr(loop, name, recorded)
    return seen


Plans = list[tuple[TrainConfig, DeviceData, EpochPlan]]

# ---- DeepSMOTE ---------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["always", "deferred"])
def test_an_epoch_with_deepsmote_is_of_the_balanced_set(
    schedule: str, data: DeviceData, plans: Plans
) -> None:
    """All 240 images, 60 of each class; the counts behind losses, weights and labels stay real."""
    config = generating(
        "deepsmote", generate__schedule=schedule, loss="ldam", weights="inverse", mix="mamix"
    )
    state = trained(config, data)
    assert state.methods.vectors.margin_K.tolist() == pytest.approx(
        [0.5 * n**-0.25 for n in (60, 20, 6, 1)]
    )
    inverse = [1 / n for n in (60, 20, 6, 1)]
    assert state.methods.weights_K.tolist() == pytest.approx(
        [4 * w / sum(inverse) for w in inverse]
    )
    for epoch, (_, seen, plan) in zip(epochs_of(config), plans, strict=True):
        shown = torch.bincount(plan.image.index_SB.flatten(), minlength=len(seen.labels_N))
        if schedule == "always" or epoch.phase == "cooldown":
            assert shown.tolist() == [1] * 240
            assert torch.bincount(seen.labels_N).tolist() == [60] * 4
        else:
            assert seen is data and plan.image.index_SB.numel() == 90
        assert seen.counts_K.tolist() == seen.train_counts_K.tolist() == [60, 20, 6, 1]
        assert isinstance(seen.train, Resident) and isinstance(data.train, Resident)
        assert torch.equal(seen.train.pixels_NCHW[:87], data.train.pixels_NCHW)
    assert len(data.train) == 87


def test_the_images_are_those_of_generate(data: DeviceData, plans: Plans) -> None:
    config = generating("deepsmote", generate__schedule="always", generate__seed=4, epochs=1)
    trained(config, data)
    made, labels = deepsmote.generate(
        config.generate.make(), data.resident("a test"), data.labels_N, 4, 4
    )
    (_, seen, _), *_ = plans
    assert torch.equal(seen.resident("a test")[87:], made)
    assert torch.equal(seen.labels_N[87:], labels)
    assert np.array_equal(seen.host_labels_N, seen.labels_N.numpy())


def test_trials_share_what_was_generated(
    data: DeviceData, monkeypatch: pytest.MonkeyPatch, plans: Plans
) -> None:
    """Same knobs and generating seed: made once, whatever else a trial has; each is charged."""
    made = calls(monkeypatch, "generate")
    config = generating("deepsmote", generate__schedule="always", epochs=2)
    others = [config.replace(seed=5), generating("deepsmote", mix="mixup", epochs=2)]
    autoencoder = 2 * 1 * 87  # one step of 87 images, twice
    states = [trained(each, data) for each in (config, *others)]
    assert len(made) == 1
    assert [state.passes for state in states] == [
        autoencoder + 2 * 240, autoencoder + 2 * 240, autoencoder + 90 + 240,
    ]  # fmt: skip
    assert len({id(seen) for _, seen, _ in plans if seen is not data}) == 1
    trained(generating("deepsmote", generate__seed=1, epochs=1), data)
    trained(generating("deepsmote", generate__latent=5, epochs=1), data)
    assert len(made) == 3


def test_neighbours_of_generated_images_are_found_among_them(
    data: DeviceData, plans: Plans
) -> None:
    for space in ("pixels", "features"):
        config = generating(
            "deepsmote", generate__schedule="always", mix="smote", mix__space=space, epochs=1
        )
        trained(config, data)
        _, seen, plan = plans[-1]
        assert plan.partner is not None
        pairs = seen.labels_N[plan.image.index_SB], seen.labels_N[plan.partner.index_SB]
        assert torch.equal(*pairs)
        rare = plan.image.index_SB == 86  # the only real image of its class has neighbours now
        assert (plan.partner.index_SB[rare] > 86).all() and rare.any()


def test_generated_images_leave_a_deferred_trunk_alone(data: DeviceData) -> None:
    plain, state = (TrainState(config, data) for config in (make_config(), generating("deepsmote")))
    start = trunk(0, 4, 5, Phases())
    assert train(plain, start, data) == train(state, start, data)
    assert same(everything(plain), everything(state))


# ---- M2m ---------------------------------------------------------------------------------------


def test_the_seed_network_is_another_one_trained_on_the_training_images_alone(
    data: DeviceData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cross-entropy, no method, of its own seed; the held-out images decide nothing."""
    asked = calls(monkeypatch, "translate")
    config = generating("m2m", generate__seed=7, mix="cutmix", loss="ldam", weights="inverse")
    state = trained(config, data)
    net, seed_net = asked[0][:2]
    assert net is state.model and seed_net is not net
    assert all(call[:2] == (net, seed_net) for call in asked)
    expected = trained(make_config(epochs=2, seed=7), data)  # half of 5 epochs, rounded
    assert same(list(seed_net.state_dict().values()), list(expected.model.state_dict().values()))
    held = make_splits([60, 20, 6, 1], held=3).held_out
    other = DeviceData(Splits(SPLITS.train, held, SPLITS.classes, SPLITS.preprocessing), CPU)
    assert same(everything(trained(config, other)), everything(state))


@pytest.mark.parametrize("schedule", ["always", "deferred"])
def test_translations_appear_where_the_schedule_says(
    schedule: str, data: DeviceData, plans: Plans
) -> None:
    """Class-balanced batches then, with sources of larger classes; β = 0 takes every larger one."""
    config = generating("m2m", generate__schedule=schedule, generate__beta=0.0)
    trained(config, data)
    mine = [plan for owner, _, plan in plans if owner is config]
    labels = data.host_labels_N
    counts = np.array([60, 20, 6, 1])
    for epoch, plan in zip(epochs_of(config), mine, strict=True):
        acts = schedule == "always" or epoch.phase == "cooldown"
        assert (plan.source is not None) == (plan.translate_SB is not None) == acts
        if plan.source is not None and plan.translate_SB is not None:
            targets = labels[plan.image.index_SB.numpy()]
            sources = labels[plan.source.index_SB.numpy()]
            asked = plan.translate_SB.numpy()
            assert (counts[sources] > counts[targets])[asked].all()
            assert asked[counts[targets] == 1].mean() > 0.9
            share_K = np.bincount(targets.ravel(), minlength=4) / targets.size
            assert share_K == pytest.approx(np.full(4, 0.25), abs=0.15)


def test_a_translated_sample_replaces_the_image_and_keeps_its_label(data: DeviceData) -> None:
    """Against `translate` itself, called on the step's images with the scales of both losses."""
    config = generating("m2m", generate__beta=0.0, loss="ldam", generate__steps=2)
    state = TrainState(config, data)
    train(state, trunk(0, 1, 5, Phases()), data)
    epoch = cooldown(4, 5, 5, Phases())[0]
    _, seed_state = loop._with_generated(state, data, epoch)
    assert seed_state is not None
    images = loop.LocatedImages(state, data)
    plan = draw_epoch(state.methods, data, images, epoch, translates=True)
    assert plan.source is not None and plan.translate_SB is not None
    torch.manual_seed(0)
    batch = next(loop.batches(state, data, plan, seed_state))
    real, source = next(data.views(plan.image)), next(data.views(plan.source))
    labels_B = data.labels_N[plan.image.index_SB[0]]
    low, high = torch.tensor([(0 - 0.5) / 0.25]), torch.tensor([(1 - 0.5) / 0.25])
    torch.manual_seed(0)
    expected, made_B = translate(
        state.model, seed_state.model, source, data.labels_N[plan.source.index_SB[0]], labels_B,
        plan.translate_SB[0], real, config.generate.make(), low, high,
        image_noise(real.shape, data.device), net_scale=30.0, seed_scale=1.0,
    )  # fmt: skip
    assert made_B.any() and not made_B.all()
    torch.testing.assert_close(batch.images_BCHW, expected)
    changed_B = (batch.images_BCHW != real).flatten(1).any(1)
    assert torch.equal(changed_B, made_B)
    assert torch.equal(batch.labels_LB, labels_B[None])


def test_a_run_without_accepted_translations_is_one_with_balanced_batches(
    data: DeviceData,
) -> None:
    config = generating("m2m", generate__schedule="always", generate__gamma=1.0, epochs=2)
    balanced = make_config(sampler="class_balanced", epochs=2)
    shown = []
    for each in (config, balanced):
        state = TrainState(each, data)
        losses = train(state, epochs_of(each), data)
        shown.append(losses)
    assert shown[0] == shown[1]


@pytest.mark.parametrize("share", [0.01, 1.0])
def test_the_cost_of_m2m_is_the_seed_network_once_and_both_networks_a_step(
    share: float, data: DeviceData, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = generating("m2m", generate__share=share, generate__steps=3)
    trained_nets = calls(monkeypatch, "_seed_network")
    seed = 90 * max(1, round(share * 5))
    for _ in range(2):  # charged to every trial, trained for the first
        state = trained(config, data)
        assert state.passes == seed + 4 * 90 + 90 * (1 + 2 * 3)
    assert len(trained_nets) == 1


@pytest.mark.parametrize("name", ["deepsmote", "m2m"])
def test_a_climb_charges_what_it_generates_once(name: str, data: DeviceData) -> None:
    """At the first rung, where it is needed first; the networks that later rungs share are free."""
    config = generating(name, epochs=8)
    path = rung_segments("cooldown", [2, 4, 8], config.schedule.shared)
    spent = [
        r.passes for r in train_through_rungs([config], data, path) if isinstance(r, EpochResult)
    ]
    each = {"deepsmote": 240, "m2m": 90 * 3}[name]
    once = {"deepsmote": 2 * 87, "m2m": 90 * 4}[name]
    epochs = [
        r.epoch for r in train_through_rungs([config], data, path) if isinstance(r, EpochResult)
    ]
    expected, charged = 0, False
    for epoch, passes in zip(epochs, spent, strict=True):
        expected += each if epoch.cooldown_epochs else 90
        expected += once if epoch.cooldown_epochs and not charged else 0
        charged |= bool(epoch.cooldown_epochs)
        assert passes == expected


@pytest.mark.parametrize("name", [n for n in generators.names() if n != "none"])
def test_a_seed_decides_a_run_with_generated_images(name: str) -> None:
    config = generating(name, generate__schedule="always", mix="mixup", epochs=2)
    runs = []
    for seed in (0, 0, 1):
        torch.rand(3)
        knobs = config.flat() | {"generate.seed": seed}
        fresh = DeviceData(SPLITS, CPU)
        runs.append(everything(trained(TrainConfig.from_settings(knobs), fresh)))
    kept = DeviceData(SPLITS, CPU)
    trained(config.replace(seed=3), kept)  # leaves its helper behind
    runs.append(everything(trained(config, kept)))
    assert same(runs[0], runs[1]) and same(runs[0], runs[3])
    assert not same(runs[0], runs[2])


def test_helpers_do_not_outlive_their_knobs(data: DeviceData) -> None:
    """Only the last of each kind is kept."""
    made: list[Tensor] = []

    def make(value: float) -> Tensor:
        made.append(torch.tensor(value))
        return made[-1]

    first = data.cached("kind", 1, lambda: make(1.0))
    assert data.cached("kind", 1, lambda: make(2.0)) is first
    assert data.cached("other", 1, lambda: make(3.0)) is not first
    assert data.cached("kind", 2, lambda: make(4.0)).item() == 4
    assert data.cached("kind", 1, lambda: make(5.0)).item() == 5 and len(made) == 4
