"""All random draws and schedule values of an epoch, drawn before its first step.

They are copied to the device once, so a training step neither branches on a knob nor synchronises.
NumPy draws them on the host, so they are the same on every device.

Shapes: S steps, B samples of a batch, K classes, N training images.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from imbtune.methods.class_sampling import class_shares, draw_indices
from imbtune.methods.image_generation import M2m
from imbtune.methods.mixing.blending import Pairs
from imbtune.methods.mixing.pairing import TrainingImages
from imbtune.training.device.device_data import DeviceData, Views
from imbtune.training.generators.m2m import draw_sources
from imbtune.training.phases import Epoch, steps_per_epoch
from imbtune.training.run_methods import RunMethods

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class EpochPlan(NamedTuple):
    """The draws and schedule values of one epoch, on the device.

    `partner`, `lam_SB` and `box_SB4` are None in an epoch without mixing, `source` and
    `translate_SB` in one without M2m; `box_SB4` also for blends other than CutMix.

    Attributes:
        image: views of x_i.
        partner: views of x_j, which is mixed into x_i.
        lam_SB: λ, the share of x_i, in [0, 1].
        box_SB4: the box of x_i that x_j fills, in pixels.
        source: views of the images that M2m translates.
        translate_SB: whether M2m tries to replace x_i by its translated source.
        lr_S: the learning rate of each step.
        weights_SK: class weights in each step.
        last_lr: the last entry of `lr_S`, as a float32 value on the host.
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

    def part(self, samples: slice) -> EpochPlan:
        """The plan for some samples of every batch."""
        return self._replace(
            image=self.image.part(samples),
            partner=self.partner and self.partner.part(samples),
            lam_SB=None if self.lam_SB is None else self.lam_SB[:, samples],
            box_SB4=None if self.box_SB4 is None else self.box_SB4[:, samples],
            source=self.source and self.source.part(samples),
            translate_SB=None if self.translate_SB is None else self.translate_SB[:, samples],
        )

    def tensors(self) -> list[Tensor]:
        """All tensors of the plan."""
        views = [field for field in self if isinstance(field, Views)]
        fields = [*self, *(field for each in views for field in each)]
        return [field for field in fields if isinstance(field, Tensor)]


def draw_epoch(
    methods: RunMethods,
    data: DeviceData,
    images: TrainingImages,
    epoch: Epoch,
    translates: bool = False,
) -> EpochPlan:
    """Draw the plan of an epoch; the same seed and epoch give the same plan.

    Args:
        methods: the methods of the run.
        data: the images; the plan's tensors lie on its device.
        images: labels and nearest neighbours of the training images, for the pairing.
        epoch: the epoch's position in its run.
        translates: whether M2m translates images in this epoch.
    """
    config = methods.config
    rng = np.random.default_rng([config.seed, *epoch.random_key()])
    steps, batch = steps_per_epoch(len(data.labels_N), config.batch_size)
    counts_K = np.bincount(data.host_labels_N, minlength=len(data.classes))
    m2m = methods.generator if translates and isinstance(methods.generator, M2m) else None
    probabilities_K: Floats | None
    if m2m:  # M2m is defined on class-balanced batches
        probabilities_K = class_shares(counts_K, 0)
    else:
        progress = float(epoch.progress(steps).mean())
        probabilities_K = methods.sampler(counts_K, progress)
    index = draw_indices(probabilities_K, data.host_labels_N, steps * batch, rng)
    index_SB = index.reshape(steps, batch)
    image = _views(index_SB, data, rng)
    source, translate_SB = _sources(m2m, index_SB, data, rng)
    partner, lam_SB, box_SB4 = _partners(methods, images, image, index_SB, data, epoch, rng)
    strength_S1 = methods.weight_strengths(epoch, steps)
    lr_S = methods.learning_rates(epoch, steps)
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


def _partners(
    methods: RunMethods,
    images: TrainingImages,
    image: Views,
    index_SB: Ints,
    data: DeviceData,
    epoch: Epoch,
    rng: np.random.Generator,
) -> tuple[Views | None, Tensor | None, Tensor | None]:
    """Views of x_j, λ and CutMix's boxes; three times None in an epoch without mixing.

    A batch or sample that is not mixed (`mix.probability` < 1) has λ = 1 and an empty box. Where
    the probability depends on the class (`mix.by_class`), every sample is drawn by itself.
    """
    mix, options = methods.mix, methods.mix_options
    if not mix or not options.mixes_in(epoch):
        return None, None, None
    partner_SB = mix.pairing(index_SB, images, rng)
    aligned = image._replace(index_SB=data.to_device(partner_SB))
    partner = aligned if mix.aligned else _views(partner_SB, data, rng)
    counts_N = data.counts_K.astype(np.float64)[data.host_labels_N]
    pairs = Pairs(data.image_size, counts_N[index_SB], counts_N[partner_SB])
    steps, batch = index_SB.shape
    shape = (steps, batch if options.draw == "sample" else 1)
    lam, box = mix.blend(shape, pairs, rng)
    if options.by_class == "oversampling":
        share_SB = options.probability * (1 - pairs.n_i_SB / counts_N.max())
        mixed = rng.random(index_SB.shape) < share_SB
    elif options.probability < 1:
        mixed = rng.random(shape) < options.probability
    else:
        mixed = np.ones(shape, dtype=bool)
    if not mixed.all():
        lam = np.where(mixed, lam, 1.0)
        box = None if box is None else np.where(mixed[..., None], box, 0)
    lam_SB = data.to_device(np.broadcast_to(lam, index_SB.shape))
    if box is None:
        return partner, lam_SB, None
    return partner, lam_SB, data.to_device(np.broadcast_to(box, (*index_SB.shape, 4)))


def _sources(
    m2m: M2m | None, index_SB: Ints, data: DeviceData, rng: np.random.Generator
) -> tuple[Views | None, Tensor | None]:
    """M2m's source image of each sample, and which samples it tries to translate, (S, B)."""
    if m2m is None:
        return None, None
    labels_N = data.host_labels_N
    source_SB, translate_SB = draw_sources(
        labels_N[index_SB], labels_N, data.counts_K, m2m.beta, rng
    )
    return _views(source_SB, data, rng), data.to_device(translate_SB)


def _views(index_SB: Ints, data: DeviceData, rng: np.random.Generator) -> Views:
    """Views of the images, with a random shift and flip drawn where the data set uses them."""
    pad, flip = data.preprocessing.pad, data.preprocessing.flip
    shift_SB2 = rng.integers(0, 2 * pad + 1, (*index_SB.shape, 2)) if pad else None
    flip_SB = rng.random(index_SB.shape) < 0.5 if flip else None
    return Views(
        data.to_device(index_SB),
        None if shift_SB2 is None else data.to_device(shift_SB2),
        None if flip_SB is None else data.to_device(flip_SB),
    )
