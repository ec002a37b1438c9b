"""Small models that nobody trained: for what is done with a model, whatever it learnt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from imbtune.config.train_config import TrainConfig
from imbtune.inference.calibration import Calibration
from imbtune.inference.decisions.label_shift import LabelShift
from imbtune.inference.decisions.threshold import Threshold
from imbtune.inference.preprocess import Preprocess
from imbtune.inference.trained_model import TrainedModel
from imbtune.training.model import new_model


def small_model(
    classes: Sequence[str] = ("cat", "dog"),
    shape: tuple[int, int, int] = (1, 8, 8),
    *,
    crop: bool = False,
    temperature: float | None = None,
    prior_K: Sequence[float] | None = None,
    train_K: Sequence[int] | None = None,
    threshold: Threshold | None = None,
    scale: float = 1.0,
    **settings: Any,
) -> TrainedModel:
    """A model with random weights, always the same.

    Args:
        temperature: of a calibration; with it `prior_K`, the class mix that the probabilities
            imply, equal shares unless given.
        train_K: training images; 30, 29, … unless given.
        settings: of the configuration, such as `model`; a small_cnn unless given.
    """
    chosen = {"model.width": 4} if "model" not in settings else {}
    config = TrainConfig.from_settings({**chosen, **settings})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = new_model(config, shape[0], len(classes))
    preprocess = Preprocess((0.5,) * shape[0], (0.25,) * shape[0], shape, crop)
    calibration = None
    if temperature is not None:
        shift = LabelShift(temperature, tuple(prior_K or [1 / len(classes)] * len(classes)))
        calibration = Calibration(temperature, 9, "some", (1.0, 1.0), (0.0, 0.0), shift)
    counts = train_K or list(range(30, 30 - len(classes), -1))
    return TrainedModel(
        network,
        classes=classes,
        preprocess=preprocess,
        scale=scale,
        config=config,
        calibration=calibration,
        train_K=np.array(counts, dtype=np.int64),
        threshold=threshold,
    )


def threshold_at(log_odds: float, positive: str = "dog") -> Threshold:
    """A threshold that somebody chose."""
    return Threshold(
        positive, log_odds, (log_odds - 1, log_odds + 1), "f_beta", 0.9, 0.8, (0.7, 0.9), 0.5,
        ("dog", 0.6), None, "9 images", {"cat": 5, "dog": 4},
    )  # fmt: skip


def write_images(folder: Path, count: int, size: tuple[int, int] = (8, 8), seed: int = 0) -> None:
    """Grey PNG files 0.png, 1.png, … of random pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        pixels = rng.integers(0, 256, size[::-1], dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
