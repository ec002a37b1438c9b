"""SAM and ImbSAM: the step's gradient, written out on a second copy of the network."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from short_runs import CPU, DATA, everything, first_batch, make_config, same, train, trained
from small_data import make_splits
from torch import Tensor, nn

from imbtune.methods.losses import margin_softmax
from imbtune.methods.lr_schedules import Phases
from imbtune.training.device.device_data import DeviceData
from imbtune.training.phases import trunk, whole_run
from imbtune.training.state import TrainState
from imbtune.training.step import Batch

EPOCH = whole_run(5, Phases())[1]


def state_of(optimizer: str, **changes: Any) -> TrainState:
    """With class-balanced batches, so that every batch has rare images."""
    plain = {"optimizer": optimizer, "weights": "inverse", "sampler": "class_balanced"}
    return TrainState(make_config(**(plain | changes)), DATA)


def literal_loss(model: nn.Module, batch: Batch, state: TrainState, classes: set[int]) -> Tensor:
    """Sample by sample and label by label: the share of the objective of some classes."""
    logits_BK = model(batch.images_BCHW)
    total = 0 * logits_BK.sum()
    for b in range(len(logits_BK)):
        for share, label in zip(batch.shares_LB[:, b], batch.labels_LB[:, b], strict=True):
            if int(label) in classes:
                row = logits_BK[b : b + 1]
                total = total + share * margin_softmax(row, label[None], state.methods.vectors)[0]
    loss: Tensor = total / batch.norm
    return loss


def literal_gradient(state: TrainState, batch: Batch, rho: float, sharp: set[int]) -> list[Tensor]:
    """∇L_rest(w) + ∇L_sharp(w + ρ·g/‖g‖) with g = ∇L_sharp(w)."""
    here = copy.deepcopy(state.model)
    uphill = torch.autograd.grad(literal_loss(here, batch, state, sharp), list(here.parameters()))
    length = sum(float((g**2).sum()) for g in uphill) ** 0.5
    there = copy.deepcopy(state.model)
    with torch.no_grad():
        for weight, g in zip(there.parameters(), uphill, strict=True):
            if length:
                weight.add_(g, alpha=rho / length)
    rest = set(range(4)) - sharp
    total: list[Tensor] = [torch.zeros_like(weight) for weight in here.parameters()]
    for model, classes in ((copy.deepcopy(state.model), rest), (there, sharp)):
        loss = literal_loss(model, batch, state, classes)
        slopes = torch.autograd.grad(loss, list(model.parameters()))
        total = [one + other for one, other in zip(total, slopes, strict=True)]
    return total


def gradient_of(state: TrainState, batch: Batch) -> list[Tensor]:
    state.gradient(batch)
    return [w.grad for w in state.model.parameters() if w.grad is not None]


def close(one: list[Tensor], other: list[Tensor], tolerance: float = 1e-4) -> bool:
    """In the Euclidean distance over all weights, relative to the second."""
    squares = [float((a - b).square().sum()) for a, b in zip(one, other, strict=True)]
    lengths = [float(b.square().sum()) for b in other]
    return math.sqrt(sum(squares)) <= tolerance * math.sqrt(sum(lengths))


CASES: list[tuple[str, dict[str, Any], set[int]]] = [
    ("sam", {}, {0, 1, 2, 3}),
    ("imbsam", {"optimizer__below": 7}, {2, 3}),  # of 60, 20, 6, 1 images
    ("imbsam", {"optimizer__below": 6}, {3}),
    ("imbsam", {"optimizer__below": 21}, {1, 2, 3}),
    ("imbsam", {"optimizer__below": 61}, {0, 1, 2, 3}),
    ("imbsam", {"optimizer__below": 1}, set()),
]


@pytest.mark.parametrize("loss", ["ce", "ldam"])
@pytest.mark.parametrize("mix", ["none", "mixup"])
@pytest.mark.parametrize(("name", "knobs", "sharp"), CASES)
def test_the_gradient_is_the_papers(
    name: str, knobs: dict[str, Any], sharp: set[int], mix: str, loss: str
) -> None:
    """A mixed sample's two labels go each with its own class."""
    state = state_of(name, mix=mix, loss=loss, optimizer__rho=0.5, **knobs)
    batch = first_batch(state, EPOCH)
    expected = literal_gradient(state, batch, 0.5, sharp)
    plain = literal_gradient(state, batch, 0.0, sharp)
    assert close(gradient_of(state, batch), expected)
    assert close(expected, plain, 1e-2) == (not sharp)  # ρ is far enough to be seen


