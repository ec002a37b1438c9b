"""Every random draw and schedule value of one epoch, drawn at once and moved to the device once.

The step that uses them has no branch on a knob, and nothing to wait for. The draws are NumPy's on
the host, so they are the same on every device. Shapes: S steps, B a batch, K classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from imbtune.config.train_config import TrainConfig
from imbtune.methods.class_sampling import class_shares, draw_indices
from imbtune.methods.class_weights import strength
from imbtune.methods.mixing.blending import Pairs
from imbtune.methods.mixing.mix import Mix
from imbtune.methods.mixing.pairing import TrainingImages
from imbtune.training.device.device_data import DeviceData, Views
from imbtune.training.generators.m2m import draw_sources
from imbtune.training.phases import Epoch, steps_per_epoch

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Methods(NamedTuple):
    """What an epoch's draws ask of a run's methods.

    mix: the mixing, or None. weights_K: class weights at full strength. images: the training
    images as a pairing sees them. m2m_beta: β of M2m's source classes where it acts, else None.
    """

    mix: Mix | None
    weights_K: Tensor
    images: TrainingImages
    m2m_beta: float | None = None


class EpochPlan(NamedTuple):
    """One epoch.

    image, partner, source: x_i, x_j, and what M2m translates. `partner`, `lam_SB` and `box_SB4` are
    None where nothing is mixed, `source` and `translate_SB` where nothing is translated. last_lr:
    of `lr_S` the last, as it is on the device.
    """

    image: Views
    partner: Views | None
    lam_SB: Tensor | None
    box_SB4: Tensor | None
    source: Views | None
    translate_SB: Tensor | None
    lr_S: Tensor
    weights_SK: Tensor
    last_lr: float


def draw_epoch(config: TrainConfig, data: DeviceData, methods: Methods, epoch: Epoch) -> EpochPlan:
    """The plan of `epoch`, on the data's device; the same (seed, epoch) draws the same plan."""
    rng = np.random.default_rng([config.seed, *epoch.random_key()])
    steps, batch = steps_per_epoch(len(data.labels_N), config.batch_size)
    counts_K = np.bincount(data.host_labels_N, minlength=len(data.classes))
    progress_S, cooled_S = epoch.progress(steps), epoch.cooldown_done(steps)
    if methods.m2m_beta is None:
        probabilities_K = config.sampler.make(counts_K, float(progress_S.mean()))
    else:  # M2m fills up class-balanced batches
        probabilities_K = class_shares(counts_K, 0)
    index = draw_indices(probabilities_K, data.host_labels_N, steps * batch, rng)
    index_SB = index.reshape(steps, batch)
    image = _views(index_SB, data, rng)
    source, translate_SB = _sources(methods, index_SB, data, rng)
    partner, lam_SB, box_SB4 = _partners(config, methods, image, index_SB, data, epoch, rng)
    schedule = config.weights.shared.schedule
    strength_S1 = np.array(
        [[strength(schedule, c, p)] for c, p in zip(cooled_S, progress_S, strict=True)]
    )
    lr_S = learning_rates(config, epoch, steps)
    return EpochPlan(
        image,
        partner,
        lam_SB,
        box_SB4,
        source,
        translate_SB,
        data.to_device(lr_S),
        1 + data.to_device(strength_S1) * (methods.weights_K - 1),
        float(np.float32(lr_S[-1])),
    )


def learning_rates(config: TrainConfig, epoch: Epoch, steps: int) -> Floats:
    """The learning rate of each step, (S,): peak × warm-up × decay."""
    decay_S = np.array([config.schedule.make(share) for share in epoch.cooldown_done(steps)])
    peak = float(config.optimizer.knobs["lr"])
    rates_S: Floats = peak * epoch.warmup_done(steps) * decay_S
    return rates_S


def _partners(
    config: TrainConfig,
    methods: Methods,
    image: Views,
    index_SB: Ints,
    data: DeviceData,
    epoch: Epoch,
    rng: np.random.Generator,
) -> tuple[Views | None, Tensor | None, Tensor | None]:
    """x_j, λ and CutMix's boxes; where a batch or sample stays unmixed λ is 1 and its box empty."""
    mix, options = methods.mix, config.mix.shared
    if not mix or not options.mixes_in(epoch):
        return None, None, None
    partner_SB = mix.pairing(index_SB, methods.images, rng)
    aligned = image._replace(index_SB=data.to_device(partner_SB))
    partner = aligned if mix.aligned else _views(partner_SB, data, rng)
    counts_N = data.counts_K.astype(np.float64)[data.host_labels_N]
    pairs = Pairs(data.image_size, counts_N[index_SB], counts_N[partner_SB])
    steps, batch = index_SB.shape
    drawn = (steps, batch if options.draw == "sample" else 1)
    lam, box = mix.blend(drawn, pairs, rng)
    if options.probability < 1:
        mixed = rng.random(drawn) < options.probability
        lam = np.where(mixed, lam, 1.0)
        box = None if box is None else np.where(mixed[..., None], box, 0)
    lam_SB = data.to_device(np.broadcast_to(lam, index_SB.shape))
    if box is None:
        return partner, lam_SB, None
    return partner, lam_SB, data.to_device(np.broadcast_to(box, (*index_SB.shape, 4)))


def _sources(
    methods: Methods, index_SB: Ints, data: DeviceData, rng: np.random.Generator
) -> tuple[Views | None, Tensor | None]:
    """M2m: the image that each translation starts from, and where one is asked for."""
    if methods.m2m_beta is None:
        return None, None
    labels_N = data.host_labels_N
    source_SB, translate_SB = draw_sources(
        labels_N[index_SB], labels_N, data.counts_K, methods.m2m_beta, rng
    )
    return _views(source_SB, data, rng), data.to_device(translate_SB)


def _views(index_SB: Ints, data: DeviceData, rng: np.random.Generator) -> Views:
    pad, flip = data.preprocessing.pad, data.preprocessing.flip
    shift_SB2 = rng.integers(0, 2 * pad + 1, (*index_SB.shape, 2)) if pad else None
    flip_SB = rng.random(index_SB.shape) < 0.5 if flip else None
    return Views(
        data.to_device(index_SB),
        None if shift_SB2 is None else data.to_device(shift_SB2),
        None if flip_SB is None else data.to_device(flip_SB),
    )
