"""The splits of a data set for a search, and for the final training.

The training images of each class are shuffled with `subset_seed`. The first n_k of them, according
to the imbalance profile, are the benchmark's training set. The validation images come from the
remaining images; if a class has too few of these, the others are held out from its n_k during the
search and return for the final training. Remaining images are never trained on, since that would
change the imbalance ratio.

    search:  train = the n_k, without those held out    validation = val_per_class of each class
    final:   train = all n_k                            test = the data set's test set

With `profile: as_is` no images remain. Then the share `val_share` of each class is held out: at
least one image, and at least one stays for training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from imbtune.data.images import Bytes, EncodedPixels, Images, Ints, Pixels
from imbtune.data.imbalance import Imbalance, profile_counts
from imbtune.errors import DataError
from imbtune.seeds import Purpose

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
    """How a data set's pixels become network input: normalisation and standard augmentation.

    Args:
        mean: of each channel, for pixels in [0, 1].
        std: standard deviation of each channel, for pixels in [0, 1].
        pad: the largest random shift in pixels; 0 for none.
        flip: whether to mirror images at random.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    pad: int = 0
    flip: bool = False


@dataclass(frozen=True)
class Dataset:
    """A whole data set, with its own split into training and test images.

    Args:
        train: the training images.
        test: the test images.
        classes: the names of the classes, in the order of their labels.
        preprocessing: how pixels become network input.
        notes: messages for the user about how the data was read, one line each.
    """

    train: Images
    test: Images
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Splits:
    """The data of one training run.

    Args:
        train: the images that are trained on.
        held_out: the images that the model is evaluated on: the validation set in a search, the
            test set in the final training.
        classes: the names of the classes, in the order of their labels.
        preprocessing: how pixels become network input.
        notes: messages for the user about how the data was read, one line each.
        calibration: images of a final training that it does not train on, for the temperature of
            the finished model; None for none.
    """

    train: Images
    held_out: Images
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    notes: tuple[str, ...] = ()
    calibration: Images | None = None

    def counts(self) -> Ints:
        """The number of training images of each class, (K,)."""
        return self.train.counts(len(self.classes))

    def fingerprint(self) -> str:
        """SHA-256 in hex over the pixels and labels of all parts."""
        kept = b"" if self.calibration is None else self.calibration.digest()
        digests = self.train.digest() + self.held_out.digest() + kept
        return hashlib.sha256(digests).hexdigest()


def search_splits(dataset: Dataset, imbalance: Imbalance) -> Splits:
    """The training and validation sets of a search, both from the training images.

    Raises:
        DataError: a class has too few images for the profile or the validation set.
    """
    kept, validation = _select(dataset.train, dataset.classes, imbalance)
    train = dataset.train.take(kept[~np.isin(kept, validation)])
    return _splits(dataset, imbalance, train, dataset.train.take(validation))


def final_splits(dataset: Dataset, imbalance: Imbalance) -> Splits:
    """The whole training set of the benchmark, and the test set.

    Raises:
        DataError: as :func:`search_splits`.
    """
    kept, _ = _select(dataset.train, dataset.classes, imbalance)
    return _splits(dataset, imbalance, dataset.train.take(kept), dataset.test)


def with_calibration(splits: Splits, share: float, seed: int) -> Splits:
    """The same data, of which a share of each class's training images trains nothing.

    The share is rounded: at least one image of each class is kept, and at least one trains.

    Args:
        splits: of a final training.
        share: in (0, 1).
        seed: decides which images are kept.

    Raises:
        DataError: a class has one training image.
    """
    counts_K = splits.counts()
    if counts_K.min() < 2:
        k = int(counts_K.argmin())
        raise DataError(
            f"--calibrate {share:g} keeps images of every class, and class '{splits.classes[k]}' "
            f"has {counts_K[k]} training image: leave the option out, add images, or leave the "
            "class out"
        )
    random, labels = np.random.default_rng([seed, Purpose.TEMPERATURE]), splits.train.labels
    kept = [
        random.permutation(np.flatnonzero(labels == k))[:n]
        for k, n in enumerate(share_counts(share, counts_K))
    ]
    index = np.sort(np.concatenate(kept))
    rest = np.setdiff1d(np.arange(len(labels)), index)
    train = splits.train
    return replace(splits, train=train.take(rest), calibration=train.take(index))


