"""The training loop.

    data = DeviceData(splits, device)
    state = TrainState(config, data)
    for epoch in whole_run(config.epochs, config.schedule.shared):
        train_epoch(state, data, epoch)
    confusion_KK = state.evaluate(data)

Shapes: B a batch, K classes, S steps of an epoch, N training images, D features.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbtune.config import TrainConfig
from imbtune.methods.blending import blend_images
from imbtune.methods.generating import DeepSmote, M2m
from imbtune.methods.losses import LossFunction, MarginSoftmax, ce
from imbtune.methods.mixing import Mix
from imbtune.methods.optimizers import Sharpness
from imbtune.training.batch import Batch, gradient
from imbtune.training.deepsmote import generate
from imbtune.training.deepsmote import passes as deepsmote_passes
from imbtune.training.device_data import BLOCK, DeviceData
from imbtune.training.m2m import translate
from imbtune.training.metrics import evaluate
from imbtune.training.model import evaluating, new_model
from imbtune.training.neighbours import Neighbours
from imbtune.training.passes import epoch_passes, seed_config
from imbtune.training.plan import EpochPlan, Methods, draw_epoch
from imbtune.training.progress import Epoch, whole_run

INIT, STEPS, HEAD = 0, 1, 2  # streams of torch's generator that a run's seed starts


class TrainState:
    """A model in training: its weights, its optimiser, and its methods as tensors.

    Args:
        config: the run. Its knobs become tensors here: the loss's per-class vectors, the class
            weights; no step reads the configuration.
        data: decides channels, classes, class counts and the device.
    """

    def __init__(self, config: TrainConfig, data: DeviceData) -> None:
        self.device = data.device
        seed_torch(config.seed, INIT)
        model = new_model(config, data.image_shape[0], len(data.classes))
        self.model = model.to(self.device).to(memory_format=torch.channels_last)
        self.optimizer = config.optimizer.make(list(self.model.parameters()))
        self.autocast = _autocast(config.precision, self.device)
        self.passes = 0  # image passes (forward and backward) so far, helper networks' included
        self._charged: set[str] = set()
        self._take(config, data)
        self._aim(getattr(self.optimizer, "sharpness", None), data)

    def _take(self, config: TrainConfig, data: DeviceData) -> None:
        """Train with the methods of `config` from here on."""
        self.config = config
        self.mix: Mix | None = config.mix.make()
        self.generate: DeepSmote | M2m | None = config.generate.make()
        self.vectors: MarginSoftmax = ce(data.train_counts_K)
        self.own_loss: LossFunction | None = None  # of the user's, in the place of the vectors
        loss = config.loss.make(data.train_counts_K)
        if isinstance(loss, MarginSoftmax):
            self.vectors = loss
        else:
            self.own_loss = loss
        self.weights_K: Tensor = config.weights.make(data.train_counts_K)
        self.mean_loss = config.weights.shared.reduction == "mean"

    def _aim(self, sharpness: Sharpness | None, data: DeviceData) -> None:
        """The classes (1) whose gradient is sharpness-aware, how far ρ is, and whether others are
        left; None where the optimiser does not ask for it."""
        self.sharp_K: Tensor | None = None
        self.rho, self.has_rest = 0.0, False
        if sharpness:
            self.sharp_K = (data.train_counts_K < sharpness.below).float()
            self.rho, self.has_rest = sharpness.rho, bool((data.counts_K >= sharpness.below).any())

    def charge(self, made: str, passes: int) -> None:
        """Count what generated images cost, once a run for each `made`, whoever made it."""
        self.passes += 0 if made in self._charged else passes
        self._charged.add(made)

    def logits(self, images_BCHW: Tensor) -> Tensor:
        """The model's float32 logits (B, K) of normalised images."""
        with self.autocast:
            logits_BK: Tensor = self.model(_channels_last(images_BCHW))
        return logits_BK.float()

    def features(self, data: DeviceData) -> Tensor:
        """The backbone's features (N, D) of all training images, without augmentation."""
        with evaluating(self.model), torch.no_grad(), self.autocast:
            blocks = [
                self.model.backbone(_channels_last(data.normalise(pixels))).float()
                for pixels in data.train.in_order(BLOCK)
            ]
        return torch.cat(blocks)

    def evaluate(self, data: DeviceData) -> NDArray[np.int64]:
        """The confusion matrix (K, K) on the held-out images."""
        return evaluate(self.model, data, self.autocast)

    def generates_in(self, epoch: Epoch) -> bool:
        """Whether images are generated in an epoch."""
        always = self.config.generate.shared.schedule == "always"
        return self.generate is not None and bool(always or epoch.cooling)

    @contextmanager
    def kept(self, config: TrainConfig, data: DeviceData) -> Iterator[None]:
        """Train with the methods of `config`; what is trained inside is undone at the end, to the
        last bit. Only the passes stay counted."""
        names = dict(vars(self))
        before = copy.deepcopy(self.snapshot())
        try:
            self._take(config, data)
            yield
        finally:
            passes = self.passes
            vars(self).update(names)
            self.restore({**before, "passes": passes})

    def snapshot(self) -> dict[str, Any]:
        """Weights, batch-norm statistics, the optimiser and the passes: all that a trunk goes on
        from, since every draw follows from the seed and the epoch alone."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "passes": self.passes,
            "charged": sorted(self._charged),
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on from a snapshot of a state of the same configuration."""
        self.model.load_state_dict(snapshot["model"])
        self.optimizer.load_state_dict(snapshot["optimizer"])
        self.passes = snapshot["passes"]
        self._charged |= set(snapshot["charged"])


