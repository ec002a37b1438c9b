"""Final training: a configuration is trained on all training data, and tested once per seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import yaml

from imbtune import strict_json
from imbtune.config.plugin_module import PluginModule
from imbtune.config.plugin_record import describe
from imbtune.config.plugins import copy_sources, plugin_parts, register, with_imports
from imbtune.config.train_config import TrainConfig
from imbtune.data.load import DataSource, data_root
from imbtune.data.splits import Splits
from imbtune.errors import DivergenceError, StudyError
from imbtune.final_training.final_run import FinalRun, Progress, load_final_splits, train_seed
from imbtune.progress import Log
from imbtune.storage import Store
from imbtune.study.hints import free_folder
from imbtune.study.tables.schema import example_table
from imbtune.training.device.device_data import DeviceData
from imbtune.training.evaluation.margins import Margins
from imbtune.training.state import TrainState, pick_device

PROGRESS_LINES = 10  # of one run


@dataclass(frozen=True)
class TrainResult:
    """A final training: the same configuration with several seeds, each tested once.

    Attributes:
        path: the folder with the models, `config.yaml` and `results.json`.
        config: with the first seed.
        runs: one per seed.
        baselines: the same of the best preset and of `erm`, by the preset's name, if they were
            trained too.
    """

    path: Path
    config: TrainConfig
    runs: list[FinalRun]
    baselines: Mapping[str, TrainResult] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, tuple[float, float]]:
        """Mean and sample standard deviation over the seeds of each defined test metric.

        The deviation is NaN for a single seed.
        """
        names = [name for name, value in self.runs[0].metrics.items() if value is not None]
        return {name: mean_and_std(self.runs, name) for name in names}

    def __repr__(self) -> str:
        mean, std = self.metrics["balanced_accuracy"]
        spread = f" ± {std:.4f}" if len(self.runs) > 1 else ""
        seeds = f"{len(self.runs)} seed{'s' * (len(self.runs) > 1)}"
        return (
            f"TrainResult({str(self.path)!r}): test balanced accuracy {mean:.4f}{spread}, {seeds}"
        )


def train_final(
    config: TrainConfig,
    seeds: int,
    out: Path,
    data: Path | None,
    provenance: dict[str, Any],
    log: Log,
    imports: tuple[PluginModule, ...] = (),
    skip_corrupt: bool = False,
) -> list[FinalRun]:
    """Train a configuration with several seeds; write models, configuration and results.

    The test images are used once per run, when the model is finished. `out` receives `config.yaml`,
    `model-seed0.pt`, … and the margins of every example in `margins-seed0.parquet`, …, and
    `results.json`, which is written again after every seed. The user's plugins are copied there
    too, so that the models can be loaded without the original files.

    Args:
        config: its seed is the first one.
        seeds: number of runs, with consecutive seeds.
        out: folder for the files; it must be empty or not exist.
        data: folder or file of the data set; None for $IMBTUNE_DATA, else a download.
        provenance: where the configuration comes from, for `results.json`.
        log: is called with each line of progress.
        imports: modules with the user's plugins.
        skip_corrupt: leave out images that cannot be read.

    Raises:
        ImbtuneError: before anything is trained: the data or the model cannot be used, or `out` is
            not empty.
        DivergenceError: a seed diverged; the files of the seeds before it stay.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StudyError(
            f"--out {out} exists already and is not empty: give another folder, such as --out "
            f"{free_folder(out)}, or delete it"
        )
    register(imports)
    data_source = DataSource(data_root(data), skip_corrupt)
    splits = load_final_splits(config, data_source, plugin_parts(config.flat().values()))
    device = pick_device()
    tensors = DeviceData(splits, device)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(
            f"cannot write to --out {out} ({error.strerror}): give another folder"
        ) from error
    copy_sources(imports, Store(str(out)))
    log(
        f"{config.data.name}: {len(splits.train)} training and {len(splits.held_out)} test images, "
        f"{len(splits.classes)} classes; {config.epochs} epochs on {device}"
    )
    for note in splits.notes:
        log(note)
    runs: list[FinalRun] = []
    for seed in range(config.seed, config.seed + seeds):
        try:
            run = _train_seed(config.replace(seed=seed), splits, tensors, out, log, imports)
        except DivergenceError as error:
            raise DivergenceError(_diverged(seed, error, config, out, runs)) from error
        runs.append(run)
        _write_results(out, config, splits, runs, provenance, imports)
    return runs


def mean_and_std(runs: list[FinalRun], metric: str) -> tuple[float, float]:
    """Mean and sample standard deviation of a metric over seeds; the latter is NaN for one seed."""
    values = np.array([run.metrics[metric] for run in runs], dtype=float)
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def _diverged(
    seed: int, error: DivergenceError, config: TrainConfig, out: Path, runs: list[FinalRun]
) -> str:
    """The message for a seed that diverged: what, the way out, and what was trained before."""
    rate = float(config.flat()["optimizer.lr"])
    message = f"seed {seed}, {error}: give a lower --set optimizer.lr (it is {rate:g})"
    seeds = ", ".join(str(run.seed) for run in runs)
    return f"{message}; {out} has the models of seed {seeds}" if runs else message


def _train_seed(
    config: TrainConfig,
    splits: Splits,
    data: DeviceData,
    out: Path,
    log: Log,
    imports: tuple[PluginModule, ...],
) -> FinalRun:
    """Train and test one seed; write its margins and its model."""
    trained = train_seed(config, data, lambda progress: _log_progress(progress, log))
    run = trained.run
    _write_margins(out, run.seed, trained.margins)
    _save_model(out / f"model-seed{run.seed}.pt", config, splits, trained.state, imports)
    score = run.metrics["balanced_accuracy"]
    log(f"seed {run.seed}: test balanced accuracy {score:.4f} ({run.seconds:.0f} s)")
    return run


def _log_progress(progress: Progress, log: Log) -> None:
    """Log a line after about every tenth of the run."""
    trained, epochs = progress.trained, progress.epochs
    if trained % max(1, epochs // PROGRESS_LINES) == 0 and trained < epochs:
        seed, loss = progress.state.config.seed, progress.epoch_log.loss
        log(f"seed {seed}: epoch {trained}/{epochs}, loss {loss:.3f}")


def _write_margins(out: Path, seed: int, margins: dict[str, Margins]) -> None:
    """Write the margins of every example to a table."""
    tables = [example_table(split, *of_split) for split, of_split in margins.items()]
    Store(str(out)).write_table(f"margins-seed{seed}.parquet", pa.concat_tables(tables))


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
        "image_shape": list(splits.train.pixels.shape[1:]),
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
    names = [name for name, value in runs[0].metrics.items() if value is not None]
    summary = {
        name: dict(zip(("mean", "std"), mean_and_std(runs, name), strict=True)) for name in names
    }
    content = {
        "test": {
            name: {
                k: v for k, v in values.items() if not math.isnan(v)
            }  # the deviation of one seed
            for name, values in summary.items()
        },
        "runs": [run.to_dict() for run in runs],
        "classes": list(splits.classes),
        "training_counts": splits.counts().tolist(),
        "data_sha256": splits.fingerprint(),
        "config": config.nested(),
        "imports": describe(imports),
        "provenance": provenance,
    }
    Store(str(out)).write("results.json", strict_json.dumps(content, indent=1).encode())
