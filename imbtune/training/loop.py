"""The training loop.

    data = DeviceData(splits, device)
    state = TrainState(config, data)
    for epoch in whole_run(config.epochs, config.schedule.shared):
        train_epoch(state, data, epoch)
    confusion_KK = state.evaluate(data)

Shapes: B a batch, K classes, S steps of an epoch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbtune.config import TrainConfig
from imbtune.methods.losses import MarginSoftmax, margin_softmax
from imbtune.methods.mixing import Mix, blend_images
from imbtune.training.device_data import DeviceData
from imbtune.training.metrics import evaluate
from imbtune.training.model import new_model
from imbtune.training.plan import EpochPlan, draw_epoch, steps_per_epoch
from imbtune.training.progress import Epoch, Stretch

INIT, DROPOUT = 0, 1  # streams of torch's generator that a run's seed starts


class TrainState:
    """A model in training: its weights, its optimiser, and its methods as tensors.

    Args:
        config: the run. Its knobs become tensors here: the loss's per-class vectors, the class
            weights; no step reads the configuration.
        data: decides channels, classes, class counts and the device.
    """

    def __init__(self, config: TrainConfig, data: DeviceData) -> None:
        self.config, self.device = config, data.device
        _seed_torch(config.seed, INIT)
        model = new_model(config, data.images_NCHW.shape[1], len(data.classes))
        self.model = model.to(self.device).to(memory_format=torch.channels_last)
        self.optimizer = config.optimizer.make(list(self.model.parameters()))
        self.mix: Mix | None = config.mix.make()
        self.vectors: MarginSoftmax = config.loss.make(data.train_counts_K)
        self.weights_K: Tensor = config.weights.make(data.train_counts_K)
        self.mean_loss = config.weights.shared.reduction == "mean"
        self.autocast = _autocast(config.precision, self.device)

    def evaluate(self, data: DeviceData) -> NDArray[np.int64]:
        """The confusion matrix (K, K) on the held-out images."""
        return evaluate(self.model, data, self.autocast)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Whatever is trained inside is undone at the end, to the last bit."""
        model = copy.deepcopy(self.model.state_dict())
        optimizer = copy.deepcopy(self.optimizer.state_dict())
        try:
            yield
        finally:
            self.model.load_state_dict(model)
            self.optimizer.load_state_dict(optimizer)


def train_epoch(state: TrainState, data: DeviceData, epoch: Epoch) -> tuple[float, float]:
    """Train one epoch; the last step's learning rate, and the mean loss of its steps.

    The device is waited for once, at the end.
    """
    _seed_torch(state.config.seed, DROPOUT, *epoch.random_key())
    plan = draw_epoch(state.config, data, state.mix, state.weights_K, epoch)
    (rate,) = {id(group["lr"]): group["lr"] for group in state.optimizer.param_groups}.values()
    losses_S = torch.empty(len(plan.lr_S), device=state.device)
    for step in range(len(plan.lr_S)):
        images_BCHW, labels_B, partners_B, a_B, b_B = batch(state, data, plan, step)
        with state.autocast:
            logits_BK = state.model(images_BCHW)
        loss = objective(logits_BK.float(), labels_B, partners_B, a_B, b_B, state)
        loss.backward()
        rate.copy_(plan.lr_S[step])
        state.optimizer.step()
        state.optimizer.zero_grad()
        losses_S[step] = loss.detach()
    return rate.item(), losses_S.mean().item()


def batch(
    state: TrainState, data: DeviceData, plan: EpochPlan, step: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """One step's input: mixed images, the labels of x_i and x_j, and the weights a, b of each.

    a = g·w[y_i], b = (1-g)·w[y_j], with g the label rule's share of y_i and w the class weights.
    """
    weights_K = plan.weights_SK[step]
    images_BCHW, labels_B = _look_up(data, plan.image, step)
    if plan.partner is None or plan.lam_SB is None or state.mix is None:
        a_B = weights_K[labels_B]
        return _channels_last(images_BCHW), labels_B, labels_B, a_B, torch.zeros_like(a_B)
    others_BCHW, partners_B = _look_up(data, plan.partner, step)
    lam_B = plan.lam_SB[step]
    box_B4 = None if plan.box_SB4 is None else plan.box_SB4[step]
    mixed_BCHW = blend_images(images_BCHW, others_BCHW, lam_B, box_B4)
    counts_K = data.train_counts_K
    g_B = state.mix.label(lam_B, counts_K[labels_B], counts_K[partners_B])
    a_B, b_B = g_B * weights_K[labels_B], (1 - g_B) * weights_K[partners_B]
    return _channels_last(mixed_BCHW), labels_B, partners_B, a_B, b_B


def objective(
    logits_BK: Tensor,
    labels_B: Tensor,
    partners_B: Tensor,
    a_B: Tensor,
    b_B: Tensor,
    state: TrainState,
) -> Tensor:
    """The mixed label as two hard ones: Σ(a·ℓ(z, y_i) + b·ℓ(z, y_j)), over Σ(a + b) or over B."""
    loss_i_B = margin_softmax(logits_BK, labels_B, state.vectors)
    loss_j_B = margin_softmax(logits_BK, partners_B, state.vectors)
    total = (a_B * loss_i_B + b_B * loss_j_B).sum()
    return total / (len(a_B) if state.mean_loss else (a_B + b_B).sum())


@dataclass(frozen=True)
class EpochResult:
    """What an epoch left: the learning rate of its last step, its mean training loss, and the
    confusion matrix after it."""

    epoch: Epoch
    lr: float
    loss: float
    confusion_KK: NDArray[np.int64]
    images: int  # image passes trained in it


@dataclass(frozen=True)
class RungResult:
    """A rung reached: the model scored there is a finished one of `stretch.budget` epochs."""

    stretch: Stretch
    confusion_KK: NDArray[np.int64]


def climb(
    config: TrainConfig, data: DeviceData, path: list[Stretch]
) -> Iterator[EpochResult | RungResult]:
    """Train a trial along its path: a result for every epoch, and one for every rung."""
    for stretch in path:
        if stretch.fresh:
            state = TrainState(config, data)
        for result in _train(state, data, stretch.epochs):
            yield result
        if stretch.branch:
            with state.kept():
                for result in _train(state, data, stretch.branch):
                    yield result
        yield RungResult(stretch, result.confusion_KK)


def _train(state: TrainState, data: DeviceData, epochs: tuple[Epoch, ...]) -> Iterator[EpochResult]:
    for epoch in epochs:
        lr, loss = train_epoch(state, data, epoch)
        steps, batch_size = steps_per_epoch(len(data.labels_N), state.config.batch_size)
        yield EpochResult(epoch, lr, loss, state.evaluate(data), steps * batch_size)


def pick_device() -> torch.device:
    """The first GPU that this process may use, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _look_up(data: DeviceData, views: Any, step: int) -> tuple[Tensor, Tensor]:
    index_B = views.index_SB[step]
    shift_B2 = None if views.shift_SB2 is None else views.shift_SB2[step]
    flip_B = None if views.flip_SB is None else views.flip_SB[step]
    return data.view(index_B, shift_B2, flip_B), data.labels_N[index_B]


def _channels_last(images_BCHW: Tensor) -> Tensor:
    return images_BCHW.contiguous(memory_format=torch.channels_last)


def _seed_torch(*key: int) -> None:
    """Start torch's own generators (weights, dropout) from a key of whole numbers."""
    torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))


def _autocast(precision: str, device: torch.device) -> torch.autocast:
    wanted = _has_bfloat16(device) if precision == "auto" else precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
