"""The methods of a training run, built from its configuration.

Shapes: S steps of an epoch, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from imbtune.config.train_config import TrainConfig
from imbtune.methods.class_weights import WeightOptions, strength
from imbtune.methods.image_generation import DeepSmote, GenerateOptions, M2m
from imbtune.methods.losses import LossFunction, MarginSoftmax, ce
from imbtune.methods.mixing.mix import Mix, MixOptions
from imbtune.training.phases import Epoch

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RunMethods:
    """The methods of a run, as functions and tensors; no training step reads the configuration.

    Attributes:
        config: the configuration that they come from.
        mix: pairing, blend and label rule; None where images are not mixed.
        mix_options: when and how often images are mixed.
        generator: what generates training images, or None.
        generator_options: in which phases generated images are used, and their seed.
        vectors: of the margin-softmax loss; those of cross-entropy where `own_loss` is set.
        own_loss: a user-defined loss, used instead of `vectors`; else None.
        weights_K: class weights at full strength.
        weight_options: their schedule, and the divisor of the weighted sum of losses.
        sampler: maps class counts (K,) and the run's progress in [0, 1] to the probability of each
            class (K,), or to None where every image is drawn once.
        decay: maps the completed share of the cool-down in [0, 1] to a factor of the learning rate.
        peak_lr: the learning rate of the trunk.
        rate_by_epoch: in the cool-down, the learning rate is that of the epoch's start.
    """

    config: TrainConfig
    mix: Mix | None
    mix_options: MixOptions
    generator: DeepSmote | M2m | None
    generator_options: GenerateOptions
    vectors: MarginSoftmax
    own_loss: LossFunction | None
    weights_K: Tensor
    weight_options: WeightOptions
    sampler: Callable[[Ints, float], Floats | None]
    decay: Callable[[float], float]
    peak_lr: float
    rate_by_epoch: bool = False

    @classmethod
    def from_config(cls, config: TrainConfig, counts_K: Tensor) -> RunMethods:
        """Build the methods of a configuration.

        Args:
            config: the run.
            counts_K: training images of each class, float32, on the training device.
        """
        loss: MarginSoftmax | LossFunction = config.loss.make(counts_K)
        return cls(
            config=config,
            mix=config.mix.make(),
            mix_options=config.mix.shared,
            generator=config.generate.make(),
            generator_options=config.generate.shared,
            vectors=loss if isinstance(loss, MarginSoftmax) else ce(counts_K),
            own_loss=None if isinstance(loss, MarginSoftmax) else loss,
            weights_K=config.weights.make(counts_K),
            weight_options=config.weights.shared,
            sampler=config.sampler.make,
            decay=config.schedule.make,
            peak_lr=float(config.optimizer.knobs["lr"]),
        )

    @property
    def is_noisy(self) -> bool:
        """Whether the loss lowers the logits by random noise (GCL)."""
        return bool((self.vectors.cloud_K != 0).any())

    def generates_in(self, epoch: Epoch) -> bool:
        """Whether generated images are used in an epoch."""
        options = self.generator_options
        begun = epoch.cooldown_epochs and epoch.cooldown_index >= round(
            options.start * epoch.cooldown_epochs
        )
        return self.generator is not None and bool(options.schedule == "always" or begun)

    def learning_rates(self, epoch: Epoch, steps: int) -> Floats:
        """The learning rate of each step, (S,): peak rate × warm-up factor × decay factor."""
        shares_S = epoch.cooldown_done(steps)
        if self.rate_by_epoch and epoch.cooldown_epochs:
            shares_S = np.full(steps, epoch.cooldown_index / epoch.cooldown_epochs)
        decay_S = np.array([self.decay(share) for share in shares_S])
        by_epoch = self.config.schedule.shared.warmup_by == "epoch"
        rates_S: Floats = self.peak_lr * epoch.warmup_done(steps, by_epoch) * decay_S
        return rates_S

    def weight_strengths(self, epoch: Epoch, steps: int) -> Floats:
        """The strength of the class weights in each step, (S, 1), from 0 (off) to 1 (full)."""
        shares = zip(epoch.cooldown_done(steps), epoch.progress(steps), strict=True)
        return np.array([[strength(self.weight_options, done, run)] for done, run in shares])
