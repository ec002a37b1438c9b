"""Small data sets made up on the spot."""

from __future__ import annotations

import numpy as np

from imbtune.data.splits import Images, Preprocessing, Splits


def make_images(counts: list[int], size: int = 8, channels: int = 1, seed: int = 0) -> Images:
    """Noise around one random pattern a class: learnable, and no two images alike."""
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(1).integers(40, 215, (len(counts), channels, size, size))
    labels = np.repeat(np.arange(len(counts)), counts)
    noise = rng.integers(-40, 40, (len(labels), channels, size, size))
    return Images((patterns[labels] + noise).astype(np.uint8), labels.astype(np.int64))


def make_splits(counts: list[int], held: int = 10, size: int = 8, channels: int = 1) -> Splits:
    """A small long-tailed data set with `held` held-out images a class."""
    preprocessing = Preprocessing((0.5,) * channels, (0.25,) * channels, pad=1, flip=True)
    return Splits(
        make_images(counts, size, channels),
        make_images([held] * len(counts), size, channels, seed=9),
        tuple(f"class{k}" for k in range(len(counts))),
        preprocessing,
    )
