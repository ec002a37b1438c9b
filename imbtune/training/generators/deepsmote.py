"""DeepSMOTE (Dablain et al. 2021, arXiv 2105.02340): SMOTE in an autoencoder's latent space.

    z = encode(x),   z̃ = z_i + u·(z_j - z_i),   x̃ = decode(z̃)

with x_j one of the k nearest of x_i's class and u ~ U(0, 1). Every class is filled up to the size
of the largest. The reference ends its decoder in tanh though its pixels are in [0, 1], and takes
only certain image sizes; here it ends in a sigmoid and takes any.

Shapes: N training images, M generated ones, K classes, B a batch, Z latent numbers, L layers.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from imbtune.errors import DataError
from imbtune.methods.image_generation import DeepSmote
from imbtune.training.device.neighbours import ROWS, nearest_members
from imbtune.training.phases import steps_per_epoch

Ints = NDArray[np.int64]
BATCH = 128  # as the reference package
WIDEST = 8  # layers double in width up to this many times the first, as the authors' do


def generate(
    spec: DeepSmote, images_NCHW: Tensor, labels_N: Tensor, classes: int, seed: int
) -> tuple[Tensor, Tensor]:
    """The images that are missing to a balanced set (M, C, H, W) uint8, and their labels (M,).

    Of class k there are exactly n_max - n_k, classes in order. The only image of a class has no
    neighbour: its copies are its reconstruction.

    Args:
        images_NCHW: uint8, on the device to work on; labels_N: int64 in [0, classes).
        seed: decides everything drawn; torch's own generators are left as they were.

    Raises:
        DataError: a class has no image.
    """
    counts_K = torch.bincount(labels_N, minlength=classes).cpu().numpy()
    if not counts_K.all():
        raise DataError(
            f"generate 'deepsmote': class {counts_K.argmin()} has no image to start from; "
            "give every class at least one"
        )
    missing_K = counts_K.max() - counts_K
    new_M = torch.from_numpy(np.repeat(np.arange(classes), missing_K)).to(labels_N.device)
    if not len(new_M):
        return images_NCHW[:0].clone(), new_M
    rng = np.random.default_rng(seed)
    model, _ = train_autoencoder(spec, images_NCHW, labels_N, rng)
    made = [images_NCHW[:0]]
    for label in np.flatnonzero(missing_K):
        latents_NZ = encode(model, images_NCHW[labels_N == int(label)])
        made.append(decode(model, smote(latents_NZ, spec.neighbours, int(missing_K[label]), rng)))
    return torch.cat(made), new_M


def passes(spec: DeepSmote, images: int) -> int:
    """Image passes (forward and backward) through the autoencoder: two of a batch a step."""
    steps, batch = steps_per_epoch(images, BATCH)
    return 2 * spec.epochs * steps * batch


class Autoencoder(nn.Module):
    """Convolutions of stride 2 down to 2×2 pixels, a linear latent code, and the way back.

    Args:
        shape: channels, height and width of the images, any of them from 1 on.
        latent: Z. width: channels of the first layer.
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
            norm = nn.BatchNorm2d(after) if i else nn.Identity()  # none on the pixels
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
    """A transposed convolution that doubles height and width, cut to `size`: odd sizes come out."""

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
    """The trained autoencoder in evaluation mode, and its mean loss in each epoch (epochs,).

    A step's loss is the squared error of a batch, plus the penalty on images of one class: their
    codes, with the encoder held fixed, have to decode to other images of that class.
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
    """The latent codes (N, Z) of uint8 images."""
    with torch.no_grad():
        return torch.cat([model.encoder(_pixels(block)) for block in images_NCHW.split(BATCH)])


def decode(model: Autoencoder, latents_NZ: Tensor) -> Tensor:
    """The uint8 images (N, C, H, W) of latent codes."""
    with torch.no_grad():
        return torch.cat(
            [(model.decoder(block) * 255).round().byte() for block in latents_NZ.split(BATCH)]
        )


def smote(latents_NZ: Tensor, neighbours: int, total: int, rng: np.random.Generator) -> Tensor:
    """`total` points, each on the segment from a random point to one of its nearest (total, Z).

    The nearest are `neighbours`, or all others where a class has fewer; a lone point stays.
    """
    count, device = len(latents_NZ), latents_NZ.device
    base = torch.from_numpy(rng.integers(0, count, total)).to(device)
    if count == 1:
        return latents_NZ[base]
    near_NJ = _nearest(latents_NZ, min(neighbours, count - 1))
    column = torch.from_numpy(rng.integers(0, near_NJ.shape[1], total)).to(device)
    share = torch.from_numpy(rng.random((total, 1), dtype=np.float32)).to(device)
    start, end = latents_NZ[base], latents_NZ[near_NJ[base, column]]
    return torch.lerp(start, end, share)


def _nearest(latents_NZ: Tensor, neighbours: int) -> Tensor:
    """The nearest other latents of each, nearest first (N, J)."""
    rows_N = torch.arange(len(latents_NZ), device=latents_NZ.device)
    # all columns at once: other blocks could change the last bit of a distance, and the results
    found = [
        nearest_members(latents_NZ, block, rows_N, neighbours, columns=len(rows_N))
        for block in rows_N.split(ROWS)
    ]
    return torch.cat(found)


def _loss(model: Autoencoder, batch: Tensor, own: Tensor, other: Tensor) -> Tensor:
    with torch.no_grad():
        codes_BZ = model.encoder(own)
    reconstruction = F.mse_loss(model.decoder(model.encoder(batch)), batch)
    return reconstruction + F.mse_loss(model.decoder(codes_BZ), other)


def _draw_epoch(
    images: int, members: list[Ints], rng: np.random.Generator
) -> tuple[Ints, Ints, Ints]:
    """Images of each step, those of the step's class, and what these must decode to (S, B) each."""
    steps, batch = steps_per_epoch(images, BATCH)
    order = np.concatenate([rng.permutation(images) for _ in range(-(-steps * batch // images))])
    own = [rng.choice(members[rng.integers(len(members))], batch) for _ in range(steps)]
    own_SB = np.stack(own)
    return order[: steps * batch].reshape(steps, batch), own_SB, np.roll(own_SB, 1, axis=1)


def _members(labels_N: Tensor) -> list[Ints]:
    """The rows of each class that has any."""
    labels = labels_N.cpu().numpy()
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


def _pixels(images: Tensor) -> Tensor:
    return images.float() / 255


def _sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Height and width of the image and after each layer, halved until both are at most 2."""
    sizes = [(height, width), (-(-height // 2), -(-width // 2))]
    while max(sizes[-1]) > 2:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


def _new_autoencoder(spec: DeepSmote, images_NCHW: Tensor, rng: np.random.Generator) -> Autoencoder:
    """On the CPU, so that the same numbers come out for every device."""
    _, channels, height, width = images_NCHW.shape
    with torch.random.fork_rng(devices=[]):
        # the CPU's generator alone: torch.manual_seed would start those of the GPUs anew as well
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        return Autoencoder((channels, height, width), spec.latent, spec.width)
