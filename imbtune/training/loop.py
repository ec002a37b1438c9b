"""The training loop.

    data = DeviceData(splits, device)
    state = TrainState(config, data)
    for epoch in whole_run(config.epochs, config.schedule.shared):
        train_epoch(state, data, epoch)
    confusion_KK = state.evaluate(data)

Shapes: B a batch, K classes, S steps of an epoch, N training images, D features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from imbtune.config.train_config import TrainConfig
from imbtune.errors import DivergenceError, diverging_at
from imbtune.methods.image_generation import DeepSmote, M2m
from imbtune.methods.losses import cloud_noise
from imbtune.methods.mixing.blending import blend_images
from imbtune.training.cost.image_passes import epoch_passes, seed_config
from imbtune.training.device.device_data import DeviceData
from imbtune.training.device.neighbours import Neighbours
from imbtune.training.epoch_plan import EpochPlan, draw_epoch
from imbtune.training.evaluation.margins import example_margins
from imbtune.training.generators.deepsmote import generate
from imbtune.training.generators.deepsmote import passes as deepsmote_passes
from imbtune.training.generators.m2m import image_noise, translate
from imbtune.training.phases import Epoch, whole_run
from imbtune.training.state import STEPS, TrainState, seed_epoch
from imbtune.training.step import Batch


@dataclass(frozen=True, eq=False)
class EpochLog:
    """Learning rate and losses of one epoch.

    Attributes:
        lr: the learning rate of its last step.
        losses_S: the loss of each step, on the device.
    """

    lr: float
    losses_S: Tensor

    @cached_property
    def loss(self) -> float:
        """The mean loss of its steps. The first read synchronises with the device."""
        return self.losses_S.mean().item()

    @property
    def failure(self) -> str | None:
        """What is wrong if the loss is not finite, in words; else None. Reads `loss`."""
        return None if math.isfinite(self.loss) else f"the loss is not finite ({self.loss})"

    def check(self) -> None:
        """Raise DivergenceError if the loss is not finite."""
        if self.failure:
            raise DivergenceError(self.failure)


def train_epoch(state: TrainState, data: DeviceData, epoch: Epoch) -> EpochLog:
    """Train one epoch. Asynchronous on a GPU: reading `.loss` of the result synchronises."""
    data, seed_state = _with_generated(state, data, epoch)
    noise = seed_epoch(state, (state.config.seed, STEPS, *epoch.random_key()))
    images = LocatedImages(state, data)
    plan = draw_epoch(state.methods, data, images, epoch, translates=seed_state is not None)
    state.workers.take_from_first(plan.tensors())
    losses_S = torch.empty(len(plan.lr_S), device=state.device)
    for step, batch in enumerate(batches(state, data, plan, seed_state, noise)):
        losses_S[step] = state.gradient(batch)
        _set_rates(state.optimizer, plan.lr_S[step])
        state.optimizer.step()
        state.optimizer.zero_grad()
        if state.average:
            state.average.update()
    state.workers.check_same_weights(list(state.model.parameters()))
    state.passes += _passes(state, data, seed_state)
    return EpochLog(plan.last_lr, losses_S)


def _set_rates(optimizer: Optimizer, lr: Tensor) -> None:
    """Give every group of parameters its learning rate: `lr`, times the group's `lr_factor`."""
    for group in optimizer.param_groups:
        factor = group.get("lr_factor")
        group["lr"].copy_(lr if factor is None else lr * factor)


def batches(
    state: TrainState,
    data: DeviceData,
    plan: EpochPlan,
    seed_state: TrainState | None = None,
    noise: torch.Generator | None = None,
) -> Iterator[Batch]:
    """Build the batch of each step: cropped, flipped, translated by M2m, mixed.

    Of several workers, each builds its part; the divisor is that of the whole batch.

    Args:
        state: the run, for its methods; M2m also needs its network.
        data: the images.
        plan: the draws of the epoch.
        seed_state: M2m's seed network; None where nothing is translated.
        noise: draws GCL's and M2m's noise; None for torch's global generator.
    """
    labels_SLB, shares_SLB, norm_S = _targets(state, data, plan)
    batch = plan.image.index_SB.shape[1]
    part = state.workers.part(batch)
    plan = plan.part(part)
    partner, source = plan.partner, plan.source
    others = data.views(partner) if partner else repeat(None)
    sources = data.views(source) if source else repeat(None)
    for step, (images, other, source_images) in enumerate(
        zip(data.views(plan.image), others, sources, strict=False)
    ):
        if source_images is not None and seed_state:
            shape = (batch, *data.image_shape)
            noise_BCHW = image_noise(shape, data.device, noise)[part]
            images = _translated(
                state, seed_state, data, plan, step, images, source_images, noise_BCHW
            )
        if other is not None and plan.lam_SB is not None:
            box_B4 = None if plan.box_SB4 is None else plan.box_SB4[step]
            images = blend_images(images, other, plan.lam_SB[step], box_B4)
        noise_BK = None
        if state.methods.is_noisy:
            noise_BK = cloud_noise((batch, len(data.classes)), data.device, noise)[part]
        labels_LB, shares_LB = labels_SLB[step, :, part], shares_SLB[step, :, part]
        yield Batch(images, labels_LB, shares_LB, norm_S[step], noise_BK)


