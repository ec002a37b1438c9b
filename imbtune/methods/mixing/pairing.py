"""Pairings: which image x_j is mixed into each image x_i.

A pairing is a function `(index_SB, images, rng) -> partner_SB`: from the int64 indices of the
epoch's training images to those of their partners, both (S, B). Shapes: B a batch, S steps of an
epoch, N training images, K classes.
"""

from __future__ import annotations

from typing import Annotated, Protocol

import numpy as np
from numpy.typing import NDArray

from imbtune.methods.class_sampling import class_shares, draw_indices
from imbtune.registry import Knob, Registry

MAMIX = "Cheng & Lin 2023, arXiv 2308.15457"
MIXUP = "Zhang et al. 2018, arXiv 1710.09412"
SMOTE = "Chawla et al. 2002, doi 10.1613/jair.953"
CMO = "Park et al. 2022, arXiv 2112.00412"

Ints = NDArray[np.int64]


class TrainingImages(Protocol):
    """The training images as a pairing sees them: labels, and nearest neighbours."""

    @property
    def host_labels_N(self) -> Ints:
        """The class of each image, in host memory."""
        ...

    def nearest(self, k: int, same_class: bool, space: str) -> tuple[Ints, Ints]:
        """The k nearest other images of each image.

        Args:
            same_class: search among images of the same class only.
            space: Euclidean distance between `pixels`, or `features` of the current network.

        Returns:
            Their indices, nearest first (N, k), and how many of them exist (N,): fewer than k
            where there are not as many other images.
        """
        ...


pairings = Registry("pairing", "which image is mixed in")


@pairings.register("shuffle", help="another image of the same batch", source=MIXUP)
def shuffle(index_SB: Ints, images: TrainingImages, rng: np.random.Generator) -> Ints:
    """A random permutation of each batch, so partners follow the sampler's distribution. (S, B)"""
    return rng.permuted(index_SB, axis=1)


@pairings.register("tail_weighted", help="an image drawn with weight n_k^(-p)", source=CMO)
def tail_weighted(
    index_SB: Ints,
    images: TrainingImages,
    rng: np.random.Generator,
    *,
    power: Annotated[
        float,
        Knob(
            "p: 0 images equally often, 1 classes equally often, above 1 rare classes more often",
            0,
            4,
            (0, 2),
        ),
    ] = 1.0,
) -> Ints:
    """Partners from the whole training set, class k with probability ∝ n_k^(1-p). (S, B)

    p = `power`. CMO has p = 1, UniMix p = 0.5 (its τ is -p).
    """
    shares_K = class_shares(np.bincount(images.host_labels_N), 1 - power)
    drawn = draw_indices(shares_K, images.host_labels_N, index_SB.size, rng)
    return drawn.reshape(index_SB.shape)


_NEIGHBOURS = Knob(
    "k, the number of nearest images that a partner is drawn from",
    1,
    32,
    search=(3, 15),
    source=SMOTE,
)
_SPACE = Knob(
    "what distances are measured on: pixels, or the current network's features, which costs one "
    "pass over the images without gradients in every epoch",
    choices=("pixels", "features"),
    source=MAMIX,
)


@pairings.register(
    "same_class_knn", help="a near image of the same class", source=SMOTE, aligned=True
)
def same_class_knn(
    index_SB: Ints,
    images: TrainingImages,
    rng: np.random.Generator,
    *,
    neighbours: Annotated[int, _NEIGHBOURS] = 5,
    space: Annotated[str, _SPACE] = "pixels",
) -> Ints:
    """One of the k nearest images of the same class; x_i if its class has no other. (S, B)"""
    return _draw_neighbour(index_SB, *images.nearest(neighbours, True, space), rng)


@pairings.register("any_class_knn", help="a near image of any class", source=MAMIX, aligned=True)
def any_class_knn(
    index_SB: Ints,
    images: TrainingImages,
    rng: np.random.Generator,
    *,
    neighbours: Annotated[int, _NEIGHBOURS] = 5,
    space: Annotated[str, _SPACE] = "pixels",
) -> Ints:
    """One of the k nearest images, of any class. (S, B)"""
    return _draw_neighbour(index_SB, *images.nearest(neighbours, False, space), rng)


def _draw_neighbour(index_SB: Ints, nearest: Ints, found: Ints, rng: np.random.Generator) -> Ints:
    """One of the nearest images of each, uniformly; the image itself if it has none."""
    column_SB = np.floor(rng.random(index_SB.shape) * found[index_SB]).astype(np.int64)
    partner_SB = nearest[index_SB, column_SB]
    return np.where(found[index_SB] > 0, partner_SB, index_SB)
