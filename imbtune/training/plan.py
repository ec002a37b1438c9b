"""Every random draw and schedule value of one epoch, drawn at once and moved to the device once.

The step that uses them has no branch on a knob, no draw, and nothing to wait for. The draws are
NumPy's on the host, so they are the same on every device. Shapes: S steps, B a batch, K classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbtune.config import TrainConfig
from imbtune.methods.mixing import Mix
from imbtune.methods.sampling import draw_indices
from imbtune.methods.weighting import strength
from imbtune.training.device_data import DeviceData
from imbtune.training.progress import Epoch

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Views(NamedTuple):
    """Which images a batch shows, and how each is shifted and flipped."""

    index_SB: Tensor
    shift_SB2: Tensor | None
    flip_SB: Tensor | None


class EpochPlan(NamedTuple):
    """One epoch. `partner`, `lam_SB` and `box_SB4` are None where nothing is mixed."""

    image: Views
    partner: Views | None
    lam_SB: Tensor | None
    box_SB4: Tensor | None
    lr_S: Tensor
    weights_SK: Tensor


def steps_per_epoch(images: int, batch_size: int) -> tuple[int, int]:
    """Steps S and batch B: full batches only, as near to every image once as they come."""
    batch = min(batch_size, images)
    return max(1, round(images / batch)), batch


def draw_epoch(
    config: TrainConfig, data: DeviceData, mix: Mix | None, weights_K: Tensor, epoch: Epoch
) -> EpochPlan:
    """The plan of `epoch`, on the data's device; the same (seed, epoch) draws the same plan.

    Args:
        mix: the mixing method with its knobs, or None.
        weights_K: class weights at full strength.
    """
    rng = np.random.default_rng([config.seed, *epoch.random_key()])
    steps, batch = steps_per_epoch(len(data.labels_N), config.batch_size)
    probabilities_K = config.sampler.make(data.counts_K.astype(np.float64))
    index = draw_indices(probabilities_K, data.host_labels_N, steps * batch, rng)
    index_SB = index.reshape(steps, batch)
    image = _views(index_SB, data, rng)
    late = epoch.cooldown_done(steps)
    partner, lam_SB, box_SB4 = None, None, None
    if mix and not (epoch.cooling and config.mix.shared.late == "stop"):
        partner_SB = mix.pairing(index_SB, data.neighbours, rng)
        aligned = image._replace(index_SB=data.to_device(partner_SB))
        partner = aligned if mix.aligned else _views(partner_SB, data, rng)
        lam_SB, box_SB4 = _blend(config, mix, data, (steps, batch), rng)
    strength_S = [strength(config.weights.shared.schedule, share) for share in late]
    strength_S1 = torch.tensor(strength_S, dtype=torch.float32, device=data.device)[:, None]
    return EpochPlan(
        image,
        partner,
        lam_SB,
        box_SB4,
        data.to_device(learning_rates(config, epoch, steps)),
        1 + strength_S1 * (weights_K - 1),
    )


def learning_rates(config: TrainConfig, epoch: Epoch, steps: int) -> Floats:
    """The learning rate of each step, (S,): peak × warm-up × decay."""
    decay_S = np.array([config.schedule.make(share) for share in epoch.cooldown_done(steps)])
    peak = float(config.optimizer.knobs["lr"])
    rates_S: Floats = peak * epoch.warmup_done(steps) * decay_S
    return rates_S


def _blend(
    config: TrainConfig,
    mix: Mix,
    data: DeviceData,
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor | None]:
    steps, batch = shape
    drawn = (steps, batch if config.mix.shared.draw == "sample" else 1)
    blend = mix.blend(drawn, data.image_size, rng)
    box = blend.box_SB4
    lam_SB = data.to_device(np.broadcast_to(blend.lam_SB, shape))
    return lam_SB, None if box is None else data.to_device(np.broadcast_to(box, (*shape, 4)))


def _views(index_SB: Ints, data: DeviceData, rng: np.random.Generator) -> Views:
    pad, flip = data.look.pad, data.look.flip
    shift_SB2 = rng.integers(0, 2 * pad + 1, (*index_SB.shape, 2)) if pad else None
    flip_SB = rng.random(index_SB.shape) < 0.5 if flip else None
    return Views(
        data.to_device(index_SB),
        None if shift_SB2 is None else data.to_device(shift_SB2),
        None if flip_SB is None else data.to_device(flip_SB),
    )
