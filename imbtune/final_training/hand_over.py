"""Writes what a final training leaves: a folder for the model of each seed.

The folder of a training is the model of its first seed; `seedN` in it are the models of the others
(:mod:`imbtune.inference.model_folder`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors.torch
import torch
import yaml
from torch import Tensor

from imbtune import strict_json
from imbtune.config.plugin_module import PluginModule
from imbtune.config.plugin_record import describe
from imbtune.config.plugins import copy_sources, with_imports
from imbtune.config.train_config import TrainConfig
from imbtune.data.splits import Splits
from imbtune.final_training.final_run import FinalRun, FinishedSeed
from imbtune.inference.calibration import not_calibrated
from imbtune.inference.example_tables import class_table, margin_table, prediction_table
from imbtune.inference.loading import loss_scale
from imbtune.inference.model_card import CardContent, model_card
from imbtune.inference.model_folder import (
    CALIBRATION,
    CARD,
    CLASSES,
    CONFIG,
    LABELS,
    MARGINS,
    METRICS,
    PREDICTIONS,
    PREPROCESS,
    WEIGHTS,
    change_files,
    write_folder,
)
from imbtune.inference.preprocess import Preprocess
from imbtune.metrics.predictions import Predictions
from imbtune.storage import Store
from imbtune.storage.checksums import parquet_bytes


@dataclass(frozen=True, eq=False)
class HandOver:
    """A final training whose models are written.

    Attributes:
        out: its folder.
        config: of the first seed.
        seeds: number of runs, with consecutive seeds.
        splits: all training images and, held out, the test images.
        imports: modules with the user's plugins.
        provenance: where the configuration comes from.
    """

    out: Path
    config: TrainConfig
    seeds: int
    splits: Splits
    imports: tuple[PluginModule, ...]
    provenance: Mapping[str, Any]

    def folder(self, seed: int) -> Path:
        """The folder of a seed's model."""
        return self.out if seed == self.config.seed else self.out / f"seed{seed}"

    def write_seed(self, finished: FinishedSeed) -> None:
        """Write the model of a seed; StudyError if that fails."""
        run = finished.run
        config = self.config.replace(seed=run.seed)
        store = Store(str(self.folder(run.seed)))
        copy_sources(self.imports, store)
        splits, images = self.splits, {"train": self.splits.train, "test": self.splits.held_out}
        predictions = self._predictions(finished)
        test = finished.margins["test"]
        margins = [
            margin_table(split, images[split].names_in(split), *of_split)
            for split, of_split in finished.margins.items()
        ]
        calibration = finished.calibration
        tables = {
            CLASSES: class_table(predictions, run.margins),
            PREDICTIONS: prediction_table(
                predictions, splits.held_out.names_in("test"), test.logit, test.probability
            ),
            MARGINS: pa.concat_tables(margins),
        }
        labels = {"classes": list(splits.classes), "training_images": splits.counts().tolist()}
        texts = {
            LABELS: labels,
            PREPROCESS: self._preprocess().to_json(),
            CALIBRATION: calibration.to_json() if calibration else not_calibrated(),
            METRICS: self._metrics([run]),
        }
        files = {
            WEIGHTS: weight_bytes(finished.weights),
            CONFIG: yaml.safe_dump(
                with_imports(config.nested(), self.imports), sort_keys=False, allow_unicode=True
            ).encode(),
            **{name: strict_json.dumps(text, indent=1).encode() for name, text in texts.items()},
            **{name: parquet_bytes(table) for name, table in tables.items()},
        }
        card = self._card([run], finished)
        write_folder(store, files, card, describe(self.imports))

    def write_summary(self, runs: Sequence[FinalRun], first: FinishedSeed) -> None:
        """Write metrics and card of the first seed's model again, now with other seeds.

        Args:
            runs: all that have ended, the first seed's first.
            first: the first seed.
        """
        store = Store(str(self.out))
        content = strict_json.dumps(self._metrics(runs), indent=1).encode()
        change_files(store, {METRICS: content})
        store.write(CARD, self._card(runs, first).encode())

    def _predictions(self, finished: FinishedSeed) -> Predictions:
        """Of the test images, with the temperature."""
        temperature = finished.calibration.temperature if finished.calibration else 1.0
        splits = self.splits
        matrix_KK = np.array(finished.run.confusion_KK, dtype=np.int64)
        return Predictions(
            finished.logits_MK.double() / temperature,
            torch.from_numpy(splits.held_out.labels),
            splits.classes,
            splits.counts(),
            matrix_KK,
        )

    def _preprocess(self) -> Preprocess:
        given = self.splits.preprocessing
        shape = self.splits.train.pixels.shape[1:]
        return Preprocess.of(self.config, shape, given.mean, given.std)

    def _metrics(self, runs: Sequence[FinalRun]) -> dict[str, object]:
        """The content of `metrics.json`."""
        names = [name for name, value in runs[0].metrics.items() if value is not None]
        summary = {name: mean_and_std(runs, name) for name in names}
        return {
            "seed": runs[0].seed,
            "test": {
                name: {"mean": mean} if math.isnan(std) else {"mean": mean, "std": std}
                for name, (mean, std) in summary.items()
            },
            "runs": [run.to_dict() for run in runs],
            "data_sha256": self.splits.fingerprint(),
            "provenance": dict(self.provenance),
        }

    def _card(self, runs: Sequence[FinalRun], finished: FinishedSeed) -> str:
        run, classes = finished.run, self.splits.classes
        spread = {}
        if len(runs) > 1:
            spread = {
                name: mean_and_std(runs, name)
                for name, value in run.metrics.items()
                if value is not None
            }
        return model_card(
            CardContent(
                config=self.config.replace(seed=run.seed),
                classes=classes,
                train_K=self.splits.counts(),
                confusion_KK=np.array(run.confusion_KK, dtype=np.int64),
                metrics=run.metrics,
                spread=spread,
                seeds=[one.seed for one in runs],
                preprocess=self._preprocess(),
                scale=loss_scale(self.config, len(classes)),
                calibration=finished.calibration,
                options=[],
                place=str(self.folder(run.seed)),
            )
        )


def mean_and_std(runs: Sequence[FinalRun], metric: str) -> tuple[float, float]:
    """Mean and sample standard deviation of a metric over seeds; the latter is NaN for one seed."""
    values = np.array([run.metrics[metric] for run in runs], dtype=float)
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def weight_bytes(weights: Mapping[str, Tensor]) -> bytes:
    """The content of `model.safetensors`. Tensors that share memory are written one by one."""
    whole = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in weights.items()
    }
    return safetensors.torch.save(whole)
