"""The cost of training in image passes: one image forward and backward through one network.

The training loop counts them while it trains. Here they are computed in advance, from a
configuration and the class counts alone: for forecasts, and to report what early stopping saved.

Shapes: K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from imbtune.config.train_config import TrainConfig
from imbtune.methods.image_generation import DeepSmote, M2m
from imbtune.methods.posthoc import Retraining
from imbtune.training.generators import deepsmote
from imbtune.training.phases import Epoch, Segment, rung_segments, steps_per_epoch


def epoch_passes(images: int, batch_size: int, sharpness_aware: bool, m2m: M2m | None) -> int:
    """Image passes of an epoch.

    Args:
        images: training images of the epoch, generated ones included.
        batch_size: images of a step, at most `images`.
        sharpness_aware: whether each step has the second pass of SAM.
        m2m: M2m where it translates in this epoch, else None; each of its optimisation steps
            passes two networks.
    """
    steps, batch = steps_per_epoch(images, batch_size)
    return steps * batch * (1 + sharpness_aware + (2 * m2m.steps if m2m else 0))


def seed_config(config: TrainConfig, spec: M2m, full: int) -> TrainConfig:
    """M2m's seed network for a run of `full` epochs: the same network, plain cross-entropy."""
    epochs = max(1, round(spec.share * full))
    return config.baseline(epochs=epochs, seed=config.generate.shared.seed)


def run_passes(config: TrainConfig, counts_K: NDArray[np.int64]) -> int:
    """Image passes of a whole run without lower rungs, its post-hoc second stage included."""
    return sum(segment_passes([config], counts_K, whole_run_segments(config)))


def segment_passes(
    variants: Sequence[TrainConfig], counts_K: NDArray[np.int64], segments: Sequence[Segment]
) -> list[int]:
    """Image passes of each segment of a trial.

    As :func:`imbtune.training.rungs.train_through_rungs` counts them: with the post-hoc second
    stage of every rung, and with the cost of generated images in the segment that first uses them.

    Args:
        variants: the trial's configuration, or its cool-down variants.
        counts_K: training images of each class.
        segments: in training order.
    """
    passes: list[int] = []
    counted: set[str] = set()
    for segment in segments:
        if segment.fresh:
            counted = set()
        config = variants[segment.variant]
        total = _epochs_passes(variants[0], counts_K, segment.epochs, counted)
        total += _epochs_passes(config, counts_K, segment.branch, counted)
        passes.append(total + _second_stage(config, counts_K, segment.budget))
    return passes


def whole_run_segments(config: TrainConfig) -> list[Segment]:
    """The single segment of a run without lower rungs."""
    return rung_segments("cooldown", [config.epochs], config.schedule.shared)


def _epochs_passes(
    config: TrainConfig, counts_K: NDArray[np.int64], epochs: Sequence[Epoch], counted: set[str]
) -> int:
    """Image passes of some epochs; adds to `counted` the generated images that they include."""
    images, batch, sharp = int(counts_K.sum()), config.batch_size, _is_sharpness_aware(config)
    spec: DeepSmote | M2m | None = config.generate.make()
    always = config.generate.shared.schedule == "always"
    total, balanced = 0, int(counts_K.max()) * len(counts_K)
    for epoch in epochs:
        generates = spec is not None and (always or bool(epoch.cooldown_epochs))
        m2m = spec if generates and isinstance(spec, M2m) else None
        grown = generates and isinstance(spec, DeepSmote)
        total += epoch_passes(balanced if grown else images, batch, sharp, m2m)
        if isinstance(spec, DeepSmote):
            key, cost = f"{spec}", deepsmote.passes(spec, images)
        elif m2m:
            seed = seed_config(config, m2m, epoch.full)
            key, cost = seed.yaml(), run_passes(seed, counts_K)
        if generates and key not in counted:
            counted.add(key)
            total += cost
    return total


def _second_stage(config: TrainConfig, counts_K: NDArray[np.int64], budget: int) -> int:
    """Image passes of the post-hoc second stage after `budget` epochs; 0 without one."""
    method = config.after.make(torch.from_numpy(counts_K).float(), torch.ones(len(counts_K)), 1.0)
    if not isinstance(method, Retraining):
        return 0
    epochs = max(1, round(method.share * budget))
    images = int(counts_K.sum())
    return epochs * epoch_passes(images, config.batch_size, sharpness_aware=False, m2m=None)


def _is_sharpness_aware(config: TrainConfig) -> bool:
    optimizer = config.optimizer.make([torch.zeros(1, requires_grad=True)])
    return getattr(optimizer, "sharpness", None) is not None
