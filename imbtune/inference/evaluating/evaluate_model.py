"""`imbtune evaluate`: every metric of a model on labelled images, with intervals.

Shapes: N images, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbtune import strict_json
from imbtune.errors import DivergenceError, some_of
from imbtune.inference.decisions.class_prior import NAMED
from imbtune.inference.decisions.decision import Decision, check_finite, is_finite
from imbtune.inference.evaluating.labelled_data import LabelledImages
from imbtune.inference.evaluating.metric_intervals import (
    ClassRow,
    MetricInterval,
    class_rows,
    default_resamples,
    metric_intervals,
)
from imbtune.inference.predicting.prediction_file import new_file
from imbtune.inference.trained_model import TrainedModel
from imbtune.metrics.defined import undefined_lines
from imbtune.metrics.metric import Metric, all_metrics
from imbtune.metrics.metric_registry import GROUPS
from imbtune.metrics.predictions import Predictions, confusion_matrix
from imbtune.storage.checksums import parquet_bytes

SUFFIXES = (".json", ".parquet")
METHOD = (
    "from standard errors over other images, as many of each class as the data (drawn confusion "
    "matrices, and for probabilities a stratified bootstrap), within the metric's bounds"
)


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Every metric of a model on labelled images.

    Attributes:
        what: the images, in words.
        count: how many there are.
        intervals: each metric with its 95 % interval.
        per_class: each class against the others.
        confusion_KK: images of class i (row) that are predicted as class j (column).
        classes: names of the classes.
        resamples: of the bootstrap.
        notes: messages for the user.
    """

    what: str
    count: int
    intervals: list[MetricInterval]
    per_class: list[ClassRow]
    confusion_KK: NDArray[np.int64]
    classes: list[str]
    resamples: int
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        values = {found.name: found.value for found in self.intervals}
        images = f"{self.count:,} image{'s' * (self.count != 1)}"
        return (
            f"EvaluationResult({self.what}): {images}, {len(self.classes)} classes, "
            f"balanced accuracy {values['balanced_accuracy']:.4f}; .metrics and .table have all"
        )

    @property
    def metrics(self) -> pd.DataFrame:
        """A row for each metric: `title`, `value`, `low`, `high`."""
        rows = [asdict(interval) for interval in self.intervals]
        return pd.DataFrame(rows).set_index("name")

    @property
    def table(self) -> pd.DataFrame:
        """A row for each class."""
        return pd.DataFrame([asdict(row) for row in self.per_class]).set_index("name")

    def to_dict(self) -> dict[str, object]:
        """All of it, as JSON can hold it."""
        return {
            "data": self.what,
            "images": self.count,
            "intervals": {"coverage": 0.95, "method": METHOD, "resamples": self.resamples},
            "metrics": {
                found.name: {
                    "title": found.title,
                    "value": found.value,
                    "low": found.low,
                    "high": found.high,
                }
                for found in self.intervals
            },
            "classes": [asdict(row) for row in self.per_class],
            "confusion": self.confusion_KK.tolist(),
            "notes": list(self.notes),
        }

    def write(self, path: Path) -> None:
        """Write a new JSON file with all, or a Parquet file with a row for each metric.

        In Parquet, rows with a class are of that class against the others.

        Raises:
            ConfigError: it cannot be written.
        """
        with new_file(path) as hidden:
            if path.suffix.lower() == ".json":
                content = strict_json.dumps(self.to_dict(), indent=1).encode()
            else:
                content = parquet_bytes(pa.Table.from_pylist(list(self._rows()), _SCHEMA))
            hidden.write_bytes(content)

    def _rows(self) -> Iterator[dict[str, Any]]:
        for found in self.intervals:
            yield {
                "metric": found.name,
                "title": found.title,
                "class": None,
                **_values(found.value, found.low, found.high),
            }
        for row in self.per_class:
            content = asdict(row)
            name, low, high = (content.pop(key) for key in ("name", "recall_low", "recall_high"))
            for metric, value in content.items():
                ends = (low, high) if metric == "recall" else (None, None)
                yield {"metric": metric, "title": metric, "class": name, **_values(value, *ends)}


_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("metric", "title", "class")]
    + [(name, pa.float64()) for name in ("value", "low", "high")]
)


def _values(value: float | None, low: float | None, high: float | None) -> dict[str, float | None]:
    return {"value": value, "low": low, "high": high}


def evaluate_model(
    model: TrainedModel,
    images: LabelledImages,
    chosen: Decision,
    resamples: int | None = None,
    objectives: Sequence[Metric] = (),
) -> EvaluationResult:
    """Every metric of a model on labelled images.

    Args:
        images: those that are predicted.
        chosen: how logits become probabilities and classes.
        resamples: of the bootstrap; None for as many as their number allows in a short time.
        objectives: their knobs count for the metrics of their names, before those of the model's
            own objectives.

    Raises:
        ConfigError: a metric names a class that the model does not have.
        DivergenceError: the model's weights, or its logits of an image, are not finite.
    """
    check_finite(model.network)
    logits_NK = chosen.logits(logits_of(model, images))
    labels_N = torch.from_numpy(images.labels_N)
    predicted_N = chosen.classes(logits_NK)
    train_K = model.train_K
    known_K = np.ones(len(model.classes), np.int64) if train_K is None else train_K
    matrix_KK = confusion_matrix(labels_N, predicted_N, len(model.classes))
    predictions = Predictions(logits_NK, labels_N, model.classes, known_K, matrix_KK)
    drawn = default_resamples(logits_NK) if resamples is None else resamples
    measured = [*model.objectives, *objectives]
    found = metric_intervals(predictions, drawn, measured)
    telling = [m for m in all_metrics(measured) if m.tells_of(len(model.classes))]
    counts = predictions.counts
    undefined = undefined_lines(telling, counts, "images")
    if train_K is None:  # an older version, which does not say how large the classes are
        found = [interval for interval in found if interval.name not in GROUPS]
    if never := [f"'{model.classes[k]}'" for k in chosen.never if counts.held_out_K[k]]:
        infinite = [m.name for m in telling if math.isinf(m.range_on(counts)[1])]
        found = [interval for interval in found if interval.name not in infinite]
        undefined.append(
            f"infinite, as there are images of {some_of(never, NAMED)}, to which --prior gives the "
            f"share 0: {', '.join(infinite)}"
        )
    return EvaluationResult(
        images.what,
        len(images.labels_N),
        found,
        class_rows(predictions),
        matrix_KK,
        list(model.classes),
        drawn,
        (*images.notes, *chosen.lines, *undefined),
    )


def logits_of(model: TrainedModel, images: LabelledImages) -> Tensor:
    """The model's logits of all images, (N, K), before temperature and prior.

    Raises:
        DivergenceError: one is not finite.
    """
    logits_NK = torch.cat([model.logits(block) for block in images.blocks()])
    if broken := int((~is_finite(logits_NK)).sum()):
        raise DivergenceError(
            f"the model's logits of {broken} of {len(logits_NK)} images are not finite: train it "
            "again, for example with a lower --set optimizer.lr"
        )
    return logits_NK
