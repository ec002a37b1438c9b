"""What training costs, in image passes: forward and backward of one image through one network.

The loop counts them as it goes. A whole run's follow from its configuration and the class counts
alone, so that what early stopping saved is held against what was asked for. K classes.
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


def epoch_passes(images: int, batch_size: int, sharp: bool, m2m: M2m | None) -> int:
    """Image passes of an epoch.

    Args:
        images: in the epoch's training data. sharp: each step has SAM's second pass. m2m: that
            translates in this epoch: each of its steps passes two networks.
    """
    steps, batch = steps_per_epoch(images, batch_size)
    return steps * batch * (1 + sharp + (2 * m2m.steps if m2m else 0))


def seed_config(config: TrainConfig, spec: M2m, full: int) -> TrainConfig:
    """M2m's seed network for a run of `full` epochs: the same kind, with cross-entropy alone."""
    epochs = max(1, round(spec.share * full))
    return config.baseline(epochs=epochs, seed=config.generate.shared.seed)


def run_passes(config: TrainConfig, counts_K: NDArray[np.int64]) -> int:
    """Image passes of a whole run without rungs, from its first epoch to its last second stage."""
    return sum(path_passes([config], counts_K, whole_path(config)))


def path_passes(
    variants: Sequence[TrainConfig], counts_K: NDArray[np.int64], path: Sequence[Segment]
) -> list[int]:
    """Image passes of each segment of a trial's path.

    As :func:`imbtune.training.rungs.train_through_rungs` counts them: the post-hoc stages of the
    rungs included, and the cost of generated images where a state first uses them.
    """
    found: list[int] = []
    charged: set[str] = set()
    for segment in path:
        if segment.fresh:
            charged = set()
        config = variants[segment.variant]
        total = _epochs_passes(variants[0], counts_K, segment.epochs, charged)
        total += _epochs_passes(config, counts_K, segment.branch, charged)
        found.append(total + _second_stage(config, counts_K, segment.budget))
    return found


def whole_path(config: TrainConfig) -> list[Segment]:
    """A run without rungs below its end."""
    return rung_segments("cooldown", [config.epochs], config.schedule.shared)


def _epochs_passes(
    config: TrainConfig, counts_K: NDArray[np.int64], epochs: Sequence[Epoch], charged: set[str]
) -> int:
    images, batch, sharp = int(counts_K.sum()), config.batch_size, _is_sharp(config)
    spec: DeepSmote | M2m | None = config.generate.make()
    always = config.generate.shared.schedule == "always"
    total, balanced = 0, int(counts_K.max()) * len(counts_K)
    for epoch in epochs:
        generates = spec is not None and (always or bool(epoch.cooling))
        m2m = spec if generates and isinstance(spec, M2m) else None
        grown = generates and isinstance(spec, DeepSmote)
        total += epoch_passes(balanced if grown else images, batch, sharp, m2m)
        if isinstance(spec, DeepSmote):
            made, cost = f"{spec}", deepsmote.passes(spec, images)
        elif m2m:
            seed = seed_config(config, m2m, epoch.full)
            made, cost = seed.yaml(), run_passes(seed, counts_K)
        if generates and made not in charged:
            charged.add(made)
            total += cost
    return total


def _second_stage(config: TrainConfig, counts_K: NDArray[np.int64], budget: int) -> int:
    made = config.after.make(torch.from_numpy(counts_K).float(), torch.ones(len(counts_K)), 1.0)
    if not isinstance(made, Retraining):
        return 0
    epochs = max(1, round(made.share * budget))
    return epochs * epoch_passes(int(counts_K.sum()), config.batch_size, sharp=False, m2m=None)


def _is_sharp(config: TrainConfig) -> bool:
    optimizer = config.optimizer.make([torch.zeros(1, requires_grad=True)])
    return getattr(optimizer, "sharpness", None) is not None
