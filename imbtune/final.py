"""The final training of one configuration: all training data, the full budget, one look at test."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imbtune.config import TrainConfig
from imbtune.data.datasets import data_root, load
from imbtune.data.splits import Splits, final_splits
from imbtune.errors import StudyError
from imbtune.models.networks import Classifier
from imbtune.training.device_data import DeviceData
from imbtune.training.loop import TrainState, pick_device, train_epoch
from imbtune.training.metrics import metrics, recalls
from imbtune.training.model import new_model, try_model
from imbtune.training.progress import whole_run

SPOKEN = 10  # progress lines of one run


@dataclass(frozen=True)
class FinalRun:
    """One seed's run: its test figures, and its confusion matrix (K, K) on the test set."""

    seed: int
    figures: dict[str, float | None]
    recall_K: list[float]
    confusion_KK: list[list[int]]
    seconds: float


def train_final(
    config: TrainConfig,
    seeds: int,
    out: Path,
    data: Path | None,
    provenance: dict[str, Any],
    say: Callable[[str], None],
) -> list[FinalRun]:
    """Train `config` with `seeds` seeds from its own on; write models, configuration and results.

    The test set is evaluated once a run, after the last epoch. `out` gets `config.yaml`,
    `model-seed0.pt`, … and `results.json`, anew after every seed.

    Raises:
        ImbtuneError: before anything is trained: the data, the model, a folder that is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StudyError(f"{out} exists already and would be overwritten: give another --out")
    dataset = load(config.data.name, data_root(data))
    splits = final_splits(dataset, config.data.shared)
    device = pick_device()
    tensors = DeviceData(splits, device)
    try_model(config, splits)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"cannot write to {out} ({error.strerror}): give another --out") from error
    say(
        f"{config.data.name}: {len(splits.train)} training and {len(splits.held)} test images, "
        f"{len(splits.classes)} classes; {config.epochs} epochs on {device}"
    )
    runs = []
    for seed in range(config.seed, config.seed + seeds):
        runs.append(_train_seed(config.replace(seed=seed), splits, tensors, out, say))
        _write_results(out, config, splits, runs, provenance)
    return runs


def mean_and_std(runs: list[FinalRun], metric: str) -> tuple[float, float]:
    """Mean and sample standard deviation over seeds; NaN for one seed's deviation."""
    values = np.array([run.figures[metric] for run in runs], dtype=float)
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def load_model(path: str | Path) -> Classifier:
    """A model that `imbtune train` wrote, on the CPU, in evaluation mode.

    It maps normalised images (B, C, H, W) to logits (B, K); `model.classes` names the classes, and
    `model.mean`, `model.std` are the figures to normalise pixels in [0, 1] with, per channel.
    """
    saved = torch.load(path, map_location="cpu", weights_only=True)
    config = TrainConfig.from_settings(saved["settings"])
    model = new_model(config, len(saved["mean"]), len(saved["classes"]))
    model.load_state_dict(saved["state_dict"])
    model.classes, model.mean, model.std = saved["classes"], saved["mean"], saved["std"]
    return model.eval()


def _train_seed(
    config: TrainConfig, splits: Splits, data: DeviceData, out: Path, say: Callable[[str], None]
) -> FinalRun:
    started = time.monotonic()
    state = TrainState(config, data)
    epochs = whole_run(config.epochs, config.schedule.shared)
    every = max(1, len(epochs) // SPOKEN)
    for done, epoch in enumerate(epochs, 1):
        _, loss = train_epoch(state, data, epoch)
        if done % every == 0 and done < len(epochs):
            say(f"seed {config.seed}: epoch {done}/{len(epochs)}, loss {loss:.3f}")
    confusion_KK = state.evaluate(data)
    _save_model(out / f"model-seed{config.seed}.pt", config, splits, state)
    figures = metrics(confusion_KK, data.counts_K)
    seconds = time.monotonic() - started
    say(
        f"seed {config.seed}: test balanced accuracy {figures['balanced_accuracy']:.4f} "
        f"({seconds:.0f} s)"
    )
    return FinalRun(
        config.seed, figures, recalls(confusion_KK).tolist(), confusion_KK.tolist(), seconds
    )


def _save_model(path: Path, config: TrainConfig, splits: Splits, state: TrainState) -> None:
    content = {
        "settings": config.flat(),
        "classes": list(splits.classes),
        "mean": list(splits.look.mean),
        "std": list(splits.look.std),
        "state_dict": {name: tensor.cpu() for name, tensor in state.model.state_dict().items()},
    }
    torch.save(content, path)


def _write_results(
    out: Path,
    config: TrainConfig,
    splits: Splits,
    runs: list[FinalRun],
    provenance: dict[str, Any],
) -> None:
    (out / "config.yaml").write_text(config.yaml(), encoding="utf-8")
    names = [name for name, value in runs[0].figures.items() if value is not None]
    summary = {
        name: dict(zip(("mean", "std"), mean_and_std(runs, name), strict=True)) for name in names
    }
    content = {
        "test": {
            name: {k: v for k, v in figures.items() if v == v}  # one seed has no deviation
            for name, figures in summary.items()
        },
        "runs": [vars(run) for run in runs],
        "classes": list(splits.classes),
        "training_counts": splits.counts().tolist(),
        "data_sha256": splits.fingerprint(),
        "config": config.nested(),
        "provenance": provenance,
    }
    (out / "results.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
