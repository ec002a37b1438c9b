"""The training loop.

    data = DeviceData(splits, device)
    state = TrainState(config, data)
    for epoch in whole_run(config.epochs, config.schedule.shared):
        train_epoch(state, data, epoch)
    confusion_KK = state.evaluate(data)

Shapes: B a batch, K classes, S steps of an epoch, N training images, D features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbtune.config.train_config import TrainConfig
from imbtune.methods.image_generation import DeepSmote, M2m
from imbtune.methods.losses import cloud_noise
from imbtune.methods.mixing.blending import blend_images
from imbtune.training.cost.image_passes import epoch_passes, seed_config
from imbtune.training.device.device_data import DeviceData
from imbtune.training.device.neighbours import Neighbours
from imbtune.training.epoch_plan import EpochPlan, draw_epoch
from imbtune.training.generators.deepsmote import generate
from imbtune.training.generators.deepsmote import passes as deepsmote_passes
from imbtune.training.generators.m2m import translate
from imbtune.training.phases import Epoch, whole_run
from imbtune.training.state import STEPS, TrainState, seed_torch
from imbtune.training.step import Batch


@dataclass(frozen=True, eq=False)
class EpochLog:
    """An epoch's last learning rate, and its mean loss, of which to read the first time waits for
    the device; losses_S: of its steps."""

    lr: float
    losses_S: Tensor

    @cached_property
    def loss(self) -> float:
        return self.losses_S.mean().item()


def train_epoch(state: TrainState, data: DeviceData, epoch: Epoch) -> EpochLog:
    """Train one epoch. On a GPU it is only launched: what is read of it waits."""
    data, seed_state = _with_generated(state, data, epoch)
    seed_torch(state.config.seed, STEPS, *epoch.random_key())
    images = LocatedImages(state, data)
    plan = draw_epoch(state.methods, data, images, epoch, translates=seed_state is not None)
    (rate,) = {id(group["lr"]): group["lr"] for group in state.optimizer.param_groups}.values()
    losses_S = torch.empty(len(plan.lr_S), device=state.device)
    for step, batch in enumerate(batches(state, data, plan, seed_state)):
        losses_S[step] = state.gradient(batch)
        rate.copy_(plan.lr_S[step])
        state.optimizer.step()
        state.optimizer.zero_grad()
    state.passes += _passes(state, data, seed_state)
    return EpochLog(plan.last_lr, losses_S)


def batches(
    state: TrainState, data: DeviceData, plan: EpochPlan, seed_state: TrainState | None = None
) -> Iterator[Batch]:
    """The batch of each step: cropped, flipped, translated, mixed."""
    targets = _targets(state, data, plan)
    shape_BK = (plan.image.index_SB.shape[1], len(data.classes))
    partner, source = plan.partner, plan.source
    others = data.views(partner) if partner else repeat(None)
    sources = data.views(source) if source else repeat(None)
    for step, (images, other, seen) in enumerate(
        zip(data.views(plan.image), others, sources, strict=False)
    ):
        if seen is not None and seed_state:
            images = _translated(state, seed_state, data, plan, step, images, seen)
        if other is not None and plan.lam_SB is not None:
            box_B4 = None if plan.box_SB4 is None else plan.box_SB4[step]
            images = blend_images(images, other, plan.lam_SB[step], box_B4)
        noise_BK = cloud_noise(shape_BK, data.device) if state.methods.is_noisy else None
        labels_LB, shares_LB, norm = (of_all[step] for of_all in targets)
        yield Batch(images, labels_LB, shares_LB, norm, noise_BK)


def _targets(state: TrainState, data: DeviceData, plan: EpochPlan) -> tuple[Tensor, Tensor, Tensor]:
    """Labels (S, L, B), shares (S, L, B) and norm (S,) of :class:`Batch`, of all steps at once."""
    labels_SB, weights_SK = data.labels_N[plan.image.index_SB], plan.weights_SK
    if plan.partner is None or plan.lam_SB is None or state.methods.mix is None:
        labels_SLB = labels_SB[:, None]
        g_SLB = torch.ones((), device=data.device)
    else:
        labels_SLB = torch.stack([labels_SB, data.labels_N[plan.partner.index_SB]], dim=1)
        n_i, n_j = (data.train_counts_K[each_SB.flatten()] for each_SB in labels_SLB.unbind(1))
        g_SB = state.methods.mix.label(plan.lam_SB.flatten(), n_i, n_j).view_as(labels_SB)
        g_SLB = torch.stack([g_SB, 1 - g_SB], dim=1)
    shares_SLB = g_SLB * weights_SK.gather(1, labels_SLB.flatten(1)).view_as(labels_SLB)
    # an image's shares first: they add up to its weight exactly, so that weights of 1 give B
    norm_S = shares_SLB.sum(1).sum(1)
    return (
        labels_SLB,
        shares_SLB,
        torch.full_like(norm_S, labels_SLB.shape[2])
        if state.methods.weight_options.reduction == "mean"
        else norm_S,
    )


class LocatedImages:
    """The training images as a pairing sees them. Features are those of now, worked out once."""

    def __init__(self, state: TrainState, data: DeviceData) -> None:
        self._state, self._data = state, data
        self._by_features: Neighbours | None = None

    @property
    def host_labels_N(self) -> NDArray[np.int64]:
        return self._data.host_labels_N

    def nearest(
        self, k: int, same_class: bool, space: str
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if space == "pixels":
            return self._data.neighbours.nearest(k, same_class)
        if self._by_features is None:
            features_ND = self._state.features(self._data)
            self._by_features = Neighbours(features_ND, self._data.labels_N)
        return self._by_features.nearest(k, same_class)


def _with_generated(
    state: TrainState, data: DeviceData, epoch: Epoch
) -> tuple[DeviceData, TrainState | None]:
    """The data with DeepSMOTE's images, and M2m's seed network; each where it acts."""
    if not state.methods.generates_in(epoch):
        return data, None
    spec, seed = state.methods.generator, state.methods.generator_options.seed
    if isinstance(spec, DeepSmote):
        state.charge(f"{spec} {seed}", deepsmote_passes(spec, len(data.labels_N)))
        return data.keep("deepsmote", (spec, seed), lambda: _balanced(spec, data, seed)), None
    assert isinstance(spec, M2m)
    config = seed_config(state.config, spec, epoch.full)
    seed_state = data.keep("m2m", config.yaml(), lambda: _seed_network(config, data))
    state.charge(config.yaml(), seed_state.passes)
    return data, seed_state


def _balanced(spec: DeepSmote, data: DeviceData, seed: int) -> DeviceData:
    pixels_NCHW = data.resident("generate=deepsmote")
    return data.extended(*generate(spec, pixels_NCHW, data.labels_N, len(data.classes), seed))


def _seed_network(config: TrainConfig, data: DeviceData) -> TrainState:
    """A network of the same kind, trained with cross-entropy alone on the training images."""
    seed_state = TrainState(config, data)
    for epoch in whole_run(config.epochs, config.schedule.shared):
        train_epoch(seed_state, data, epoch)
    return seed_state


def _passes(state: TrainState, data: DeviceData, seed_state: TrainState | None) -> int:
    spec = state.methods.generator if seed_state else None
    m2m = spec if isinstance(spec, M2m) else None
    images, sharp = len(data.labels_N), state.sharp is not None
    return epoch_passes(images, state.config.batch_size, sharp, m2m)


def _translated(
    state: TrainState,
    seed_state: TrainState,
    data: DeviceData,
    plan: EpochPlan,
    step: int,
    images_BCHW: Tensor,
    sources_BCHW: Tensor,
) -> Tensor:
    """M2m: sources translated to the batch's classes where asked for and accepted."""
    spec = state.methods.generator
    assert isinstance(spec, M2m) and plan.source and plan.translate_SB is not None
    low_C, high_C = data.pixel_range()
    with state.autocast:
        translated_BCHW, _ = translate(
            state.model,
            seed_state.model,
            sources_BCHW,
            data.labels_N[plan.source.index_SB[step]],
            data.labels_N[plan.image.index_SB[step]],
            plan.translate_SB[step],
            images_BCHW,
            spec,
            low_C,
            high_C,
            net_scale=state.methods.vectors.scale,
            seed_scale=seed_state.methods.vectors.scale,
        )
    return translated_BCHW
