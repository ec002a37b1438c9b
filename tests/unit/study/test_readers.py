"""Others read a study's tables while they are written, and find nothing but Parquet files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from table_rows import KNOBS, epoch_row, trial_row

from imbtune.errors import StudyError
from imbtune.storage import Store
from imbtune.study.tables import parquet
from imbtune.study.tables.parquet import ParquetSink
from imbtune.study.tables.schema import FINALS

TABLES = ("epochs", "trials", "finals")


@contextmanager
def all_the_while(look: Callable[[], None]) -> Iterator[None]:
    """Another thread looks again and again, until the block ends; its failure is the test's."""
    ended, failures = threading.Event(), list[BaseException]()

    def look_on() -> None:
        looks = 0
        try:
            while not ended.is_set() or looks < 3:
                look()
                looks += 1
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=look_on)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failures:
        raise failures[0]


def test_a_table_has_only_parquet_files_at_every_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader lists the folders, and reads each file and each folder, hidden ones included."""
    monkeypatch.setitem(parquet.ROWS, "epochs", 25)  # several parts
    store = Store(str(tmp_path))

    def look() -> None:
        for table in TABLES:
            folder = tmp_path / table
            if not folder.exists():
                continue
            files = list(folder.iterdir())
            assert files
            for file in files:
                assert file.suffix == ".parquet" and not file.name.startswith(".")
                pq.read_metadata(file)
            rows = ds.dataset(folder).count_rows()
            column = pd.read_parquet(folder).iloc[:, 0]
            assert len(column) >= rows
            if table == "epochs":
                assert pd.read_parquet(folder)["epoch"].is_unique

    with all_the_while(look):
        for start in range(0, 120, 40):  # three processes
            sink = ParquetSink(store, KNOBS)
            for epoch in range(start, start + 40):
                sink.epoch(epoch_row(0, epoch))
                sink.flush()
            sink.trial(trial_row(start))
            store.write_table(f"finals/{start}.parquet", FINALS.empty_table())
            sink.close()
    assert pd.read_parquet(tmp_path / "epochs")["epoch"].tolist() == list(range(120))
    assert {path.name for path in tmp_path.iterdir()} == set(TABLES)
    assert len(list((tmp_path / "epochs").iterdir())) == 5


def test_a_table_without_files_is_told(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"the table .*epochs has no files: restore them"):
        Store(str(tmp_path)).table("epochs")


def test_other_files_in_a_table_are_not_read(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_table("epochs/part-000000.parquet", pa.table({"epoch": [1]}))
    (tmp_path / "epochs/notes.txt").write_text("mine")
    assert store.table("epochs")["epoch"].to_pylist() == [1]
