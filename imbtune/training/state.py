"""A run in training: its network, its optimiser, its methods; and torch's random numbers.

Shapes: K classes, N training images, D features.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbtune.config.train_config import TrainConfig
from imbtune.methods.image_generation import DeepSmote, M2m
from imbtune.methods.losses import LossFunction, MarginSoftmax, ce
from imbtune.methods.mixing.mix import Mix
from imbtune.methods.optimizers import Sharpness
from imbtune.training.device.cuda_graphs import GraphedModel
from imbtune.training.device.device_data import BLOCK, DeviceData
from imbtune.training.evaluation.metrics import confusion
from imbtune.training.model import evaluating, new_model
from imbtune.training.phases import Epoch
from imbtune.training.step import Batch, Learner, Sharp, channels_last, gradient

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
        self.graphed = self._lease(config, data)
        self.optimizer = config.optimizer.make(list(self.model.parameters()))
        self.autocast = _autocast(config.precision, self.device)
        self.passes = 0  # image passes (forward and backward) so far, helper networks' included
        self._charged: set[str] = set()
        self._take(config, data)
        self._aim(getattr(self.optimizer, "sharpness", None), data)

    def _lease(self, config: TrainConfig, data: DeviceData) -> GraphedModel | None:
        """Where steps are recorded, a bench until this state is gone; its network is the model."""
        if not (data.graphed_models and config.cuda_graph and config.model.part.is_builtin):
            return None
        kind = f"{config.model} {config.loss_head} {data.image_shape} {len(data.classes)}"
        bench = data.graphed_models.lease(kind, self.model)
        weakref.finalize(self, data.graphed_models.give_back, kind, bench)
        self.model = bench.model
        return bench

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
        self.is_noisy = bool((self.vectors.cloud_K != 0).any())
        self.weights_K: Tensor = config.weights.make(data.train_counts_K)
        self.mean_loss = config.weights.shared.reduction == "mean"

    def _aim(self, sharpness: Sharpness | None, data: DeviceData) -> None:
        """The classes whose gradient is sharpness-aware, where the optimiser asks for it."""
        self.sharp: Sharp | None = None
        if sharpness:
            self.sharp = Sharp(
                (data.train_counts_K < sharpness.below).float(),
                torch.tensor(sharpness.rho, device=self.device),
                bool((data.counts_K >= sharpness.below).any()),
            )

    @property
    def learner(self) -> Learner:
        """What a step learns with."""
        return Learner(self.model, self.autocast, self.vectors, self.own_loss, self.sharp)

    def gradient(self, batch: Batch) -> Tensor:
        """Leave the step's gradient on the parameters; the loss at the weights, detached."""
        work_out = self.graphed.gradient if self.graphed else gradient
        return work_out(self.learner, batch)

    def charge(self, made: str, passes: int) -> None:
        """Count what generated images cost, once a run for each `made`, whoever made it."""
        self.passes += 0 if made in self._charged else passes
        self._charged.add(made)

    def logits(self, images_BCHW: Tensor) -> Tensor:
        """The model's float32 logits (B, K) of normalised images."""
        return self.learner.logits(images_BCHW)

    def features(self, data: DeviceData) -> Tensor:
        """The backbone's features (N, D) of all training images, without augmentation."""
        with evaluating(self.model), torch.no_grad(), self.autocast:
            blocks = [
                self.model.backbone(channels_last(data.normalise(pixels))).float()
                for pixels in data.train.in_order(BLOCK)
            ]
        return torch.cat(blocks)

    def confusion(self, data: DeviceData) -> Tensor:
        """The confusion matrix (K, K) on the held-out images, on the device."""
        return confusion(self.model, data, self.autocast)

    def evaluate(self, data: DeviceData) -> NDArray[np.int64]:
        """The confusion matrix (K, K) on the held-out images; waits for the device."""
        confusion_KK: NDArray[np.int64] = self.confusion(data).cpu().numpy()
        return confusion_KK

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


def _autocast(precision: str, device: torch.device) -> torch.autocast:
    wanted = _has_bfloat16(device) if precision == "auto" else precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
