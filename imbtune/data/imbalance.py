"""Imbalance profiles: the number of training images of each class.

With n_max images in the largest class, f = 1/ratio, and K classes k in the order of their labels:

    exp:   n_k = int(n_max · f^(k/(K-1)))          (CIFAR-LT; Cao et al. 2019)
    step:  n_k = n_max for the first K//2 classes, int(n_max · f) for the others
    as_is: n_k = all images of class k
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from imbtune.errors import DataError
from imbtune.limits import SEED
from imbtune.registry import Knob

LDAM = "Cao et al. 2019, arXiv 1906.07413"
Ints = NDArray[np.int64]
SubsetSeed = Annotated[int, Knob("seed of the choice of images; not the training seed", 0, SEED)]


@dataclass(frozen=True)
class Imbalance:
    """The knobs of every data set: imbalance profile, validation split and augmentation."""

    profile: Annotated[
        str, Knob("how class sizes decrease", choices=("exp", "step", "as_is"), source=LDAM)
    ] = "exp"
    ratio: Annotated[float, Knob("largest class / smallest class", 1, source=LDAM)] = 100.0
    head: Annotated[
        int, Knob("images of the largest class; 0 is as many as the smallest class has", 0)
    ] = 0
    val_per_class: Annotated[
        int, Knob("validation images of each class; profile as_is uses val_share instead", 1)
    ] = 100
    val_share: Annotated[
        float, Knob("validation share of each class with profile as_is", 0.01, 0.9)
    ] = 0.2
    subset_seed: SubsetSeed = 0
    subset: Annotated[
        str,
        Knob(
            "which images of a class the profile keeps: drawn with NumPy's Generator (drawn), or "
            "those of the published benchmarks, drawn as in LDAM-DRW's code (standard)",
            choices=("drawn", "standard"),
            source=LDAM,
        ),
    ] = "drawn"
    augment: Annotated[
        str,
        Knob(
            "random shift and mirroring of training images; standard is the data set's default",
            choices=("standard", "shift", "shift_flip", "none"),
        ),
    ] = "standard"


def profile_counts(
    imbalance: Imbalance, available_K: Ints, classes: Sequence[str] | None = None
) -> Ints:
    """The number of training images of each class, int64 (K,).

    Args:
        imbalance: the profile.
        available_K: the images that the data set has of each class.
        classes: the names of the classes, for messages; None for their labels.

    Raises:
        DataError: the profile leaves a class without images, or needs more than it has.
    """
    if imbalance.profile == "as_is":
        return available_K.copy()
    n_max, K = imbalance.head or int(available_K.min()), len(available_K)
    fraction = 1 / imbalance.ratio
    if imbalance.profile == "exp":
        counts = [_floor(n_max * fraction ** (k / max(K - 1, 1))) for k in range(K)]
    else:
        counts = [n_max if k < K // 2 else _floor(n_max * fraction) for k in range(K)]
    names = classes or [str(k) for k in range(K)]
    for k, (want, have) in enumerate(zip(counts, available_K, strict=True)):
        if want < 1:
            raise DataError(
                f"data.ratio={imbalance.ratio:g} leaves class '{names[k]}' without an image "
                f"({n_max} in the largest class): use a ratio of at most {n_max}"
            )
        if want > have:
            raise DataError(
                f"class '{names[k]}' has {have} images, but the profile needs {want}: "
                f"set data.head to at most {int(available_K.min())}"
            )
    return np.array(counts, dtype=np.int64)


def _floor(images: float) -> int:
    """int(), except where rounding errors put a whole number just below itself (4900 · (1/49))."""
    return int(images * (1 + 1e-12))