class EpochLog(NamedTuple):
    """An epoch's last learning rate, and the mean loss of its steps."""

    lr: float
    loss: float


def train_epoch(state: TrainState, data: DeviceData, epoch: Epoch) -> EpochLog:
    """Train one epoch. The device is waited for once, at the end."""
    data, seed_state = _with_generated(state, data, epoch)
    seed_torch(state.config.seed, STEPS, *epoch.random_key())
    plan = draw_epoch(state.config, data, _methods(state, data, seed_state), epoch)
    (rate,) = {id(group["lr"]): group["lr"] for group in state.optimizer.param_groups}.values()
    losses_S = torch.empty(len(plan.lr_S), device=state.device)
    for step, batch in enumerate(batches(state, data, plan, seed_state)):
        losses_S[step] = gradient(state, batch)
        rate.copy_(plan.lr_S[step])
        state.optimizer.step()
        state.optimizer.zero_grad()
    state.passes += _passes(state, data, seed_state)
    return EpochLog(rate.item(), losses_S.mean().item())


def batches(
    state: TrainState, data: DeviceData, plan: EpochPlan, seed_state: TrainState | None = None
) -> Iterator[Batch]:
    """The batch of each step: cropped, flipped, translated, mixed."""
    targets = _targets(state, data, plan)
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
        yield Batch(images, *(of_all[step] for of_all in targets))


def pick_device() -> torch.device:
    """The first GPU that this process may use, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seed_torch(*key: int) -> None:
    """Start torch's own generators (weights, dropout) from a key of whole numbers.

    `torch.manual_seed` would keep a traceback of every call until CUDA starts, which is never in a
    process without a GPU: memory that grows, and 0.5 ms an epoch.
    """
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


def _targets(state: TrainState, data: DeviceData, plan: EpochPlan) -> tuple[Tensor, Tensor, Tensor]:
    """Labels (S, L, B), shares (S, L, B) and norm (S,) of :class:`Batch`, of all steps at once."""
    labels_SB, weights_SK = data.labels_N[plan.image.index_SB], plan.weights_SK
    if plan.partner is None or plan.lam_SB is None or state.mix is None:
        labels_SLB = labels_SB[:, None]
        g_SLB = torch.ones((), device=data.device)
    else:
        labels_SLB = torch.stack([labels_SB, data.labels_N[plan.partner.index_SB]], dim=1)
        n_i, n_j = (data.train_counts_K[each_SB.flatten()] for each_SB in labels_SLB.unbind(1))
        g_SB = state.mix.label(plan.lam_SB.flatten(), n_i, n_j).view_as(labels_SB)
        g_SLB = torch.stack([g_SB, 1 - g_SB], dim=1)
    shares_SLB = g_SLB * weights_SK.gather(1, labels_SLB.flatten(1)).view_as(labels_SLB)
    # an image's shares first: they add up to its weight exactly, so that weights of 1 give B
    norm_S = shares_SLB.sum(1).sum(1)
    return (
        labels_SLB,
        shares_SLB,
        torch.full_like(norm_S, labels_SLB.shape[2]) if state.mean_loss else norm_S,
    )


class _Located:
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
    if not state.generates_in(epoch):
        return data, None
    spec, seed = state.generate, state.config.generate.shared.seed
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


def _methods(state: TrainState, data: DeviceData, seed_state: TrainState | None) -> Methods:
    spec = state.generate if seed_state else None
    beta = spec.beta if isinstance(spec, M2m) else None
    return Methods(state.mix, state.weights_K, _Located(state, data), beta)


def _passes(state: TrainState, data: DeviceData, seed_state: TrainState | None) -> int:
    spec = state.generate if seed_state else None
    m2m = spec if isinstance(spec, M2m) else None
    images, sharp = len(data.labels_N), state.sharp_K is not None
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
    assert isinstance(state.generate, M2m) and plan.source and plan.translate_SB is not None
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
            state.generate,
            low_C,
            high_C,
            net_scale=state.vectors.scale,
            seed_scale=seed_state.vectors.scale,
        )
    return translated_BCHW


def _channels_last(images_BCHW: Tensor) -> Tensor:
    return images_BCHW.contiguous(memory_format=torch.channels_last)


def _autocast(precision: str, device: torch.device) -> torch.autocast:
    wanted = _has_bfloat16(device) if precision == "auto" else precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
