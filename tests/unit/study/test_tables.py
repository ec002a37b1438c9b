"""The study on disk: Parquet that streams, and a store that writes whole files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from table_rows import KNOBS, epoch_row, trial_row

from imbtune.errors import StudyError
from imbtune.storage import Store
from imbtune.study.tables.parquet import ParquetSink


def test_rows_are_readable_while_they_stream_and_stand_once_in_the_end(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "study"))
    sink = ParquetSink(store, KNOBS)
    assert len(pd.read_parquet(tmp_path / "study/epochs")) == 0
    for epoch in range(1, 6):
        sink.epoch(epoch_row(0, epoch))
        sink.flush()
        assert list(pd.read_parquet(tmp_path / "study/epochs")["epoch"]) == list(
            range(1, epoch + 1)
        )
    sink.trial(trial_row(0))
    sink.close()
    assert [p.name for p in (tmp_path / "study/epochs").iterdir()] == ["part-000000.parquet"]
    assert list(pd.read_parquet(tmp_path / "study/epochs")["epoch"]) == [1, 2, 3, 4, 5]
    trials = pq.read_table(tmp_path / "study/trials")
    assert trials.schema.field("mix.omega").type == pa.float64()
    assert trials.schema.field("model.width").type == pa.int64()
    (row,) = trials.to_pylist()
    assert row["mix.omega"] == 0.25
    assert row["rung_scores"] == [0.4, 0.5]
    assert row["recall"] == [0.1, 0.9]
    assert row["optimizer.nesterov"] is None
    assert sorted(p.name for p in (tmp_path / "study").iterdir()) == ["epochs", "trials"]


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "a"))
    assert store.is_empty()
    store.write("x.yaml", b"one")
    store.write("x.yaml", b"two")
    assert store.read("x.yaml") == b"two"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["x.yaml"]
    assert not store.is_empty()


def test_a_storage_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="cannot use the storage foo://x") as caught:
        Store("foo://x")
    assert "\n" not in str(caught.value)
    (tmp_path / "file").write_text("")
    assert not Store(str(tmp_path / "file")).is_empty()
    with pytest.raises(StudyError, match="cannot write to the storage"):
        Store(str(tmp_path / "file" / "study")).create()
