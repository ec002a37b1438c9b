"""Write CIFAR-10 at 16×16 as an .npz file: real images that two CPU cores can search on.

    python benchmarks/search/shrink.py --data FOLDER_WITH_CIFAR10 --out cifar10-16.npz

Each pixel is the mean of 2×2 pixels of the original.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from imbtune.data.load import DataSource, load
from imbtune.data.splits import Images


def shrunk(images: Images) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Halve the resolution: (N, 3, 32, 32) to (N, 16, 16, 3)."""
    pooled = F.avg_pool2d(torch.from_numpy(np.asarray(images.pixels)).float(), 2)
    return pooled.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    full = load("cifar10", {}, DataSource(options.data))
    np.savez(
        options.out,
        x_train=shrunk(full.train),
        y_train=full.train.labels,
        x_test=shrunk(full.test),
        y_test=full.test.labels,
    )


if __name__ == "__main__":
    main()