@pytest.mark.parametrize("name", ["sam", "imbsam"])
def test_a_step_returns_the_plain_loss_and_leaves_the_weights(name: str) -> None:
    """Weights to the bit; batch norm as after the first pass alone."""
    knobs = {"optimizer__below": 7} if name == "imbsam" else {}
    sharp = state_of(name, mix="mixup", optimizer__rho=0.5, **knobs)
    plain = state_of("sgd", mix="mixup")
    batch = first_batch(sharp, EPOCH)
    before = [weight.clone() for weight in sharp.model.parameters()]
    loss, plain_loss = sharp.gradient(batch), plain.gradient(batch)
    torch.testing.assert_close(loss, plain_loss)
    assert not loss.requires_grad
    assert same(list(sharp.model.parameters()), before)
    assert same(list(sharp.model.buffers()), list(plain.model.buffers()))
    norms = [m for m in sharp.model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and all(n.momentum == 0.1 and n.track_running_stats for n in norms)
    assert sharp.model.training


def test_batch_norm_that_averages_all_batches_counts_each_once() -> None:
    """With momentum None the running figures are the mean over the batches counted."""
    states = [state_of("sam"), state_of("sgd")]
    for state in states:
        for module in state.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        for _ in range(3):
            state.gradient(first_batch(state, EPOCH))
    sharp, plain = (list(state.model.buffers()) for state in states)
    assert same(sharp, plain)


def test_a_batch_without_rare_samples_has_the_plain_gradient() -> None:
    state, plain = state_of("imbsam", optimizer__below=7), state_of("sgd")
    batch = first_batch(state, EPOCH)
    batch = batch._replace(shares_LB=batch.shares_LB * (batch.labels_LB < 2))
    expected = gradient_of(plain, batch)
    assert close(gradient_of(state, batch), expected, 1e-6)


def test_a_batch_of_rare_samples_alone_has_sams_gradient() -> None:
    state, sam = (
        state_of("imbsam", optimizer__below=7, optimizer__rho=0.3),
        state_of("sam", optimizer__rho=0.3),
    )
    batch = first_batch(state, EPOCH)
    batch = batch._replace(shares_LB=batch.shares_LB * (batch.labels_LB >= 2))
    assert batch.shares_LB.any()
    assert close(gradient_of(state, batch), gradient_of(sam, batch), 1e-5)


# ---- whole runs --------------------------------------------------------------------------------


def weights_after(optimizer: str, **knobs: Any) -> list[Tensor]:
    config = make_config(optimizer=optimizer, mix="mixup", weights="inverse", epochs=2, **knobs)
    return [weight.detach() for weight in trained(config).model.parameters()]


def test_runs_meet_where_their_methods_do() -> None:
    sgd, sam = weights_after("sgd"), weights_after("sam", optimizer__rho=0.3)
    assert not close(sam, sgd, 1e-2)
    assert close(weights_after("sam", optimizer__rho=0.0), sgd, 1e-3)
    for rho in (0.0, 0.3):  # no class is rare, or ρ is nothing
        below = 1 if rho else 7
        knobs = {"optimizer__rho": rho, "optimizer__below": below}
        assert close(weights_after("imbsam", **knobs), sgd, 1e-3)
    all_rare = {"optimizer__rho": 0.3, "optimizer__below": 61}
    assert same(weights_after("imbsam", **all_rare), sam)


def test_a_sharp_step_passes_every_image_twice() -> None:
    for optimizer, passes in (("sgd", 90), ("sam", 180), ("imbsam", 180)):
        state = state_of(optimizer)
        train(state, trunk(0, 1, 5, Phases()))
        assert state.passes == passes


def test_nothing_is_left_of_a_gradient_between_steps() -> None:
    state = state_of("imbsam", optimizer__below=7)
    train(state, trunk(0, 1, 5, Phases()))
    assert all(w.grad is None for w in state.model.parameters())
    assert all(bool(tensor.isfinite().all()) for tensor in everything(state))


def test_batches_without_the_rare_class_stay_finite() -> None:
    """The sharp part's gradient is nothing there, and nothing to divide by."""
    data = DeviceData(make_splits([30, 1]), CPU)
    config = make_config(optimizer="imbsam", optimizer__below=2, batch_size=4)
    state = TrainState(config, data)
    losses = train(state, trunk(0, 1, 5, Phases()), data)
    assert all(loss == loss for loss in losses)
    assert all(bool(tensor.isfinite().all()) for tensor in everything(state))