def _splits(dataset: Dataset, imbalance: Imbalance, train: Images, held_out: Images) -> Splits:
    preprocessing = _augmented(dataset.preprocessing, imbalance.augment, train.pixels.shape[2])
    return Splits(train, held_out, dataset.classes, preprocessing, dataset.notes)


def standard_pad(height: int) -> int:
    """The usual shift in pixels: an eighth of the height (4 of CIFAR's 32), at least 1."""
    return max(1, height // 8)


def _augmented(preprocessing: Preprocessing, augment: str, height: int) -> Preprocessing:
    """`preprocessing` with the augmentation of the knob `data.augment`."""
    if augment == "standard":
        return preprocessing
    pad = 0 if augment == "none" else preprocessing.pad or standard_pad(height)
    return replace(preprocessing, pad=pad, flip=augment == "shift_flip")


def _select(train: Images, classes: tuple[str, ...], imbalance: Imbalance) -> tuple[Ints, Ints]:
    """The indices of the benchmark's training images and of the validation images.

    The two overlap where a class has too few other images.
    """
    available_K = train.counts(len(classes))
    counts_K = profile_counts(imbalance, available_K, classes)
    validation_K = _validation_counts(imbalance, available_K, classes)
    shuffled = _class_shuffler(imbalance)
    kept, held_out = [], []
    for k, (n_k, n_val) in enumerate(zip(counts_K, validation_K, strict=True)):
        of_class = shuffled(np.flatnonzero(train.labels == k))
        overlap = max(0, n_val - (len(of_class) - n_k))
        if overlap >= n_k:
            raise DataError(
                f"data.val_per_class={imbalance.val_per_class} takes every image of class "
                f"'{classes[k]}', which has {len(of_class)}: use at most {available_K.min() - 1}"
            )
        start = n_k - overlap  # the class's last training images, then the remaining images
        kept.append(of_class[:n_k])
        held_out.append(of_class[start : start + n_val])
    return np.concatenate(kept), np.concatenate(held_out)


def _class_shuffler(imbalance: Imbalance) -> Callable[[Ints], Ints]:
    """Shuffles the indices of one class; called for the classes in the order of their labels.

    `subset: standard` repeats LDAM-DRW's `IMBALANCECIFAR10`, which all CIFAR-LT code has copied:
    `np.random.seed(rand_number)` once, with `rand_number` 0, then `np.random.shuffle` of each
    class's indices. It gives the published images where the data set has its original order.
    """
    if imbalance.subset == "drawn":
        return np.random.default_rng(imbalance.subset_seed).permutation
    return np.random.RandomState(imbalance.subset_seed % 2**32).permutation


def _validation_counts(imbalance: Imbalance, available_K: Ints, classes: tuple[str, ...]) -> Ints:
    """The number of validation images of each class, (K,).

    Raises:
        DataError: with `profile: as_is`, a class with fewer than 2 images.
    """
    if imbalance.profile != "as_is":
        return np.full_like(available_K, imbalance.val_per_class)
    if available_K.min() < 2:
        k = int(available_K.argmin())
        raise DataError(
            f"class '{classes[k]}' has {available_K[k]} training image, but profile 'as_is' needs "
            f"2, one for training and one for validation: add images or leave the class out"
        )
    return share_counts(imbalance.val_share, available_K)


def share_counts(share: float, available_K: Ints) -> Ints:
    """A share of the images of each class, rounded, (K,): at least one, and at least one remains.

    Args:
        share: in [0, 1].
        available_K: the images of each class, at least 2.
    """
    counts_K: Ints = np.clip(np.rint(share * available_K).astype(np.int64), 1, available_K - 1)
    return counts_K
