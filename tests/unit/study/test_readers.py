"""Others read a study's tables while they are written, and find nothing but Parquet files."""

from __future__ import annotations

import json
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

from imbtune import storage
from imbtune.errors import StudyError
from imbtune.storage import Store
from imbtune.study.tables.parquet import ParquetSink, recover
from imbtune.study.tables.schema import EPOCHS, FINALS

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


def test_a_table_has_only_parquet_files_at_every_moment(tmp_path: Path) -> None:
    """A reader lists the folders, and reads each file and each folder, hidden ones included."""
    store = Store(str(tmp_path))

    def look() -> None:
        for table in TABLES:
            folder = tmp_path / table
            if not folder.exists():
                continue
            files = list(folder.iterdir())
            assert files
            try:
                for file in files:
                    assert file.suffix == ".parquet" and not file.name.startswith(".")
                    pq.read_metadata(file)
                if rows := ds.dataset(folder).count_rows():
                    assert len(pd.read_parquet(folder)) >= rows
            except FileNotFoundError:  # the folder was exchanged after it had been listed
                assert (folder / "all.parquet").exists()

    with all_the_while(look):
        for start in range(0, 120, 40):  # three processes, each of which compacts at its end
            sink = ParquetSink(store, KNOBS)
            for epoch in range(start, start + 40):
                sink.epoch(epoch_row(0, epoch))
                sink.flush()
            sink.trial(trial_row(start))
            store.write_table(f"finals/{start}.parquet", FINALS.empty_table())
            sink.close()
    assert pd.read_parquet(tmp_path / "epochs")["epoch"].tolist() == list(range(120))
    assert {path.name for path in tmp_path.iterdir()} == set(TABLES)


def test_our_own_reader_always_finds_all_rows(tmp_path: Path) -> None:
    """Also where the folder is exchanged between its listing and the reading of its files."""
    store, looked = Store(str(tmp_path)), threading.Semaphore(0)
    for part in range(8):
        store.write_table(f"epochs/part-{part}.parquet", pa.table({"epoch": [part]}))
        store.write_table(f".other/all-{part}.parquet", pa.table({"epoch": [part]}))

    def look() -> None:
        assert sorted(store.table("epochs")["epoch"].to_pylist()) == list(range(8))
        looked.release()

    with all_the_while(look):
        for _ in range(200):  # at most about once during a look
            assert looked.acquire(timeout=60)
            assert storage._exchange(tmp_path / ".other", tmp_path / "epochs")


def test_a_file_that_stays_away_is_told(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"cannot read the table .*restore it from a copy"):
        Store(str(tmp_path)).table("epochs")


def test_a_killed_compaction_leaves_no_row_twice(tmp_path: Path) -> None:
    """Killed after the exchange, the old files are still beside the folder."""
    store = Store(str(tmp_path))
    store.write_table(".epochs.new/part-000000.parquet", pa.table({"epoch": [1]}))
    store.write_table("epochs/all.parquet", pa.table({"epoch": [1, 2]}))
    store.replace_folder("epochs", store.table("epochs"))
    assert store.table("epochs")["epoch"].to_pylist() == [1, 2]
    store.write_table(".trials.new/all.parquet", pa.table({"trial": [7]}))
    store.write_table("trials/part-000000.parquet", pa.table({"trial": [8]}))
    assert store.table("trials")["trial"].to_pylist() == [8]
    assert {path.name for path in tmp_path.iterdir()} == {"epochs", "trials"}


def test_a_file_system_that_cannot_exchange_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as NFS: the rows are replaced anyway, and none stands twice at the end."""
    monkeypatch.setattr(storage, "_exchange", lambda *_: False)
    store = Store(str(tmp_path))
    for part in range(3):
        store.write_table(f"epochs/part-{part}.parquet", pa.table({"epoch": [part]}))
    store.replace_folder("epochs", pa.table({"epoch": [0, 2]}))
    assert store.table("epochs")["epoch"].to_pylist() == [0, 2]
    store.replace_folder("epochs", pa.table({"epoch": [2]}))
    assert store.table("epochs")["epoch"].to_pylist() == [2]
    assert [path.name for path in tmp_path.iterdir()] == ["epochs"]


def test_what_cannot_be_exchanged_is_noticed(tmp_path: Path) -> None:
    """The system call fails where there is no second folder."""
    (tmp_path / "one").mkdir()
    assert not storage._exchange(tmp_path / "one", tmp_path / "two")
    (tmp_path / "two").mkdir()
    assert storage._exchange(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("place", ["epochs/.part-{}.jsonl", ".epochs-part-{}.jsonl"])
def test_buffered_rows_of_a_killed_search_are_recovered(place: str, tmp_path: Path) -> None:
    """From the place of today, and from inside the table, where earlier versions wrote them."""
    store = Store(str(tmp_path))
    rows = [{**epoch_row(0, i), "time": epoch_row(0, i)["time"].isoformat()} for i in range(3)]
    lines = [json.dumps(row) + "\n" for row in rows]
    first = pa.Table.from_pylist([epoch_row(0, 9)], schema=EPOCHS)
    store.write_table("epochs/part-000000.parquet", first)
    (tmp_path / place.format("000000")).write_text(lines[0])  # killed before it was deleted
    (tmp_path / place.format("000001")).write_text("".join(lines[1:]) + lines[0][:20])
    (tmp_path / "epochs/.part-000002.parquet.tmp").write_bytes(b"PAR1")
    (tmp_path / ".epochs-part-000002.parquet.tmp").write_bytes(b"PAR1")
    recover(store, "epochs", EPOCHS)
    assert store.table("epochs")["epoch"].to_pylist() == [9, 1, 2]
    assert sorted(path.name for path in (tmp_path / "epochs").iterdir()) == [
        "part-000000.parquet",
        "part-000001.parquet",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["epochs"]
