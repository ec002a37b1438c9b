"""Whole training steps against literal transcriptions of the published code.

Compared are learning rate, batch, loss, gradient and updated weights, at an early and at a late
epoch of the source's own 200 or 300. The transcriptions take the random draws (which images, λ,
boxes) from imbtune's plan, and compute everything else as the source does.

Sources: ntucllab/imbalanced-DL (ERM, Reweight_CB, Mixup_DRW, Remix_DRW, MAMix_DRW),
kaidic/LDAM-DRW (DRW, LDAM-DRW), naver-ai/cmo (CMO with DRW).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from short_runs import CPU, DATA, plan_of
from small_data import make_splits
from torch import Tensor, nn

from imbtune.config.train_config import TrainConfig
from imbtune.spaces.space_file import load_space
from imbtune.training.apply_posthoc import apply_posthoc
from imbtune.training.device.device_data import DeviceData
from imbtune.training.epoch_plan import EpochPlan
from imbtune.training.loop import batches, train_epoch
from imbtune.training.phases import Epoch, whole_run
from imbtune.training.state import TrainState

COUNTS = [60, 20, 6, 1]
SMALL = {"model": "small_cnn", "model.width": 4, "precision": "float32", "batch_size": 29}


def published_rate(epoch: int, epochs: int) -> float:
    """`adjust_learning_rate` of both packages, for 0-based epochs and a peak of 0.1."""
    epoch += 1
    if epoch <= 5:
        return 0.1 * epoch / 5
    if epochs == 200:
        return 0.1 * 0.0001 if epoch > 180 else 0.1 * 0.01 if epoch > 160 else 0.1
    return 0.1 * 0.01 if epoch > 250 else 0.1 * 0.1 if epoch > 150 else 0.1


def published_weights(epoch: int, epochs: int, rule: str) -> Tensor | None:
    """`get_criterion`: no weights, class-balanced ones, or those of deferred re-weighting."""
    if rule == "none":
        return None
    start = 250 if epochs == 300 else 160
    beta = 0.9999 if rule == "always" else [0, 0.9999][epoch // start]
    effective = 1.0 - np.power(beta, COUNTS)
    weights = (1.0 - beta) / np.array(effective)
    return torch.FloatTensor(weights / np.sum(weights) * len(COUNTS))


Loss = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor | None], Any]


def erm(out: Tensor, y_i: Tensor, y_j: Tensor, lam: Tensor, w: Tensor | None) -> Any:
    return nn.CrossEntropyLoss(weight=w, reduction="none")(out, y_i).mean()


def drw(out: Tensor, y_i: Tensor, y_j: Tensor, lam: Tensor, w: Tensor | None) -> Any:
    return nn.CrossEntropyLoss(weight=w)(out, y_i)


def ldam(out: Tensor, y_i: Tensor, y_j: Tensor, lam: Tensor, w: Tensor | None) -> Any:
    inverse = 1.0 / np.sqrt(np.sqrt(COUNTS))
    m_list = torch.FloatTensor(inverse * (0.5 / np.max(inverse)))
    index = torch.zeros_like(out, dtype=torch.bool).scatter_(1, y_i.view(-1, 1), True)
    x_m = out - m_list[y_i].view(-1, 1)
    return nn.functional.cross_entropy(30 * torch.where(index, x_m, out), y_i, weight=w)


def mixup(out: Tensor, y_i: Tensor, y_j: Tensor, lam: Tensor, w: Tensor | None) -> Any:
    criterion = nn.CrossEntropyLoss(weight=w, reduction="none")
    return (lam[0] * criterion(out, y_i) + (1 - lam[0]) * criterion(out, y_j)).mean()


def remix(out: Tensor, y_i: Tensor, y_j: Tensor, lam: Tensor, w: Tensor | None) -> Any:
    criterion = nn.CrossEntropyLoss(weight=w, reduction="none")
    lam_y = []
    for i, j in zip(y_i.tolist(), y_j.tolist(), strict=True):
        if COUNTS[i] / COUNTS[j] >= 3 and lam[0] < 0.5:
            lam_y.append(0.0)
        elif COUNTS[i] / COUNTS[j] <= 1 / 3 and 1 - lam[0] < 0.5:
            lam_y.append(1.0)
        else:
            lam_y.append(lam[0].item())
    share = torch.tensor(lam_y)
    return (criterion(out, y_i) * share + criterion(out, y_j) * (1 - share)).mean()


def mamix(out: Tensor, y_i: Tensor, y_j: Tensor, lam: Tensor, w: Tensor | None) -> Any:
    """λ_x is the share of x_j there."""
    criterion = nn.CrossEntropyLoss(weight=w, reduction="none")
    x, lam_y = 1 - lam[0].item(), []
    for i, j in zip(y_i.tolist(), y_j.tolist(), strict=True):
        k1, k2 = pow(COUNTS[i], -0.25), pow(COUNTS[j], -0.25)
        middle = k1 / (k1 + k2)
        lam_y.append(-0.5 * x / middle + 1.0 if x < middle else (x - 1) * 0.5 / (middle - 1))
    share = torch.tensor(lam_y)
    return (criterion(out, y_i) * share + criterion(out, y_j) * (1 - share)).mean()


def cmo(out: Tensor, y_i: Tensor, y_j: Tensor, lam: Tensor, w: Tensor | None) -> Any:
    criterion = nn.CrossEntropyLoss(weight=w)
    return criterion(out, y_i) * lam[0] + criterion(out, y_j) * (1.0 - lam[0])


ROWS: dict[str, tuple[Loss, str]] = {
    "erm": (erm, "none"),
    "cb": (erm, "always"),
    "drw": (drw, "deferred"),
    "ldam_drw": (ldam, "deferred"),
    "mixup_drw": (mixup, "deferred"),
    "remix_drw": (remix, "deferred"),
    "mamix_drw": (mamix, "deferred"),
    "cmo_drw": (cmo, "deferred"),
}
SPACES = {200: "cifar10-lt", 300: "cifar100-lt"}


def published_config(preset: str, epochs: int) -> TrainConfig:
    """A preset in a published space, with a small network."""
    settings: dict[str, Any] = load_space(SPACES[epochs]).preset(preset).flat()
    return TrainConfig.from_settings({**settings, **SMALL})


def mixed_images(plan: EpochPlan, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images, both labels and λ of a step, mixed one image at a time."""
    x_i = list(DATA.views(plan.image))[step]
    y_i = DATA.labels_N[plan.image.index_SB[step]]
    if plan.partner is None or plan.lam_SB is None:
        return x_i, y_i, y_i, torch.ones(len(y_i))
    x_j = list(DATA.views(plan.partner))[step]
    y_j = DATA.labels_N[plan.partner.index_SB[step]]
    lam = plan.lam_SB[step].float()
    mixed = []
    for b in range(len(y_i)):
        if plan.box_SB4 is None:
            mixed.append(lam[b] * x_i[b] + (1 - lam[b]) * x_j[b])
        else:
            top, bottom, left, right = plan.box_SB4[step, b].tolist()
            pasted = x_i[b].clone()
            pasted[:, top:bottom, left:right] = x_j[b][:, top:bottom, left:right]
            mixed.append(pasted)
    return torch.stack(mixed), y_i, y_j, lam


