"""Images a second of the training step: float32 against bfloat16, in turn, on this machine.

    python benchmarks/step_rate.py [--model resnet32] [--repeats 5]

Prints the median of repeated pairs and their ratio; the data are noise, which costs the same.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from imbtune.config import TrainConfig
from imbtune.data.splits import Images, Look, Splits
from imbtune.training.device_data import DeviceData
from imbtune.training.loop import TrainState, pick_device, train_epoch
from imbtune.training.progress import whole_run

IMAGES = 128 * 10


def noise_splits() -> Splits:
    """Ten balanced classes of 32×32 RGB noise, with CIFAR's crop and flip."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (IMAGES, 3, 32, 32), dtype=np.uint8)
    images = Images(pixels, np.arange(IMAGES, dtype=np.int64) % 10)
    names = tuple(str(k) for k in range(10))
    return Splits(images, images, names, Look((0.5,) * 3, (0.25,) * 3, pad=4, flip=True))


def rate(model: str, precision: str, data: DeviceData) -> float:
    """Images a second of one epoch of margin-aware Mixup, after one that warms up."""
    settings = {"model": model, "mix": "mamix", "precision": precision, "epochs": 2}
    config = TrainConfig.from_settings(settings)
    state = TrainState(config, data)
    first, second = whole_run(2, config.schedule.shared)
    train_epoch(state, data, first)
    started = time.perf_counter()
    train_epoch(state, data, second)
    return IMAGES / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet32")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    data = DeviceData(noise_splits(), pick_device())
    pairs = [
        (rate(options.model, "float32", data), rate(options.model, "bfloat16", data))
        for _ in range(options.repeats)
    ]
    plain, narrow = (statistics.median(rates) for rates in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    threads = torch.get_num_threads()
    print(f"{options.model} on {data.device}, {threads} threads, torch {torch.__version__}")
    print(f"float32 {plain:.0f} images/s, bfloat16 {narrow:.0f} images/s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
