"""DeepSMOTE (Dablain et al. 2021, arXiv 2105.02340): SMOTE in an autoencoder's latent space.

    z = encode(x),   z̃ = z_i + u·(z_j - z_i),   x̃ = decode(z̃)

with z_j one of the k nearest codes of z_i's class and u ~ U(0, 1). Each class gets as many images
as the largest class has. The authors' decoder ends in tanh, although their pixels are in [0, 1],
and accepts only some image sizes. This one ends in a sigmoid and accepts any size.

Shapes: N training images, M generated images, K classes, S steps of an epoch, B a batch, C
channels, H and W pixels, Z latent dimensions, J neighbours.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from imbtune.errors import DataError, DivergenceError
from imbtune.methods.image_generation import DeepSmote
from imbtune.training.device.neighbours import ROWS, nearest_members
from imbtune.training.phases import steps_per_epoch

Ints = NDArray[np.int64]
BATCH = 128  # as in the reference package
WIDEST = 8  # largest width of a layer, as a multiple of the first layer's; as the authors'


def generate(
    spec: DeepSmote, images_NCHW: Tensor, labels_N: Tensor, classes: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Train an autoencoder and generate the images that balance the classes.

    Class k gets n_max - n_k images; the classes are in order. A class with a single image has no
    neighbours, so its new images are the reconstruction of that image.

    Args:
        spec: the knobs.
        images_NCHW: uint8, on the device to use.
        labels_N: int64 in [0, classes), on the same device.
        classes: K.
        seed: of all random draws; torch's global generators do not change.

    Returns:
        The images (M, C, H, W) uint8 and their labels (M,) int64, on the same device.

    Raises:
        DataError: a class has no images.
        DivergenceError: the autoencoder's loss, or a code or pixel that it gives, is not finite.
    """
    counts_K = torch.bincount(labels_N, minlength=classes).cpu().numpy()
    if not counts_K.all():
        raise DataError(
            f"generate 'deepsmote': class {counts_K.argmin()} has no image to start from: "
            "give every class at least one"
        )
    missing_K = counts_K.max() - counts_K
    new_M = torch.from_numpy(np.repeat(np.arange(classes), missing_K)).to(labels_N.device)
    if not len(new_M):
        return images_NCHW[:0].clone(), new_M
    rng = np.random.default_rng(seed)
    model, losses_E = train_autoencoder(spec, images_NCHW, labels_N, rng)
    for epoch, loss in enumerate(losses_E.tolist(), 1):
        if not math.isfinite(loss):
            raise DivergenceError(
                f"generate=deepsmote: epoch {epoch} of the autoencoder: the loss is not finite "
                f"({loss})"
            )
    generated = [images_NCHW[:0]]
    for label in np.flatnonzero(missing_K):
        latents_NZ = encode(model, images_NCHW[labels_N == int(label)])
        generated.append(
            decode(model, smote(latents_NZ, spec.neighbours, int(missing_K[label]), rng))
        )
    return torch.cat(generated), new_M


def passes(spec: DeepSmote, images: int) -> int:
    """Image passes (forward and backward) to train the autoencoder: two batches per step."""
    steps, batch = steps_per_epoch(images, BATCH)
    return 2 * spec.epochs * steps * batch


class Autoencoder(nn.Module):
    """A convolutional autoencoder.

    The encoder has convolutions of stride 2, down to at most 2×2 pixels, and a linear layer; the
    decoder mirrors it. `encoder` maps pixels in [0, 1] (B, C, H, W) to codes (B, Z), and `decoder`
    maps codes to pixels.

    Args:
        shape: C, H and W, each at least 1.
        latent: Z.
        width: channels of the first layer. They double with each layer, up to `WIDEST` times.
    """

    def __init__(self, shape: tuple[int, int, int], latent: int, width: int) -> None:
        super().__init__()
        channels, height, width_px = shape
        sizes = _sizes(height, width_px)
        widths = [channels, *(width * min(2**i, WIDEST) for i in range(len(sizes) - 1))]
        flat = widths[-1] * sizes[-1][0] * sizes[-1][1]
        shrink: list[nn.Module] = []
        grow: list[nn.Module] = []
        for i, (before, after) in enumerate(itertools.pairwise(widths)):
            norm = nn.BatchNorm2d(after) if i else nn.Identity()  # none in the first layer
            conv = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=i == 0)
            shrink += [conv, norm, nn.LeakyReLU(0.2, inplace=True)]
            end = [nn.BatchNorm2d(before), nn.ReLU(inplace=True)] if i else [nn.Sigmoid()]
            grow = [_Grow(after, before, sizes[i], bias=i == 0), *end, *grow]
        self.encoder = nn.Sequential(*shrink, nn.Flatten(), nn.Linear(flat, latent))
        self.decoder = nn.Sequential(
            nn.Linear(latent, flat),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, (widths[-1], *sizes[-1])),
            *grow,
        )


class _Grow(nn.Module):
    """A transposed convolution that doubles height and width, cropped to `size` for odd sizes."""

    def __init__(self, before: int, after: int, size: tuple[int, int], bias: bool) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=bias)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        grown: Tensor = self.conv(x)[..., : self.size[0], : self.size[1]]
        return grown