@pytest.mark.parametrize(
    ("preset", "epochs"),
    [*((name, 200) for name in ROWS), ("drw", 300), ("ldam_drw", 300), ("mamix_drw", 300)],
)
def test_a_step_is_the_published_one(preset: str, epochs: int) -> None:
    loss, rule = ROWS[preset]
    config = published_config(preset, epochs)
    run = whole_run(epochs, config.schedule.shared)
    assert len(run) == epochs
    late = [170, 190] if epochs == 200 else [200, 270]
    for index in (2, 30, *late):
        state = TrainState(config, DATA)
        plan = plan_of(state, run[index])
        literal = copy.deepcopy(state.model)
        optimizer = torch.optim.SGD(literal.parameters(), 0.1, momentum=0.9, weight_decay=2e-4)
        for step, batch in enumerate(batches(state, DATA, plan)):
            images, y_i, y_j, lam = mixed_images(plan, step)
            torch.testing.assert_close(batch.images_BCHW, images)

            rate = published_rate(index, epochs)
            optimizer.param_groups[0]["lr"] = rate
            expected = loss(literal(images), y_i, y_j, lam, published_weights(index, epochs, rule))
            optimizer.zero_grad()
            expected.backward()

            torch.testing.assert_close(state.gradient(batch), expected.detach())
            for ours, theirs in zip(state.model.parameters(), literal.parameters(), strict=True):
                assert ours.grad is not None and theirs.grad is not None
                torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)
            assert plan.lr_S[step].item() == pytest.approx(rate, rel=1e-6)
            state.optimizer.param_groups[0]["lr"].copy_(plan.lr_S[step])
            state.optimizer.step()
            state.optimizer.zero_grad()
            optimizer.step()
            for ours, theirs in zip(state.model.parameters(), literal.parameters(), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def is_mixed(config: TrainConfig, epoch: Epoch) -> bool:
    return plan_of(TrainState(config, DATA), epoch).partner is not None


def test_cmo_mixes_from_the_fifth_epoch_to_the_fourth_last_one() -> None:
    """`start_data_aug < epoch < epochs - end_data_aug`, both 3, for 0-based epochs."""
    config = published_config("cmo_drw", 200)
    run = whole_run(200, config.schedule.shared)
    for index in (0, 3, 4, 5, 100, 160, 196, 197, 199):
        assert is_mixed(config, run[index]) == (3 < index < 200 - 3), index


def test_a_schedule_may_have_more_than_two_drops() -> None:
    config = TrainConfig.from_settings(
        {
            "schedule": "step",
            "schedule.cooldown": 0.5,
            "schedule.drop": 0.1,
            "schedule.milestones": "0 2/5 4/5",
            "schedule.warmup": 0,
            "epochs": 100,
            **SMALL,
        }
    )
    state = TrainState(config, DATA)
    rates = [plan_of(state, e).lr_S.tolist() for e in whole_run(100, config.schedule.shared)]
    for index, drops in ((0, 0), (49, 0), (50, 1), (69, 1), (70, 2), (89, 2), (90, 3), (99, 3)):
        assert rates[index] == pytest.approx([0.1 * 0.1**drops] * len(rates[index])), index


def test_smote_keeps_the_real_images_of_the_largest_class() -> None:
    """An image of class k is synthetic with probability 1 - n_k/n_max, in balanced batches."""
    counts = [60, 30, 15, 6]
    data = DeviceData(make_splits(counts), CPU)
    config = TrainConfig.from_settings(
        {**load_space("digits-lt").preset("smote").flat(), **SMALL, "batch_size": 174}
    )
    state = TrainState(config, data)
    run = whole_run(config.epochs, config.schedule.shared)
    labels, mixed = [], []
    for epoch in run[5:55]:
        plan = plan_of(state, epoch, data)
        assert plan.lam_SB is not None
        labels.append(data.labels_N[plan.image.index_SB].flatten())
        mixed.append((plan.lam_SB < 1).flatten())
    labels_N, mixed_N = torch.cat(labels), torch.cat(mixed)
    for k, count in enumerate(counts):
        share = mixed_N[labels_N == k].double().mean().item()
        assert share == pytest.approx(1 - count / 60, abs=0.05), k
    shares = torch.bincount(labels_N).double() / len(labels_N)
    assert shares.tolist() == pytest.approx([0.25] * 4, abs=0.03)


@pytest.mark.parametrize("preset", ["gcl", "mislas"])
def test_a_second_stage_starts_from_the_first_stages_head(preset: str) -> None:
    config = published_config(preset, 200).replace(epochs=2)
    state = TrainState(config, DATA)
    for epoch in whole_run(2, config.schedule.shared):
        train_epoch(state, DATA, epoch)
    before = state.model.head.weight.detach().clone()
    settings = {**config.flat(), "after.lr": 0.0}
    frozen = copy.deepcopy(state)
    frozen.methods = TrainState(TrainConfig.from_settings(settings), DATA).methods
    apply_posthoc(frozen, DATA, 2)
    torch.testing.assert_close(frozen.model.head.weight, before)
    apply_posthoc(state, DATA, 2)
    assert not torch.equal(state.model.head.weight, before)


def test_second_stages_keep_the_rate_of_an_epoch() -> None:
    """`adjust_learning_rate` of MiSLAS: lr · ½(1 + cos(epoch/num_epochs·π)), set once an epoch."""
    config = published_config("mislas", 200).replace(epochs=1)
    methods = TrainState(config, DATA).methods
    stage = replace(methods, rate_by_epoch=True, decay=lambda p: (1 + math.cos(math.pi * p)) / 2)
    for index in range(10):
        epoch = Epoch(200 + index, 200, 200, 0.0, index, 10)
        rates = stage.learning_rates(epoch, 3).tolist()
        expected = 0.1 * 0.5 * (1 + math.cos(index / 10 * math.pi))
        assert rates == pytest.approx([expected] * 3)
