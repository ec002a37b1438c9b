"""The state of a run in training: network, optimiser and methods. Seeds torch's generators.

Shapes: K classes, N training images, D features.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbtune.config.train_config import TrainConfig
from imbtune.methods.optimizers import Sharpness
from imbtune.metrics.predictions import Predictions
from imbtune.training.device.cuda_graphs import GraphedModel
from imbtune.training.device.device_data import BLOCK, DeviceData
from imbtune.training.distributed.global_batch_norm import use_global_batch_norm
from imbtune.training.evaluation.metrics import Evaluation, evaluate
from imbtune.training.model import evaluating, new_model
from imbtune.training.run_methods import RunMethods
from imbtune.training.step import Batch, SharpnessAware, StepModel, channels_last, gradient
from imbtune.training.weight_average import WeightAverage

INIT, STEPS, HEAD = 0, 1, 2  # second part of the seed: initial weights, epochs, a new head


class TrainState:
    """A model in training, with its optimiser and its methods as tensors.

    Args:
        config: the run. Its knobs become tensors here (the loss's per-class vectors, the class
            weights); no step reads the configuration.
        data: determines channels, classes, class counts, the device and the workers.

    Attributes:
        model: the network.
        graphed: the pooled network with captured CUDA graphs that `model` belongs to; None where
            steps run without graphs.
        optimizer: its learning rate is a tensor on the device.
        autocast: precision of forward passes.
        passes: image passes so far (one image forward and backward through one network), helper
            networks included.
        methods: what the run takes from its configuration.
        sharpness_aware: for SAM and ImbSAM; else None.
        workers: the processes that train this model together, each with the same weights.
        average: the moving average of the weights; None without one.
    """

    def __init__(self, config: TrainConfig, data: DeviceData) -> None:
        self.device, self.workers = data.device, data.workers
        seed_torch(config.seed, INIT)
        model = new_model(config, data.image_shape[0], len(data.classes))
        use_global_batch_norm(model, self.workers, self.device)
        self.model = model.to(self.device).to(memory_format=torch.channels_last)
        self.graphed = self._acquire_graphed_model(config, data)
        self.optimizer = config.optimizer.make(list(self.model.parameters()))
        self.autocast = _autocast(config.precision, self.device)
        self.passes = 0
        self._counted: set[str] = set()  # keys of add_passes_once
        self.methods = RunMethods.from_config(config, data.train_counts_K)
        sharpness: Sharpness | None = getattr(self.optimizer, "sharpness", None)
        self.sharpness_aware = self._sharpness_aware(sharpness, data)
        self.average: WeightAverage | None = None

    @property
    def config(self) -> TrainConfig:
        """The configuration of the current methods."""
        return self.methods.config

    def _acquire_graphed_model(self, config: TrainConfig, data: DeviceData) -> GraphedModel | None:
        """Replace `self.model` by a pooled network; release it when this state is collected.

        None, with `self.model` unchanged, where graphs are off, the network is user-defined, or
        several workers exchange values in a step.
        """
        is_captured = config.cuda_graph and config.model.part.is_builtin and self.workers.size == 1
        if not (data.graphed_models and is_captured):
            return None
        kind = f"{config.model} {config.loss_head} {data.image_shape} {len(data.classes)}"
        graphed = data.graphed_models.acquire(kind, self.model)
        weakref.finalize(self, data.graphed_models.release, kind, graphed)
        self.model = graphed.model
        return graphed

    def _sharpness_aware(
        self, sharpness: Sharpness | None, data: DeviceData
    ) -> SharpnessAware | None:
        """The optimiser's sharpness settings as tensors; None for an optimiser without them."""
        if not sharpness:
            return None
        return SharpnessAware(
            (data.train_counts_K < sharpness.below).float(),
            torch.tensor(sharpness.rho, device=self.device),
            bool((data.counts_K >= sharpness.below).any()),
        )

    @property
    def step_model(self) -> StepModel:
        """The network and its loss, as a training step uses them."""
        methods = self.methods
        return StepModel(
            self.model,
            self.autocast,
            methods.vectors,
            methods.own_loss,
            self.sharpness_aware,
            self.workers,
        )

    def gradient(self, batch: Batch) -> Tensor:
        """Store the gradient of the whole batch's loss in the parameters' `.grad`.

        Args:
            batch: this worker's part of the batch.

        Returns:
            The loss at the current weights, (), detached.
        """
        compute = self.graphed.gradient if self.graphed else gradient
        loss = compute(self.step_model, batch)
        if self.workers.size > 1:
            weights = [w for group in self.optimizer.param_groups for w in group["params"]]
            self.workers.sum([loss, *(w.grad for w in weights if w.grad is not None)])
        return loss

    def add_passes_once(self, key: str, passes: int) -> None:
        """Count the image passes of generated images, once in a run for each `key`.

        Counted also where the images come from the cache of an earlier trial, so that the cost of
        a trial does not depend on which trials ran before it.
        """
        self.passes += 0 if key in self._counted else passes
        self._counted.add(key)

    def logits(self, images_BCHW: Tensor) -> Tensor:
        """Float32 logits (B, K) of normalised images."""
        return self.step_model.logits(images_BCHW)

    def features(self, data: DeviceData) -> Tensor:
        """The backbone's features (N, D) of all training images, without augmentation."""
        with evaluating(self.model), torch.no_grad(), self.autocast:
            blocks = [
                self.model.backbone(channels_last(data.normalise(pixels))).float()
                for pixels in data.train.in_order(BLOCK)
            ]
        return torch.cat(blocks)

    def evaluation(self, data: DeviceData) -> Evaluation:
        """The network's predictions of the held-out images; asynchronous on a GPU."""
        return evaluate(self.model, data, self.autocast)

    def predictions(self, data: DeviceData) -> Predictions:
        """The logits of the held-out images, times the loss's scale; synchronises.

        Raises:
            DivergenceError: a logit is not finite.
        """
        evaluation = evaluate(self.model, data, self.autocast, keep_logits=True)
        assert evaluation.logits_MK is not None
        return Predictions(
            evaluation.logits_MK * self.methods.vectors.scale,
            data.held_out_labels_M,
            data.classes,
            data.counts_K,
            evaluation.confusion_KK,
        )

    def evaluate(self, data: DeviceData) -> NDArray[np.int64]:
        """The confusion matrix (K, K) of the held-out images, on the host; synchronises.

        Raises:
            DivergenceError: a logit is not finite.
        """
        return self.evaluation(data).confusion_KK

    @contextmanager
    def temporarily(self, methods: RunMethods) -> Iterator[None]:
        """Train with other methods; on exit restore the previous state, to the last bit.

        Only `passes` keeps the image passes that were trained inside.
        """
        before, previous_methods = copy.deepcopy(self.snapshot()), self.methods
        try:
            self.methods = methods
            yield
        finally:
            passes = self.passes
            self.methods = previous_methods
            self.restore({**before, "passes": passes})

    @contextmanager
    def in_float32(self) -> Iterator[None]:
        """Evaluate in float32, as a model in use does, whatever precision it is trained in."""
        before = self.autocast
        self.autocast = _autocast("float32", self.device)
        try:
            yield
        finally:
            self.autocast = before

    def snapshot(self) -> dict[str, Any]:
        """All that training continues from: weights, batch-norm statistics, optimiser, passes.

        There is no generator state: every draw is seeded with the run's seed and the epoch. The
        tensors are not copied.
        """
        average = {"average": self.average.state()} if self.average else {}
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "passes": self.passes,
            "charged": sorted(self._counted),
            **average,
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Load a snapshot of a state with the same configuration."""
        self.model.load_state_dict(snapshot["model"])
        self.optimizer.load_state_dict(snapshot["optimizer"])
        self.passes = snapshot["passes"]
        self._counted |= set(snapshot["charged"])
        if self.average:
            self.average.restore(snapshot["average"])


def pick_device() -> torch.device:
    """The first GPU that is visible to this process, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def gpu_count() -> int:
    """The GPUs that are visible to this process."""
    return torch.cuda.device_count()


def seed_torch(*key: int) -> None:
    """Seed torch's global generators (initial weights, dropout) from non-negative integers.

    `torch.manual_seed` is avoided: until CUDA is initialised it stores a traceback of every call.
    In a process without a GPU that memory is never freed, and each call takes 0.5 ms.
    """
    seed = _torch_seed(key)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


def seed_epoch(state: TrainState, key: Sequence[int]) -> torch.Generator | None:
    """Seed the random numbers of an epoch that are not in its plan: dropout, GCL's and M2m's noise.

    Dropout draws for a worker's part of a batch, so it has other numbers on each worker. The noise
    is drawn for the whole batch, so it is that of one process, unless that has dropout, too.

    Returns:
        What draws the noise; None for torch's global generator, with one worker.
    """
    if state.workers.size == 1:
        seed_torch(*key)
        return None
    seed_torch(*key, state.workers.rank)
    return torch.Generator(state.device).manual_seed(_torch_seed(key))


def _torch_seed(key: Sequence[int]) -> int:
    # int() before >>: in a thread, NumPy 2.1 cannot shift a uint64 scalar by a Python number
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1


def _autocast(precision: str, device: torch.device) -> torch.autocast:
    wanted = _has_bfloat16(device) if precision == "auto" else precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
