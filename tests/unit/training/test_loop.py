"""The training loop, the branch that is undone, the path of a trial, and learning."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from short_runs import DATA, everything, make_config, plan_of, same, train, trained
from torch import Tensor

from imbtune.config.train_config import TrainConfig
from imbtune.methods.lr_schedules import Phases
from imbtune.methods.mixing.blending import Blend
from imbtune.training.loop import batches, train_epoch
from imbtune.training.phases import cooldown, rung_segments, trunk, whole_run
from imbtune.training.rungs import Diverged, EpochResult, RungResult, train_through_rungs
from imbtune.training.state import TrainState
from imbtune.training.step import objective

# ---- the loop ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mix", ["none", "mixup", "cutmix"])
def test_a_step_is_one_forward_of_its_batch(mix: str) -> None:
    state = TrainState(make_config(mix=mix), DATA)
    seen: list[tuple[int, bool]] = []

    def record(module: Any, args: tuple[Tensor], output: Tensor) -> None:
        seen.append((len(args[0]), module.training))

    state.model.register_forward_hook(record)
    train(state, trunk(0, 1, 5, Phases()))
    assert seen == [(30, True)] * 3


def test_an_epoch_is_its_steps_by_hand() -> None:
    """SGD with the plan's rates on the objective: the weights, the mean loss, the last rate."""
    config = make_config(mix="mixup", loss="vs", weights="effective_number", optimizer__lr=0.05)
    state, by_hand = TrainState(config, DATA), TrainState(config, DATA)
    epoch = cooldown(4, 5, 10, Phases(0.05))[0]
    log = train_epoch(state, DATA, epoch)
    plan = plan_of(by_hand, epoch)
    weights = list(by_hand.model.parameters())
    sgd = torch.optim.SGD(weights, lr=1.0, momentum=0.9, weight_decay=2e-4)
    losses = []
    for step, batch in enumerate(batches(by_hand, DATA, plan)):
        sgd.param_groups[0]["lr"] = plan.lr_S[step].item()
        sgd.zero_grad()
        value = objective(by_hand.model(batch.images_BCHW), batch, by_hand.step_model)
        value.backward()
        sgd.step()
        losses.append(value.item())
    assert log.lr == pytest.approx(plan.lr_S[-1].item())
    assert log.loss == pytest.approx(sum(losses) / 3, rel=1e-4)
    for weight, expected in zip(state.model.parameters(), weights, strict=True):
        torch.testing.assert_close(weight, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("mix", ["mixup", "cutmix", "mamix"])
def test_no_mixing_is_mixing_with_lambda_1(mix: str) -> None:
    """To the last bit: nothing that is drawn for the partners moves what is drawn for x_i."""
    plain = TrainState(make_config(weights="inverse"), DATA)
    mixed = TrainState(make_config(mix=mix, weights="inverse"), DATA)
    assert mixed.methods.mix is not None
    unmixed = mixed.methods.mix._replace(blend=lambda shape, *_: Blend(np.ones(shape)))
    mixed.methods = dataclasses.replace(mixed.methods, mix=unmixed)
    run = whole_run(5, Phases())
    assert train(mixed, run) == train(plain, run)
    assert same(everything(mixed), everything(plain))


@pytest.mark.parametrize("mix", ["none", "cutmix", "soft_smote"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_seed_decides_the_run(mix: str, optimizer: str) -> None:
    config = make_config(mix=mix, optimizer=optimizer, weights="effective_number")
    first = everything(trained(config))
    torch.rand(3)  # whatever else draws from torch's generator
    assert same(first, everything(trained(config)))
    assert not same(first, everything(trained(config.replace(seed=1))))


@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
def test_every_precision_trains(precision: str) -> None:
    state = TrainState(make_config(precision=precision), DATA)
    assert all(math.isfinite(loss) for loss in train(state, whole_run(2, Phases())))
    assert all(weight.dtype == torch.float32 for weight in state.model.parameters())
    assert state.evaluate(DATA).sum() == 40


# ---- neighbours in the network's features ------------------------------------------------------

KNN = {"mix__space": "features", "mix__neighbours": 2}


def literal_features(state: TrainState) -> Tensor:
    """Image by image, through a copy of the network in evaluation mode."""
    network = copy.deepcopy(state.model).eval()
    with torch.no_grad():
        images = (DATA.resident("a test") / 255 - 0.5) / 0.25
        return torch.cat([network.backbone(image[None]) for image in images])


@pytest.mark.parametrize("block", [7, 1000])
def test_features_are_those_of_the_network_as_it_stands(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imbtune.training.state.BLOCK", block)
    state = TrainState(make_config(), DATA)
    for epoch in trunk(0, 2, 5, Phases()):
        expected_ND = literal_features(state)
        statistics, modes = everything(state), [m.training for m in state.model.modules()]
        torch.testing.assert_close(state.features(DATA), expected_ND, rtol=1e-4, atol=1e-5)
        assert same(everything(state), statistics)
        assert [m.training for m in state.model.modules()] == modes and state.model.training
        train_epoch(state, DATA, epoch)


def literal_neighbours(points_ND: Tensor, i: int, same_class: bool, k: int) -> set[int]:
    labels = DATA.host_labels_N
    others = [j for j in range(87) if j != i and (labels[j] == labels[i] or not same_class)]
    return set(sorted(others, key=lambda j: float((points_ND[i] - points_ND[j]).norm()))[:k])


@pytest.mark.parametrize("mix", ["smote", "soft_smote"])
def test_partners_are_near_in_the_features_of_now(mix: str) -> None:
    state, drawn = TrainState(make_config(mix=mix, **KNN), DATA), []
    for epoch in trunk(0, 3, 5, Phases()):
        features_ND = literal_features(state)
        plan = plan_of(state, epoch)
        assert plan.partner is not None
        pairs = torch.stack([plan.image.index_SB, plan.partner.index_SB]).flatten(1).T.tolist()
        for i, j in pairs:
            near = literal_neighbours(features_ND, i, mix == "smote", 2)
            assert j in near or (not near and j == i)
        neighbours = [literal_neighbours(features_ND, i, mix == "smote", 2) for i in range(87)]
        drawn.append(neighbours)
        train_epoch(state, DATA, epoch)
    assert drawn[0] != drawn[1] != drawn[2]  # the weights changed, so did who is near


@pytest.mark.parametrize("mix", ["smote", "any_class_knn+cutmix+margin_aware"])
def test_a_run_with_neighbours_in_features_is_decided_by_its_seed(mix: str) -> None:
    config = make_config(mix=mix, **KNN)
    first = everything(trained(config))
    torch.rand(3)
    assert same(first, everything(trained(config)))
    assert not same(first, everything(trained(make_config(mix=mix, mix__neighbours=2))))
    alone = fingerprint(climbed(config, "compressed", [5])[-1])
    assert fingerprint(climbed(config, "cooldown", [2, 5])[-1]) == alone


# ---- the undone branch -------------------------------------------------------------------------


def climbed(config: TrainConfig, kind: str, budgets: list[int]) -> list[EpochResult | RungResult]:
    path = rung_segments(kind, budgets, config.schedule.shared)
    results = train_through_rungs([config], DATA, path)
    return [result for result in results if not isinstance(result, Diverged)]


def fingerprint(result: EpochResult | RungResult) -> list[list[float]]:
    """Of the model at the top: its margins, float for float, and its confusion."""
    assert isinstance(result, RungResult) and result.margins is not None
    return [*(mean_K.tolist() for mean_K in result.margins), *result.confusion_KK.tolist()]


@pytest.mark.parametrize(("kind", "epochs"), [("cooldown", 11), ("compressed", 13), ("prefix", 9)])
def test_a_climb_yields_every_epoch_and_counts_its_images(kind: str, epochs: int) -> None:
    results = climbed(make_config(epochs=9), kind, [1, 3, 9])
    trained_epochs = 0
    for before, result in zip([None, *results], results, strict=False):
        trained_epochs += isinstance(result, EpochResult)
        assert result.passes == 90 * trained_epochs  # 3 steps of 30
        if isinstance(result, RungResult):
            assert isinstance(before, EpochResult)
            assert np.array_equal(result.confusion_KK, before.confusion_KK)
    assert trained_epochs == epochs
    assert [r.segment.rung for r in results if isinstance(r, RungResult)] == [0, 1, 2]
