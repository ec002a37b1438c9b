"""From a whole data set to what a search sees, and to what a final training sees.

Each class's training images are shuffled once by `subset_seed`. The first n_k are the benchmark's
training set. Validation images come from those left over; where a class leaves too few, the rest
is held out of its n_k and returns for the final training. Images left over never train anything:
they would change the imbalance ratio.

    search:  train = n_k minus what is held out     val  = val_per_class of each class
    final:   train = all n_k                        test = the data set's own test set

A data set that is imbalanced already (`profile: as_is`) leaves nothing over: there the share
val_share of each class is held out, at least one image, and at least one stays.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from imbtune.data.images import Bytes, EncodedPixels, Images, Ints, Pixels
from imbtune.data.imbalance import Imbalance, profile_counts
from imbtune.errors import DataError

__all__ = [
    "Bytes",
    "Dataset",
    "EncodedPixels",
    "Images",
    "Ints",
    "Pixels",
    "Preprocessing",
    "Splits",
]


@dataclass(frozen=True)
class Preprocessing:
    """How a data set's pixels become network input: its standard augmentation and scaling.

    mean, std: per channel, of pixels in [0, 1]. pad: pixels of a random shift; flip: mirroring.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    pad: int = 0
    flip: bool = False


@dataclass(frozen=True)
class Dataset:
    """A whole data set, balanced or not, as its makers split it.

    notes: what the user must be told of how it was read, a line each.
    """

    train: Images
    test: Images
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Splits:
    """What one training run may see: `train` to learn from, `held_out` to be scored on.

    In a search `held_out` is the validation set; in a final training it is the test set.
    """

    train: Images
    held_out: Images
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    notes: tuple[str, ...] = ()

    def counts(self) -> Ints:
        return self.train.counts(len(self.classes))

    def fingerprint(self) -> str:
        """SHA-256 over the pixels and labels of both parts: the same data, the same figure."""
        return hashlib.sha256(self.train.digest() + self.held_out.digest()).hexdigest()


def search_splits(dataset: Dataset, imbalance: Imbalance) -> Splits:
    """Train and validation sets for a search, carved from the training data alone."""
    kept, held = _carve(dataset.train, dataset.classes, imbalance)
    held_out = np.isin(kept, held)
    return _splits(
        dataset, imbalance, dataset.train.take(kept[~held_out]), dataset.train.take(held)
    )


def final_splits(dataset: Dataset, imbalance: Imbalance) -> Splits:
    """The benchmark's whole training set, and the test set."""
    kept, _ = _carve(dataset.train, dataset.classes, imbalance)
    return _splits(dataset, imbalance, dataset.train.take(kept), dataset.test)


def _splits(dataset: Dataset, imbalance: Imbalance, train: Images, held: Images) -> Splits:
    preprocessing = _augmented(dataset.preprocessing, imbalance.augment, train.pixels.shape[2])
    return Splits(train, held, dataset.classes, preprocessing, dataset.notes)


def standard_pad(height: int) -> int:
    """An eighth of the image, as 4 of CIFAR's 32 and 8 of Tiny-ImageNet's 64."""
    return max(1, height // 8)


def _augmented(preprocessing: Preprocessing, augment: str, height: int) -> Preprocessing:
    if augment == "standard":
        return preprocessing
    pad = 0 if augment == "none" else preprocessing.pad or standard_pad(height)
    return replace(preprocessing, pad=pad, flip=augment == "shift_flip")


def _carve(train: Images, classes: tuple[str, ...], imbalance: Imbalance) -> tuple[Ints, Ints]:
    """Indices of the benchmark's training images, and of the validation images."""
    available_K = train.counts(len(classes))
    counts_K = profile_counts(imbalance, available_K, classes)
    validation_K = _validation_counts(imbalance, available_K, classes)
    rng = np.random.default_rng(imbalance.subset_seed)
    kept, held = [], []
    for k, (n_k, validation) in enumerate(zip(counts_K, validation_K, strict=True)):
        of_class = rng.permutation(np.flatnonzero(train.labels == k))
        held_out = max(0, validation - (len(of_class) - n_k))
        if held_out >= n_k:
            raise DataError(
                f"data.val_per_class={imbalance.val_per_class} takes every image of class "
                f"'{classes[k]}', which has {len(of_class)}: use at most {available_K.min() - 1}"
            )
        start = n_k - held_out  # the class's last training images, then those left over
        kept.append(of_class[:n_k])
        held.append(of_class[start : start + validation])
    return np.concatenate(kept), np.concatenate(held)


def _validation_counts(imbalance: Imbalance, available_K: Ints, classes: tuple[str, ...]) -> Ints:
    """Validation images of each class, (K,)."""
    if imbalance.profile != "as_is":
        return np.full_like(available_K, imbalance.val_per_class)
    if available_K.min() < 2:
        k = int(available_K.argmin())
        raise DataError(
            f"class '{classes[k]}' has {available_K[k]} training image, and profile 'as_is' needs "
            f"2, one to learn from and one to validate on: add images or leave the class out"
        )
    return share_counts(imbalance.val_share, available_K)


def share_counts(share: float, available_K: Ints) -> Ints:
    """A share of each class (K,), rounded: at least one image, and at least one is left.

    Args:
        available_K: at least 2 of each class.
    """
    counts_K: Ints = np.clip(np.rint(share * available_K).astype(np.int64), 1, available_K - 1)
    return counts_K
