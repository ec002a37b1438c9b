"""Writes what a final training leaves: a folder for the model of each seed.

The folder of a training is the model of its first seed; `seedN` in it are the models of the others
(:mod:`imbtune.inference.model_folder`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import yaml
from numpy.typing import NDArray

from imbtune import strict_json
from imbtune.config.plugin_record import describe
from imbtune.config.plugins import copy_sources, with_imports
from imbtune.config.train_config import TrainConfig
from imbtune.data.images import Images
from imbtune.final_training.final_run import (
    KEPT,
    FinalRun,
    FinishedSeed,
    Values,
    with_temperature,
)
from imbtune.final_training.final_task import FinalTask
from imbtune.final_training.origin import origin_in_words
from imbtune.inference.calibration import Calibration, calibrate, not_calibrated
from imbtune.inference.evaluating.metric_intervals import (
    MetricInterval,
    default_resamples,
    metric_intervals,
)
from imbtune.inference.example_tables import (
    class_table,
    margin_table,
    pixel_hashes,
    prediction_table,
)
from imbtune.inference.loading import load_model, loss_scale
from imbtune.inference.model_card import CardContent, model_card
from imbtune.inference.model_folder import (
    CALIBRATION,
    CARD,
    CLASSES,
    CONFIG,
    LABELS,
    MANIFEST,
    MARGINS,
    METRICS,
    PREDICTIONS,
    PREPROCESS,
    WEIGHTS,
    change_files,
    read_files,
    read_manifest,
    weight_bytes,
    write_folder,
)
from imbtune.inference.preprocess import Preprocess
from imbtune.inference.trained_model import TrainedModel
from imbtune.metrics.metric import compute
from imbtune.metrics.predictions import Predictions
from imbtune.storage import Store
from imbtune.storage.checksums import parquet_bytes
from imbtune.training.device.device_data import BLOCK, shared_tensor
from imbtune.training.state import pick_device


@dataclass(frozen=True, eq=False)
class SeedResult:
    """What a seed's folder says of it.

    Attributes:
        run: its result on the test images.
        calibration: its temperature; None without one.
        intervals: its metrics on the test images, with 95 % intervals.
    """

    run: FinalRun
    calibration: Calibration | None
    intervals: Sequence[MetricInterval]


@dataclass(frozen=True, eq=False)
class EnsembleResult:
    """The mean of the seeds' probabilities, tested.

    Attributes:
        metrics: on the test images.
        calibration: its own temperature, of the mean; None without one.
        without: its metrics without its own temperature, and with those of the seeds, which
            always are in the mean; None where there is none.
    """

    metrics: Values
    calibration: Calibration | None
    without: Values | None


@dataclass(frozen=True, eq=False)
class HandOver:
    """Writes the models of a final training, and reads what it wrote before an interruption."""

    task: FinalTask

    def is_done(self, seed: int) -> bool:
        """Whether the model of a seed is complete."""
        return Store(str(self.task.folder(seed))).exists(MANIFEST)

    def read_seed(self, seed: int) -> SeedResult:
        """The result of a seed whose model is complete; DamagedFileError if it is damaged."""
        store = Store(str(self.task.folder(seed)))
        files = read_files(store, read_manifest(store))
        metrics = strict_json.loads(files[METRICS])
        runs = map(FinalRun.from_dict, metrics["runs"])
        run = next(run for run in runs if run.seed == seed)
        calibration = Calibration.from_json(strict_json.loads(files[CALIBRATION]))
        return SeedResult(run, calibration, [MetricInterval(**one) for one in metrics["intervals"]])

    def write_seed(self, finished: FinishedSeed) -> SeedResult:
        """Write the model of a seed; StudyError if that fails."""
        run, task = finished.run, self.task
        config = task.config.replace(seed=run.seed)
        store = Store(str(task.folder(run.seed)))
        copy_sources(task.imports, store)
        splits, images = task.splits, self._images
        predictions = self._predictions(finished)
        test = finished.margins["test"]
        margins = [
            margin_table(split, images[split].names_in(split), *of_split, self._hashes[split])
            for split, of_split in finished.margins.items()
        ]
        calibration = finished.calibration
        intervals = metric_intervals(
            predictions, default_resamples(predictions.logits_NK), task.objectives
        )
        result = SeedResult(run, calibration, intervals)
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
            METRICS: self._metrics([run], result, None),
        }
        files = {
            WEIGHTS: weight_bytes(finished.weights),
            CONFIG: yaml.safe_dump(
                with_imports(self._config(config), task.imports),
                sort_keys=False,
                allow_unicode=True,
            ).encode(),
            **{name: strict_json.dumps(text, indent=1).encode() for name, text in texts.items()},
            **{name: parquet_bytes(table) for name, table in tables.items()},
        }
        card = self._card([run], result, None)
        write_folder(store, files, card, describe(task.imports, with_path=False))
        return result

    def write_summary(self, results: Sequence[SeedResult], ensemble: EnsembleResult | None) -> None:
        """Write metrics and card of the first seed's model again, now with other seeds.

        Args:
            results: of the seeds that have ended, the first one's first.
            ensemble: of all seeds; None without one.
        """
        store = Store(str(self.task.out))
        runs, first = [result.run for result in results], results[0]
        texts = {METRICS: self._metrics(runs, first, ensemble)}
        if ensemble and ensemble.calibration:
            assert first.calibration, "both are fitted on the same images"
            fitted = ensemble.calibration.to_json()
            texts[CALIBRATION] = first.calibration.to_json() | {"ensemble": fitted}
        content = {name: strict_json.dumps(text, indent=1).encode() for name, text in texts.items()}
        change_files(store, content)
        store.write(CARD, self._card(runs, first, ensemble).encode())

    def test_ensemble(self) -> EnsembleResult:
        """Test the mean of the seeds' probabilities, as :func:`load_model` gives it.

        Raises:
            ImbtuneError: a seed's model is not complete.
        """
        model = load_model(self.task.out, ensemble=True)
        model.calibration = None  # of an earlier attempt
        model.network.to(pick_device())
        splits, calibration, without = self.task.splits, None, None
        predictions = self._ensemble_predictions(model, splits.held_out)
        metrics = compute(predictions, self.task.objectives)
        if splits.calibration is not None:
            kept = self._ensemble_predictions(model, splits.calibration)
            calibration = calibrate(
                kept.logits_NK, kept.labels_N, KEPT, splits.classes, splits.counts()
            )
            without = metrics
            scaled = with_temperature(predictions, calibration.temperature)
            metrics = compute(scaled, self.task.objectives)
        return EnsembleResult(metrics, calibration, without)

    @property
    def _images(self) -> dict[str, Images]:
        """The images of each split in `margins.parquet`."""
        splits = self.task.splits
        kept = {} if splits.calibration is None else {"calibration": splits.calibration}
        return {"train": splits.train, "test": splits.held_out, **kept}

    @functools.cached_property
    def _hashes(self) -> dict[str, list[str]]:
        """Of the pixels of each split's images, which are the same for all seeds."""
        return {
            split: [
                found for rows in _blocks(images) for found in pixel_hashes(images.pixels[rows])
            ]
            for split, images in self._images.items()
        }

    def _ensemble_predictions(self, model: TrainedModel, images: Images) -> Predictions:
        logits_NK = torch.cat([model.logits(images.pixels[rows]) for rows in _blocks(images)])
        splits = self.task.splits
        labels_N = shared_tensor(images.labels)
        return Predictions(logits_NK, labels_N, splits.classes, splits.counts())

    def _predictions(self, finished: FinishedSeed) -> Predictions:
        """Of the test images, with the temperature."""
        temperature = finished.calibration.temperature if finished.calibration else 1.0
        splits = self.task.splits
        matrix_KK = np.array(finished.run.confusion_KK, dtype=np.int64)
        labels_M = shared_tensor(splits.held_out.labels)
        predictions = Predictions(
            finished.logits_MK, labels_M, splits.classes, splits.counts(), matrix_KK
        )
        return with_temperature(predictions, temperature)

    def _config(self, config: TrainConfig) -> dict[str, Any]:
        """The content of `config.yaml`, from which the model can be trained again."""
        objectives = [metric.setting() for metric in self.task.objectives]
        provenance = {"provenance": {"objectives": objectives}} if objectives else {}
        return {**config.nested(), **provenance}

    def _preprocess(self) -> Preprocess:
        given, pixels = self.task.splits.preprocessing, self.task.splits.train.pixels
        return Preprocess.of(self.task.config, pixels.shape[1:], given.mean, given.std)

    def _metrics(
        self, runs: Sequence[FinalRun], first: SeedResult, ensemble: EnsembleResult | None
    ) -> dict[str, object]:
        """The content of `metrics.json`."""
        spread = _spread(runs)
        content: dict[str, object] = {
            "seed": runs[0].seed,
            "test": {
                name: {"mean": mean} if math.isnan(std) else {"mean": mean, "std": std}
                for name, (mean, std) in spread.items()
            },
            "intervals": [vars(interval) for interval in first.intervals],
            "runs": [run.to_dict() for run in runs],
            "options": vars(self.task.options),
            "data": None if self.task.data is None else str(self.task.data),
            "data_sha256": self.task.fingerprint,
            "provenance": dict(self.task.provenance),
        }
        if ensemble:
            seeds = [run.seed for run in runs]
            content["ensemble"] = {
                "seeds": seeds,
                "metrics": ensemble.metrics,
                "without": {"own_temperature": plain} if (plain := ensemble.without) else {},
            }
        return content

    def _card(
        self, runs: Sequence[FinalRun], result: SeedResult, ensemble: EnsembleResult | None
    ) -> str:
        run, task = result.run, self.task
        return model_card(
            CardContent(
                config=task.config.replace(seed=run.seed),
                classes=task.splits.classes,
                train_K=task.splits.counts(),
                confusion_KK=np.array(run.confusion_KK, dtype=np.int64),
                origin=origin_in_words(task.provenance, task.counts),
                intervals=result.intervals,
                undefined=task.undefined(),
                spread=_spread(runs) if len(runs) > 1 else {},
                ensemble=ensemble.metrics if ensemble else {},
                seeds=[one.seed for one in runs],
                preprocess=self._preprocess(),
                scale=loss_scale(task.config, task.splits.counts().tolist()),
                calibration=result.calibration,
                on_test=_on_test(run.metrics, run.without.get("temperature", {})),
                ensemble_on_test=(
                    _on_test(ensemble.metrics, ensemble.without or {}) if ensemble else {}
                ),
                options=task.options.lines(),
                place=task.folder(run.seed).absolute().name,
            )
        )


def _blocks(images: Images) -> list[NDArray[np.int64]]:
    """The rows of the images in blocks."""
    return [np.arange(at, min(at + BLOCK, len(images))) for at in range(0, len(images), BLOCK)]


def _on_test(metrics: Values, without: Values) -> dict[str, tuple[float, float]]:
    """Log-loss and ECE on the test images, without and with a temperature; empty without one."""
    return {
        name: (before, after)
        for name in ("log_loss", "ece")
        if (before := without.get(name)) is not None and (after := metrics[name]) is not None
    }


def _spread(runs: Sequence[FinalRun]) -> dict[str, tuple[float, float]]:
    """Mean and deviation of each defined metric."""
    names = [name for name, value in runs[0].metrics.items() if value is not None]
    return {name: mean_and_std(runs, name) for name in names}


def mean_and_std(runs: Sequence[FinalRun], metric: str) -> tuple[float, float]:
    """Mean and sample standard deviation of a metric over seeds; the latter is NaN for one seed."""
    values = np.array([run.metrics[metric] for run in runs], dtype=float)
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else float("nan")
