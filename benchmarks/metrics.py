"""CPU time of all metrics, on one thread: after an epoch (confusion matrix) and at a rung (logits).

python benchmarks/metrics.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from imbtune.metrics.metric import compute
from imbtune.metrics.predictions import Confusion, Predictions

SIZES = ((300, 10), (2_000, 10), (10_000, 10), (10_000, 100), (20_000, 1_000))  # images, classes


def milliseconds(function: Callable[[], object], repeats: int) -> float:
    """The median CPU time of a call."""
    function()
    found = []
    for _ in range(repeats):
        started = time.process_time()
        function()
        found.append(time.process_time() - started)
    return 1000 * float(np.median(found))


def measure(images: int, classes: int) -> str:
    """What random predictions of so many images take, in words."""
    logits_NK, labels_N = torch.randn(images, classes), torch.arange(images) % classes
    train_K, names = np.full(classes, 50), [str(k) for k in range(classes)]

    def predictions() -> Predictions:
        return Predictions(logits_NK, labels_N, names, train_K)

    matrix_KK = predictions().confusion.matrix_KK
    epoch = milliseconds(lambda: compute(Confusion.of(matrix_KK, train_K, names)), 20)
    rung = milliseconds(lambda: compute(predictions()), 5 if images * classes < 2e6 else 1)
    return f"{images:,} images, {classes:,} classes: epoch {epoch:.2f} ms, rung {rung:.1f} ms"


if __name__ == "__main__":
    torch.set_num_threads(1)
    for size in SIZES:
        print(measure(*size))