def _targets(state: TrainState, data: DeviceData, plan: EpochPlan) -> tuple[Tensor, Tensor, Tensor]:
    """Labels (S, L, B), shares (S, L, B) and norm (S,) of :class:`Batch`, for all steps at once."""
    labels_SB, weights_SK = data.labels_N[plan.image.index_SB], plan.weights_SK
    if plan.partner is None or plan.lam_SB is None or state.methods.mix is None:
        labels_SLB = labels_SB[:, None]
        g_SLB = torch.ones((), device=data.device)
    else:
        labels_SLB = torch.stack([labels_SB, data.labels_N[plan.partner.index_SB]], dim=1)
        n_i, n_j = (data.train_counts_K[labels.flatten()] for labels in labels_SLB.unbind(1))
        g_SB = state.methods.mix.label(plan.lam_SB.flatten(), n_i, n_j).view_as(labels_SB)
        g_SLB = torch.stack([g_SB, 1 - g_SB], dim=1)
    weights_SLB = weights_SK.gather(1, labels_SLB.flatten(1)).view_as(labels_SLB)
    shares_SLB = g_SLB * weights_SLB
    # Sum over a sample's labels first: shares of a class weight of 1 then sum to exactly B.
    norm_S = shares_SLB.sum(1).sum(1)
    reduction = state.methods.weight_options.reduction
    if reduction == "mean":
        norm_S = torch.full_like(norm_S, labels_SLB.shape[2])
    elif reduction == "weighted_mean_per_label":
        # scaled so that the divisor is B, whose gradient is that of dividing each label's side
        shares_SLB = shares_SLB / weights_SLB.mean(2, keepdim=True)
        norm_S = torch.full_like(norm_S, labels_SLB.shape[2])
    return labels_SLB, shares_SLB, norm_S


class LocatedImages:
    """Labels and nearest neighbours of the training images, for pairings.

    Distances in feature space use the network's current weights; features are computed once per
    object, when first needed. Implements :class:`imbtune.methods.mixing.pairing.TrainingImages`.
    """

    def __init__(self, state: TrainState, data: DeviceData) -> None:
        self._state, self._data = state, data
        self._by_features: Neighbours | None = None

    @property
    def host_labels_N(self) -> NDArray[np.int64]:
        """The class of each training image, on the host."""
        return self._data.host_labels_N

    def nearest(
        self, k: int, same_class: bool, space: str
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The k nearest of each image, nearest first (N, k), and how many of them exist (N,).

        Args:
            k: at least 1.
            same_class: whether only images of the same class count.
            space: `pixels` or `features`.
        """
        if space == "pixels":
            return self._data.neighbours.nearest(k, same_class)
        if self._by_features is None:
            features_ND = self._state.features(self._data)
            self._by_features = Neighbours(features_ND, self._data.labels_N)
        return self._by_features.nearest(k, same_class)


def _with_generated(
    state: TrainState, data: DeviceData, epoch: Epoch
) -> tuple[DeviceData, TrainState | None]:
    """The epoch's data, DeepSMOTE's images added, and M2m's seed network.

    The data unchanged and None where the epoch uses no generator.
    """
    if not state.methods.generates_in(epoch):
        return data, None
    spec, seed = state.methods.generator, state.methods.generator_options.seed
    if isinstance(spec, DeepSmote):
        state.add_passes_once(f"{spec} {seed}", deepsmote_passes(spec, len(data.labels_N)))
        balanced = data.cached("deepsmote", (spec, seed), lambda: _balanced(spec, data, seed))
        return balanced, None
    assert isinstance(spec, M2m)
    config = seed_config(state.config, spec, epoch.full)
    seed_state = data.cached("m2m", config.yaml(), lambda: _seed_network(config, data))
    state.add_passes_once(config.yaml(), seed_state.passes)
    return data, seed_state


def _balanced(spec: DeepSmote, data: DeviceData, seed: int) -> DeviceData:
    """The data with DeepSMOTE's images added until all classes are as large as the largest."""
    pixels_NCHW = data.resident("generate=deepsmote")
    generated = generate(spec, pixels_NCHW, data.labels_N, len(data.classes), seed)
    data.workers.take_from_first(generated)
    return data.extended(*generated)


def _seed_network(config: TrainConfig, data: DeviceData) -> TrainState:
    """M2m's seed network: `config` trained on the training images."""
    seed_state = TrainState(config, data)
    for epoch in whole_run(config.epochs, config.schedule.shared):
        with diverging_at(f"generate=m2m: epoch {epoch.index + 1} of the seed network"):
            train_epoch(seed_state, data, epoch).check()
    with diverging_at("generate=m2m: the seed network"):
        example_margins(seed_state, data, data.train, data.labels_N)  # checks the logits
    return seed_state


def _passes(state: TrainState, data: DeviceData, seed_state: TrainState | None) -> int:
    """Image passes of an epoch; M2m's are counted where there is a seed network."""
    spec = state.methods.generator if seed_state else None
    m2m = spec if isinstance(spec, M2m) else None
    sharpness_aware = state.sharpness_aware is not None
    return epoch_passes(len(data.labels_N), state.config.batch_size, sharpness_aware, m2m)


def _translated(
    state: TrainState,
    seed_state: TrainState,
    data: DeviceData,
    plan: EpochPlan,
    step: int,
    images_BCHW: Tensor,
    sources_BCHW: Tensor,
    noise_BCHW: Tensor,
) -> Tensor:
    """The batch with M2m's translations in it.

    A source replaces the batch's image where `plan.translate_SB` says so and the translation is
    accepted.
    """
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
            noise_BCHW,
            net_scale=state.methods.vectors.scale,
            seed_scale=seed_state.methods.vectors.scale,
        )
    return translated_BCHW
