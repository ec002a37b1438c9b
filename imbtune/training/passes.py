"""What training costs, in image passes: forward and backward of one image through one network.

The loop counts them as it goes. A whole run's follow from its configuration and the class counts
alone, so that what early stopping saved is held against what was asked for. K classes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from imbtune.config import TrainConfig
from imbtune.methods.finishing import Retraining
from imbtune.methods.generating import DeepSmote, M2m
from imbtune.training import deepsmote
from imbtune.training.plan import steps_per_epoch
from imbtune.training.progress import whole_run


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
    return config.plain(epochs=epochs, seed=config.generate.shared.seed)


def run_passes(config: TrainConfig, counts_K: NDArray[np.int64]) -> int:
    """Image passes of a whole run without rungs, from its first epoch to its last second stage."""
    images, batch, sharp = int(counts_K.sum()), config.batch_size, _is_sharp(config)
    spec: DeepSmote | M2m | None = config.generate.make()
    shared = config.generate.shared
    epochs = whole_run(config.epochs, config.schedule.shared)
    generating = sum(bool(e.cooling) or shared.schedule == "always" for e in epochs if spec)
    total: int = (len(epochs) - generating) * epoch_passes(images, batch, sharp, None)
    if generating and isinstance(spec, DeepSmote):
        balanced = int(counts_K.max()) * len(counts_K)
        total += deepsmote.passes(spec, images)
        total += generating * epoch_passes(balanced, batch, sharp, None)
    elif generating and isinstance(spec, M2m):
        total += run_passes(seed_config(config, spec, config.epochs), counts_K)
        total += generating * epoch_passes(images, batch, sharp, spec)
    made = config.after.make(torch.from_numpy(counts_K).float(), torch.ones(len(counts_K)), 1.0)
    if isinstance(made, Retraining):
        second = max(1, round(made.share * config.epochs))
        total += second * epoch_passes(images, batch, sharp=False, m2m=None)
    return total


def _is_sharp(config: TrainConfig) -> bool:
    optimizer = config.optimizer.make([torch.zeros(1, requires_grad=True)])
    return getattr(optimizer, "sharpness", None) is not None
