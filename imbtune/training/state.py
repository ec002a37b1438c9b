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
from imbtune.methods.optimizers import Sharpness
from imbtune.training.device.cuda_graphs import GraphedModel
from imbtune.training.device.device_data import BLOCK, DeviceData
from imbtune.training.evaluation.metrics import confusion
from imbtune.training.model import evaluating, new_model
from imbtune.training.run_methods import RunMethods
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
        self.methods = RunMethods.from_config(config, data.train_counts_K)
        self.sharp = self._sharp(getattr(self.optimizer, "sharpness", None), data)

    @property
    def config(self) -> TrainConfig:
        """The configuration that the run has at the moment."""
        return self.methods.config

    def _lease(self, config: TrainConfig, data: DeviceData) -> GraphedModel | None:
        """Where steps are recorded, a bench until this state is gone; its network is the model."""
        if not (data.graphed_models and config.cuda_graph and config.model.part.is_builtin):
            return None
        kind = f"{config.model} {config.loss_head} {data.image_shape} {len(data.classes)}"
        bench = data.graphed_models.lease(kind, self.model)
        weakref.finalize(self, data.graphed_models.give_back, kind, bench)
        self.model = bench.model
        return bench

    def _sharp(self, sharpness: Sharpness | None, data: DeviceData) -> Sharp | None:
        """The classes whose gradient is sharpness-aware, where the optimiser asks for it."""
        if not sharpness:
            return None
        return Sharp(
            (data.train_counts_K < sharpness.below).float(),
            torch.tensor(sharpness.rho, device=self.device),
            bool((data.counts_K >= sharpness.below).any()),
        )

    @property
    def learner(self) -> Learner:
        """What a step learns with."""
        methods = self.methods
        return Learner(self.model, self.autocast, methods.vectors, methods.own_loss, self.sharp)

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

    @contextmanager
    def temporarily(self, methods: RunMethods) -> Iterator[None]:
        """Train with other methods; afterwards the state is as it was, to the last bit.

        Only the image passes stay counted.
        """
        before, own_methods = copy.deepcopy(self.snapshot()), self.methods
        try:
            self.methods = methods
            yield
        finally:
            passes = self.passes
            self.methods = own_methods
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
