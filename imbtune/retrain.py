"""The final training of one configuration: all training data, the full budget, one look at test."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import yaml

from imbtune.config.plugins import (
    PluginModule,
    copy_sources,
    describe,
    load_plugins,
    plugin_parts,
    register,
    with_imports,
)
from imbtune.config.train_config import TrainConfig
from imbtune.data.load import DataSource, data_root, load
from imbtune.data.splits import Splits, final_splits
from imbtune.errors import StudyError
from imbtune.models.networks import Classifier
from imbtune.runtime import keep_freed_memory
from imbtune.storage import Store
from imbtune.study.tables.schema import example_table
from imbtune.training.apply_posthoc import apply_posthoc
from imbtune.training.device.device_data import DeviceData
from imbtune.training.evaluation.margins import example_margins
from imbtune.training.evaluation.metrics import compute_metrics, recalls
from imbtune.training.loop import train_epoch
from imbtune.training.model import check_model_fits, new_model
from imbtune.training.phases import whole_run
from imbtune.training.plugin_checks import check_plugins
from imbtune.training.state import TrainState, pick_device

SPOKEN = 10  # progress lines of one run


@dataclass(frozen=True)
class FinalRun:
    """One seed's run: its test figures, its confusion matrix (K, K) on the test set, and the mean
    margins of each class in training and test."""

    seed: int
    figures: dict[str, float | None]
    recall_K: list[float]
    confusion_KK: list[list[int]]
    margins: dict[str, list[float]]
    seconds: float


def train_final(
    config: TrainConfig,
    seeds: int,
    out: Path,
    data: Path | None,
    provenance: dict[str, Any],
    say: Callable[[str], None],
    imports: tuple[PluginModule, ...] = (),
    skip_corrupt: bool = False,
) -> list[FinalRun]:
    """Train `config` with `seeds` seeds from its own on; write models, configuration and results.

    The test set is evaluated once a run, when the model is finished. `out` gets `config.yaml`,
    `model-seed0.pt`, … and `results.json`, anew after every seed; the margins of every example in
    `margins-seed0.parquet`, …; and the files of `imports`, the modules with the user's own parts,
    so that all of them can be read again from there.

    Raises:
        ImbtuneError: before anything is trained: the data, the model, a folder that is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StudyError(f"{out} exists already and would be overwritten: give another --out")
    register(imports)
    data_source = DataSource(data_root(data), skip_corrupt)
    dataset = load(config.data.name, config.data.knobs, data_source)
    splits = final_splits(dataset, config.data.shared)
    keep_freed_memory()
    device = pick_device()
    tensors = DeviceData(splits, device)
    check_plugins(plugin_parts(config.flat().values()), splits)
    check_model_fits(config, splits)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"cannot write to {out} ({error.strerror}): give another --out") from error
    copy_sources(imports, Store(str(out)))
    say(
        f"{config.data.name}: {len(splits.train)} training and {len(splits.held_out)} test images, "
        f"{len(splits.classes)} classes; {config.epochs} epochs on {device}"
    )
    for note in splits.notes:
        say(note)
    runs = []
    for seed in range(config.seed, config.seed + seeds):
        runs.append(_train_seed(config.replace(seed=seed), splits, tensors, out, say, imports))
        _write_results(out, config, splits, runs, provenance, imports)
    return runs


def mean_and_std(runs: list[FinalRun], metric: str) -> tuple[float, float]:
    """Mean and sample standard deviation over seeds; NaN for one seed's deviation."""
    values = np.array([run.figures[metric] for run in runs], dtype=float)
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def load_model(path: str | Path) -> Classifier:
    """A model that `imbtune train` wrote, on the CPU, in evaluation mode.

    Where it was trained with parts of the user's own, the files beside it are run, or their
    modules imported.

    It maps normalised images (B, C, H, W) to logits (B, K); `model.classes` names the classes, and
    `model.mean`, `model.std` are the figures to normalise pixels in [0, 1] with, per channel.
    """
    saved = torch.load(path, map_location="cpu", weights_only=True)
    load_plugins(saved.get("imports"), Store(str(Path(path).parent)))
    config = TrainConfig.from_settings(saved["settings"])
    model = new_model(config, len(saved["mean"]), len(saved["classes"]))
    model.load_state_dict(saved["state_dict"])
    model.classes, model.mean, model.std = saved["classes"], saved["mean"], saved["std"]
    return model.eval()


def _train_seed(
    config: TrainConfig,
    splits: Splits,
    data: DeviceData,
    out: Path,
    say: Callable[[str], None],
    imports: tuple[PluginModule, ...],
) -> FinalRun:
    started = time.monotonic()
    state = TrainState(config, data)
    epochs = whole_run(config.epochs, config.schedule.shared)
    every = max(1, len(epochs) // SPOKEN)
    for done, epoch in enumerate(epochs, 1):
        log = train_epoch(state, data, epoch)
        if done % every == 0 and done < len(epochs):
            say(f"seed {config.seed}: epoch {done}/{len(epochs)}, loss {log.loss:.3f}")
    apply_posthoc(state, data, config.epochs)
    confusion_KK = state.evaluate(data)
    margins = _margins(state, data, out)
    _save_model(out / f"model-seed{config.seed}.pt", config, splits, state, imports)
    figures = compute_metrics(confusion_KK, data.counts_K)
    seconds = time.monotonic() - started
    say(
        f"seed {config.seed}: test balanced accuracy {figures['balanced_accuracy']:.4f} "
        f"({seconds:.0f} s)"
    )
    recall_K = recalls(confusion_KK).tolist()
    return FinalRun(config.seed, figures, recall_K, confusion_KK.tolist(), margins, seconds)


def _margins(state: TrainState, data: DeviceData, out: Path) -> dict[str, list[float]]:
    """Write the margin of every example to a table; the means of each class, by name."""
    means: dict[str, list[float]] = {}
    tables = []
    for split, images, labels in [
        ("train", data.train, data.labels_N),
        ("test", data.held_out, data.held_out_labels_M),
    ]:
        margins = example_margins(state, data, images, labels)
        tables.append(example_table(split, *margins))
        both = margins.class_means(len(data.classes))
        means |= {
            f"{kind}_{split}": mean_K.tolist()
            for kind, mean_K in zip(("margin", "probability_margin"), both, strict=True)
        }
    name = f"margins-seed{state.config.seed}.parquet"
    Store(str(out)).write_table(name, pa.concat_tables(tables))
    return means


def _save_model(
    path: Path,
    config: TrainConfig,
    splits: Splits,
    state: TrainState,
    imports: tuple[PluginModule, ...],
) -> None:
    content = {
        "imports": [module.name for module in imports],
        "settings": config.flat(),
        "classes": list(splits.classes),
        "mean": list(splits.preprocessing.mean),
        "std": list(splits.preprocessing.std),
        "state_dict": {name: tensor.cpu() for name, tensor in state.model.state_dict().items()},
    }
    torch.save(content, path)


def _write_results(
    out: Path,
    config: TrainConfig,
    splits: Splits,
    runs: list[FinalRun],
    provenance: dict[str, Any],
    imports: tuple[PluginModule, ...],
) -> None:
    settings = with_imports(config.nested(), imports)
    (out / "config.yaml").write_text(
        yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )
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
        "imports": describe(imports),
        "provenance": provenance,
    }
    (out / "results.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
