"""What the finals predict for each image: written before the run's row, readable by anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from scripted import scored_rung, trial_report

from imbtune.config.train_config import TrainConfig
from imbtune.data.images import Images
from imbtune.metrics.score_error import image_groups
from imbtune.progress.reporter import to_lines
from imbtune.storage import Store
from imbtune.study.records import FinalRecord
from imbtune.study.tables.own_files import own_table
from imbtune.study.tables.schema import PREDICTIONS
from imbtune.tuning.finals import FinalsWriter, known_finals, predictions_table
from imbtune.tuning.messages import ImagePredictions, TrialSpec

LABELS = np.array([0, 0, 1, 1, 2])
NAMES = pa.array([f"a/{i}.png" for i in range(5)], pa.large_string())
IMAGES = Images(np.zeros((5, 1, 1, 1), np.uint8), LABELS, NAMES)
LOGITS = np.arange(15, dtype=np.float32).reshape(5, 3)
FOUND = ImagePredictions(LOGITS.argmax(1).astype(np.int32), LOGITS, [0.25, 0.5])


def written(tmp_path: Path, found: ImagePredictions | None) -> Store:
    """A study's folder after one final run."""
    store = Store(str(tmp_path))
    writer = FinalsWriter(store, IMAGES, [], 9, to_lines(lambda _: None))
    settings = TrainConfig.from_settings({"seed": 11}).flat()
    spec = TrialSpec.single_run(7, settings, without_rungs=True, with_predictions=True)
    rung = replace(scored_rung(7, 9, 0.5), score_error=0.125, predictions=found)
    writer.reported(spec, trial_report([rung], 0, True))
    return store


def test_a_run_writes_what_it_predicts_for_each_image(tmp_path: Path) -> None:
    written(tmp_path, FOUND)
    frame = pd.read_parquet(tmp_path / "predictions")
    assert frame["image"].tolist() == NAMES.to_pylist()
    assert frame["label"].tolist() == LABELS.tolist()
    assert frame["predicted"].tolist() == [2] * 5
    assert frame["group"].tolist() == image_groups(LABELS).tolist()
    assert np.array_equal(np.stack(frame["logits"].tolist()), LOGITS)
    assert set(frame["trial"]) == {7} and set(frame["seed"]) == {11}
    hits = duckdb.sql(f"select sum(label = predicted) from '{tmp_path}/predictions/*.parquet'")
    assert hits is not None and hits.fetchall() == [(1,)]


def test_the_finals_are_read_back_with_their_scores_by_groups(tmp_path: Path) -> None:
    store = written(tmp_path, FOUND)
    (final,) = known_finals(store)
    assert (final.score_error, final.scores_without_groups) == (0.125, [0.25, 0.5])


def test_finals_of_an_older_version_have_none(tmp_path: Path) -> None:
    store = written(tmp_path, FOUND)
    old = store.part("finals/7-11.parquet").drop_columns(["score_error", "scores_without_groups"])
    store.write_table("finals/7-11.parquet", old)
    (final,) = known_finals(store)
    assert replace(final, metrics={}) == FinalRecord(7, 11, 0.5)


def test_too_many_logits_are_left_out() -> None:
    table = predictions_table(7, 11, Images(IMAGES.pixels, LABELS), replace(FOUND, logits_MK=None))
    assert table.schema == PREDICTIONS
    assert table["logits"].null_count == table["image"].null_count == 5
    assert table["predicted"].to_pylist() == [2] * 5


def test_a_file_of_another_program_is_passed_over(tmp_path: Path) -> None:
    store = written(tmp_path, FOUND)
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "predictions/other.parquet")
    assert own_table(store, "predictions").num_rows == 5
