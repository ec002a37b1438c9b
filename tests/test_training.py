"""The training loop, the branch that is undone, the path of a trial, and learning."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_splits
from torch import Tensor

from imbtune.config import TrainConfig
from imbtune.data.splits import Images, Splits
from imbtune.methods.mixing import Blend
from imbtune.methods.schedules import Phases
from imbtune.presets import find_preset
from imbtune.training.device_data import DeviceData
from imbtune.training.loop import (
    EpochResult,
    RungResult,
    TrainState,
    batch,
    climb,
    objective,
    train_epoch,
)
from imbtune.training.metrics import metrics
from imbtune.training.plan import draw_epoch, steps_per_epoch
from imbtune.training.progress import Epoch, cooldown, stretches, trunk, whole_run

CPU = torch.device("cpu")
DATA = DeviceData(make_splits([60, 20, 6, 1]), CPU)  # 87 images, 8×8 grey


def make_config(**changes: Any) -> TrainConfig:
    small = {"model.width": 4} if "model" not in changes else {}
    plain = {"batch_size": 30, "epochs": 5, "precision": "float32"} | small
    return TrainConfig.from_settings(plain | {k.replace("__", "."): v for k, v in changes.items()})


def train(state: TrainState, epochs: list[Epoch], data: DeviceData = DATA) -> list[float]:
    return [train_epoch(state, data, epoch)[1] for epoch in epochs]


def trained(config: TrainConfig, data: DeviceData = DATA) -> TrainState:
    state = TrainState(config, data)
    train(state, whole_run(config.epochs, config.schedule.shared), data)
    return state


def everything(state: TrainState) -> list[Tensor]:
    """Weights, batch-norm statistics, and what the optimiser remembers."""
    kept = [tensor.clone() for tensor in state.model.state_dict().values()]
    for group in state.optimizer.param_groups:
        for weight in group["params"]:
            memory = state.optimizer.state[weight].values()
            kept += [value.clone() for value in memory if isinstance(value, Tensor)]
    return kept


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) for a, b in zip(one, other, strict=True)
    )


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
    epoch = cooldown(4, 5, 0.5)[0]
    lr, loss = train_epoch(state, DATA, epoch)
    plan = draw_epoch(config, DATA, by_hand.mix, by_hand.weights_K, epoch)
    weights = list(by_hand.model.parameters())
    sgd = torch.optim.SGD(weights, lr=1.0, momentum=0.9, weight_decay=2e-4)
    losses = []
    for step in range(3):
        sgd.param_groups[0]["lr"] = plan.lr_S[step].item()
        sgd.zero_grad()
        images_BCHW, y_i, y_j, a_B, b_B = batch(by_hand, DATA, plan, step)
        value = objective(by_hand.model(images_BCHW), y_i, y_j, a_B, b_B, by_hand)
        value.backward()
        sgd.step()
        losses.append(value.item())
    assert lr == pytest.approx(plan.lr_S[-1].item())
    assert loss == pytest.approx(sum(losses) / 3, rel=1e-4)
    for weight, expected in zip(state.model.parameters(), weights, strict=True):
        torch.testing.assert_close(weight, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("mix", ["mixup", "cutmix", "mamix"])
def test_no_mixing_is_mixing_with_lambda_1(mix: str) -> None:
    """To the last bit: nothing that is drawn for the partners moves what is drawn for x_i."""
    plain = TrainState(make_config(weights="inverse"), DATA)
    mixed = TrainState(make_config(mix=mix, weights="inverse"), DATA)
    assert mixed.mix is not None
    mixed.mix = mixed.mix._replace(blend=lambda shape, *_: Blend(np.ones(shape)))
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


# ---- the undone branch -------------------------------------------------------------------------


@cache
def colour_data() -> DeviceData:
    return DeviceData(make_splits([12, 4], size=32, channels=3), CPU)


@pytest.mark.parametrize("turn", [0, 2])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("model", ["small_cnn", "mobilenet_v3_small"])
def test_a_branch_leaves_the_trunk_as_it_was_to_the_last_bit(
    model: str, optimizer: str, turn: int
) -> None:
    """Weights, statistics, optimiser and later draws (the second model has dropout), whether the
    branch comes before the first step or later."""
    data = DATA if model == "small_cnn" else colour_data()
    config = make_config(
        model=model, optimizer=optimizer, mix="mixup", weights="inverse", batch_size=16
    )
    before, after = trunk(0, turn, 6, Phases()), trunk(turn, 4, 6, Phases())
    straight, branched = TrainState(config, data), TrainState(config, data)
    losses = train(straight, before, data)
    assert train(branched, before, data) == losses
    with branched.kept():
        train(branched, cooldown(turn, turn + 2, 0.1), data)
        branched.evaluate(data)
        assert not same(everything(branched), everything(straight))
    assert same(everything(branched), everything(straight))
    assert train(branched, after, data) == train(straight, after, data)
    assert same(everything(branched), everything(straight))


def climbed(config: TrainConfig, kind: str, budgets: list[int]) -> list[EpochResult | RungResult]:
    return list(climb(config, DATA, stretches(kind, budgets, config.schedule.shared)))


def last_epochs(results: list[EpochResult | RungResult], count: int) -> list[tuple[Any, ...]]:
    epochs = [r for r in results if isinstance(r, EpochResult)][-count:]
    return [(r.epoch, r.lr, r.loss, r.confusion_KK.tolist()) for r in epochs]


@pytest.mark.parametrize("mix", ["none", "cutmix"])
def test_all_kinds_of_rungs_end_in_the_same_run(mix: str) -> None:
    """Whatever was tried below it, the top rung is the run of that budget, to the last bit."""
    config = make_config(mix=mix, epochs=9, weights="effective_number", schedule__cooldown=0.4)
    alone = climbed(config, "compressed", [9])
    assert last_epochs(climbed(config, "cooldown", [9]), 9) == last_epochs(alone, 9)
    for kind in ("cooldown", "compressed", "prefix"):
        results = climbed(config, kind, [1, 3, 9])
        assert last_epochs(results, 4) == last_epochs(alone, 4)
        top = results[-1]
        assert isinstance(top, RungResult) and top.stretch.budget == 9
        state = trained(config)
        assert np.array_equal(top.confusion_KK, state.evaluate(DATA))


@pytest.mark.parametrize(("kind", "epochs"), [("cooldown", 11), ("compressed", 13), ("prefix", 9)])
def test_a_climb_yields_every_epoch_and_counts_its_images(kind: str, epochs: int) -> None:
    results = climbed(make_config(epochs=9), kind, [1, 3, 9])
    trained_epochs = 0
    for before, result in zip([None, *results], results, strict=False):
        trained_epochs += isinstance(result, EpochResult)
        if isinstance(result, EpochResult):  # 87 images in batches of 16: 5 steps
            steps, batch = steps_per_epoch(87, make_config().batch_size)
            assert result.images == steps * batch
        if isinstance(result, RungResult):
            assert isinstance(before, EpochResult)
            assert np.array_equal(result.confusion_KK, before.confusion_KK)
    assert trained_epochs == epochs
    assert [r.stretch.rung for r in results if isinstance(r, RungResult)] == [0, 1, 2]


# ---- learning ----------------------------------------------------------------------------------


def test_a_network_learns_four_classes_and_not_from_shuffled_labels() -> None:
    splits = make_splits([40] * 4)
    config = make_config(epochs=10, model__width=8, optimizer__lr=0.05, batch_size=20)
    data = DeviceData(splits, CPU)
    learned = metrics(trained(config, data).evaluate(data), data.counts_K)
    labels = np.random.default_rng(0).permutation(splits.train.labels)
    train_images = Images(splits.train.pixels, labels)
    wrong = DeviceData(Splits(train_images, splits.held, splits.classes, splits.look), CPU)
    misled = metrics(trained(config, wrong).evaluate(wrong), wrong.counts_K)
    assert learned["balanced_accuracy"] is not None and misled["balanced_accuracy"] is not None
    assert learned["balanced_accuracy"] > 0.85
    assert misled["balanced_accuracy"] < 0.6


def test_deferred_reweighting_raises_the_recall_of_the_tail() -> None:
    """Over three seeds; the trunks are the same runs, so the weights alone make the difference."""
    data = DeviceData(make_splits([60, 20, 6, 3], held=25), CPU)
    few: dict[str, list[float]] = {"none": [], "inverse": []}
    for weights, seen in few.items():
        for seed in range(3):
            config = make_config(
                weights=weights, seed=seed, epochs=10, batch_size=16, model__width=8,
                optimizer__lr=0.02, schedule="linear", schedule__cooldown=0.5,
            )  # fmt: skip
            figures = metrics(trained(config, data).evaluate(data), data.counts_K)
            assert figures["few"] is not None
            seen.append(figures["few"])
    assert np.mean(few["inverse"]) > np.mean(few["none"]) + 0.2


@pytest.mark.parametrize("preset", ["cb", "mamix_drw", "ldam_drw", "smote"])
def test_the_literatures_methods_learn(preset: str) -> None:
    data = DeviceData(make_splits([60, 30, 20, 12]), CPU)
    given_settings = {k.replace(".", "__"): v for k, v in find_preset(preset).settings.items()}
    config = make_config(
        **given_settings, epochs=12, batch_size=16, model__width=8, optimizer__lr=0.05
    )
    figures = metrics(trained(config, data).evaluate(data), data.counts_K)
    assert figures["balanced_accuracy"] is not None
    assert figures["balanced_accuracy"] > 0.6