def train_autoencoder(
    spec: DeepSmote, images_NCHW: Tensor, labels_N: Tensor, rng: np.random.Generator
) -> tuple[Autoencoder, Tensor]:
    """Train an autoencoder.

    The loss of a step is the mean squared reconstruction error of a batch, plus a penalty for a
    batch of one class: the mean squared error between the images that its codes decode to, without
    a gradient for the encoder, and other images of that class (`permuted`) or the same images
    (`matched`).

    Returns:
        The autoencoder in evaluation mode, and its mean loss in each epoch (epochs,).
    """
    device = images_NCHW.device
    model = _new_autoencoder(spec, images_NCHW, rng).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=spec.lr)
    members = _members(labels_N)
    losses = []
    for _ in range(spec.epochs):
        index_SB, own_SB, other_SB = (
            torch.from_numpy(index).to(device) for index in _draw_epoch(len(labels_N), members, rng)
        )
        if spec.penalty == "matched":
            other_SB = own_SB
        loss_S = torch.empty(len(index_SB), device=device)
        for step in range(len(index_SB)):
            rows = (index_SB[step], own_SB[step], other_SB[step])
            loss = _loss(model, *(_pixels(images_NCHW[index_B]) for index_B in rows))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_S[step] = loss.detach()
        losses.append(loss_S.mean())
    return model.eval(), torch.stack(losses)


def encode(model: Autoencoder, images_NCHW: Tensor) -> Tensor:
    """The latent codes (N, Z) of uint8 images, without gradients."""
    with torch.no_grad():
        return torch.cat([model.encoder(_pixels(block)) for block in images_NCHW.split(BATCH)])


def decode(model: Autoencoder, latents_NZ: Tensor) -> Tensor:
    """The uint8 images (N, C, H, W) of latent codes, without gradients; synchronises.

    Raises:
        DivergenceError: a code or pixel is not finite: as a byte it would be any number.
    """
    made, is_finite = [], latents_NZ.isfinite().all()
    with torch.no_grad():
        for block in latents_NZ.split(BATCH):
            pixels_BCHW = model.decoder(block)
            is_finite &= pixels_BCHW.isfinite().all()
            made.append((pixels_BCHW * 255).round().byte())
    if not is_finite:
        raise DivergenceError("generate=deepsmote: the autoencoder's images are not finite")
    return torch.cat(made)


def smote(latents_NZ: Tensor, neighbours: int, total: int, rng: np.random.Generator) -> Tensor:
    """SMOTE: points on the segments from random points to their neighbours.

    Args:
        latents_NZ: the points of one class.
        neighbours: how many nearest points are chosen from; all others if there are fewer. A
            single point is returned as it is.
        total: the number of new points.
        rng: makes the draws.

    Returns:
        The new points (total, Z).
    """
    count, device = len(latents_NZ), latents_NZ.device
    base = torch.from_numpy(rng.integers(0, count, total)).to(device)
    if count == 1:
        return latents_NZ[base]
    near_NJ = _nearest(latents_NZ, min(neighbours, count - 1))
    column = torch.from_numpy(rng.integers(0, near_NJ.shape[1], total)).to(device)
    share = torch.from_numpy(rng.random((total, 1), dtype=np.float32)).to(latents_NZ)
    start, end = latents_NZ[base], latents_NZ[near_NJ[base, column]]
    return torch.lerp(start, end, share)


def _nearest(latents_NZ: Tensor, neighbours: int) -> Tensor:
    """The indices of the nearest other latents of each one, nearest first (N, J)."""
    rows_N = torch.arange(len(latents_NZ), device=latents_NZ.device)
    # all columns at once: in blocks, distances could differ in the last bit, and so the results
    found = [
        nearest_members(latents_NZ, block, rows_N, neighbours, columns=len(rows_N))
        for block in rows_N.split(ROWS)
    ]
    return torch.cat(found)


def _loss(model: Autoencoder, batch: Tensor, own: Tensor, target: Tensor) -> Tensor:
    """The reconstruction error of `batch`, plus that of decoding the codes of `own` to `target`."""
    with torch.no_grad():
        codes_BZ = model.encoder(own)
    reconstruction = F.mse_loss(model.decoder(model.encoder(batch)), batch)
    return reconstruction + F.mse_loss(model.decoder(codes_BZ), target)


def _draw_epoch(
    images: int, members: list[Ints], rng: np.random.Generator
) -> tuple[Ints, Ints, Ints]:
    """The image indices of an epoch, each (S, B).

    Returns:
        The images of each step's batch; images of one random class; and the same images shifted by
        one within the batch, as targets of the penalty.
    """
    steps, batch = steps_per_epoch(images, BATCH)
    order = np.concatenate([rng.permutation(images) for _ in range(-(-steps * batch // images))])
    own = [rng.choice(members[rng.integers(len(members))], batch) for _ in range(steps)]
    own_SB = np.stack(own)
    return order[: steps * batch].reshape(steps, batch), own_SB, np.roll(own_SB, 1, axis=1)


def _members(labels_N: Tensor) -> list[Ints]:
    """The indices of the images of each class that has any."""
    labels = labels_N.cpu().numpy()
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


def _pixels(images: Tensor) -> Tensor:
    """uint8 pixels as float32 in [0, 1]."""
    return images.float() / 255


def _sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Height and width of the image and after each layer: halved until both are at most 2."""
    sizes = [(height, width), (-(-height // 2), -(-width // 2))]
    while max(sizes[-1]) > 2:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


def _new_autoencoder(spec: DeepSmote, images_NCHW: Tensor, rng: np.random.Generator) -> Autoencoder:
    """A new autoencoder, initialised on the CPU so that its weights are the same on all devices."""
    _, channels, height, width = images_NCHW.shape
    with torch.random.fork_rng(devices=[]):
        # only the CPU's generator: torch.manual_seed would also reset those of the GPUs
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        return Autoencoder((channels, height, width), spec.latent, spec.width)
