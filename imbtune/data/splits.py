"""From a whole data set to what a search sees, and to what a final training sees.

Each class's training images are shuffled once by `subset_seed`. The first n_k are the benchmark's
training set. Validation images come from those left over; where a class leaves too few, the rest
is held out of its n_k and returns for the final training. Images left over never train anything:
they would change the imbalance ratio.

    search:  train = n_k minus what is held out     val  = val_per_class of each class
    final:   train = all n_k                        test = the data set's own test set
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbtune.data.profiles import Imbalance, profile_counts
from imbtune.errors import DataError

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Images:
    """Images (N, C, H, W) uint8 with their labels (N,) int64 in 0 … K-1."""

    pixels: Bytes
    labels: Ints

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Ints) -> Images:
        return Images(np.ascontiguousarray(self.pixels[index]), self.labels[index])

    def counts(self, classes: int) -> Ints:
        """Images of each class, (K,)."""
        return np.bincount(self.labels, minlength=classes).astype(np.int64)


@dataclass(frozen=True)
class Look:
    """How a data set's pixels become network input: its standard augmentation and scaling.

    mean, std: per channel, of pixels in [0, 1]. pad: pixels of a random shift; flip: mirroring.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    pad: int = 0
    flip: bool = False


@dataclass(frozen=True)
class Dataset:
    """A whole data set, balanced or not, as its makers split it."""

    train: Images
    test: Images
    classes: tuple[str, ...]
    look: Look


@dataclass(frozen=True)
class Splits:
    """What one training run may see: `train` to learn from, `held` to be scored on.

    In a search `held` is the validation set; in a final training it is the test set.
    """

    train: Images
    held: Images
    classes: tuple[str, ...]
    look: Look

    def counts(self) -> Ints:
        return self.train.counts(len(self.classes))

    def fingerprint(self) -> str:
        """SHA-256 over the pixels and labels of both parts: the same data, the same figure."""
        digest = hashlib.sha256()
        for part in (self.train, self.held):
            digest.update(np.ascontiguousarray(part.pixels).data)
            digest.update(np.ascontiguousarray(part.labels).data)
        return digest.hexdigest()


def search_splits(dataset: Dataset, imbalance: Imbalance) -> Splits:
    """Train and validation sets for a search, carved from the training data alone."""
    kept, held = _carve(dataset.train, len(dataset.classes), imbalance)
    held_out = np.isin(kept, held)
    return _splits(
        dataset, imbalance, dataset.train.take(kept[~held_out]), dataset.train.take(held)
    )


def final_splits(dataset: Dataset, imbalance: Imbalance) -> Splits:
    """The benchmark's whole training set, and the test set."""
    kept, _ = _carve(dataset.train, len(dataset.classes), imbalance)
    return _splits(dataset, imbalance, dataset.train.take(kept), dataset.test)


def _splits(dataset: Dataset, imbalance: Imbalance, train: Images, held: Images) -> Splits:
    look = dataset.look
    if imbalance.augment == "none":
        look = Look(look.mean, look.std)
    return Splits(train, held, dataset.classes, look)


def _carve(train: Images, classes: int, imbalance: Imbalance) -> tuple[Ints, Ints]:
    """Indices of the benchmark's training images, and of the validation images."""
    available_K = train.counts(classes)
    counts_K = profile_counts(imbalance, available_K)
    rng = np.random.default_rng(imbalance.subset_seed)
    kept, held = [], []
    for k, n_k in enumerate(counts_K):
        of_class = rng.permutation(np.flatnonzero(train.labels == k))
        held_out = max(0, imbalance.val_per_class - (len(of_class) - n_k))
        if held_out >= n_k:
            raise DataError(
                f"data.val_per_class={imbalance.val_per_class} takes every image of class {k}, "
                f"which has {len(of_class)}: use at most {available_K.min() - 1}"
            )
        start = n_k - held_out  # the class's last training images, then those left over
        kept.append(of_class[:n_k])
        held.append(of_class[start : start + imbalance.val_per_class])
    return np.concatenate(kept), np.concatenate(held)
