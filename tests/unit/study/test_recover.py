"""Tables are restored from what kills and damage leave, also when a kill ends the restoring."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_study import RECORDS, epoch_row
from scripted import tiny_space
from table_rows import KNOBS

from imbtune.errors import StudyError
from imbtune.storage import Store
from imbtune.study.records import STOPPED, FinalRecord
from imbtune.study.request import SearchRequest
from imbtune.study.tables import parquet
from imbtune.study.tables.own_files import own_table
from imbtune.study.tables.parquet import GrowingTable, epoch_key
from imbtune.study.tables.recover import (
    check_tables,
    recorded_epochs,
    restore_epochs,
    restore_tables,
    restore_trials,
    set_aside_damaged,
)
from imbtune.study.tables.schema import EPOCHS, FINALS, trial_schema
from imbtune.tuning.finals import known_finals

SCHEMA = trial_schema(KNOBS)
STOPPED_TRIAL = replace(RECORDS[4], state=STOPPED)
JOURNAL = [*RECORDS[:4], STOPPED_TRIAL, RECORDS[5]]
AGAIN = {(4, "trunk", 9, 3)}  # the epoch that the stopped trial will train again


class Killed(BaseException):
    """What ends a process before one of its writes."""


class CutStore(Store):
    """A store whose process is killed before its n-th change of the disk."""

    def __init__(self, path: str, changes: int) -> None:
        super().__init__(path)
        self.left = [changes]  # a list, which copies of the store share

    def _change(self, hidden: str | None = None) -> None:
        if not self.left[0]:
            if hidden:
                (Path(self.root) / hidden).write_bytes(b"PAR1")  # killed while writing it
            raise Killed
        self.left[0] -= 1

    def write(self, name: str, content: bytes) -> None:
        self._change(f".{name}.tmp")
        super().write(name, content)

    def write_table(self, name: str, table: pa.Table) -> None:
        self._change(f".{name.replace('/', '-')}.tmp")
        super().write_table(name, table)

    def append(self, name: str, line: bytes) -> None:
        self._change()
        super().append(name, line)

    def delete(self, name: str) -> None:
        self._change()
        super().delete(name)


def line_of(row: dict[str, Any]) -> bytes:
    return (json.dumps({**row, "time": row["time"].isoformat()}) + "\n").encode()


def trial_part(*rows: tuple[int, str]) -> pa.Table:
    records = {record.number: record for record in JOURNAL}
    found = [replace(records[n], error=f"error {n}", state=state).row() for n, state in rows]
    return pa.Table.from_pylist(found, schema=SCHEMA)


def final_part(number: int, seed: int) -> pa.Table:
    return pa.Table.from_pylist([{"trial": number, "seed": seed, "score": 0.5}], schema=FINALS)


def epoch_part(*keys: tuple[int, int]) -> pa.Table:
    return pa.Table.from_pylist([epoch_row(*key) for key in keys], schema=EPOCHS)


def restore(store: Store) -> list[str]:
    """As a resumed search does; what it said."""
    said: list[str] = []
    store.remove_leftovers()
    restore_trials(store, SCHEMA, JOURNAL, said.append)
    restore_epochs(store, JOURNAL, AGAIN, said.append)
    return said


def rows_of(folder: Path) -> tuple[list[Any], list[Any]]:
    """The rows of both tables as another program reads them, sorted; each must be there once."""
    trials = pd.read_parquet(folder / "trials").sort_values("trial")
    epochs = pd.read_parquet(folder / "epochs").sort_values(["trial", "epoch"])
    assert trials["trial"].is_unique
    assert not epochs.duplicated(["trial", "phase", "budget", "epoch"]).any()
    found = trials[["trial", "state", "error"]].fillna("").to_numpy().tolist()
    return found, epochs[["trial", "epoch"]].to_numpy().tolist()


def check_every_kill(folder: Path, again: Callable[[Store], list[str]] = restore) -> int:
    """Kill the restoring before each of its changes, and restore; returns the number of changes."""
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(shutil.copytree(folder, Path(scratch, "whole")))
        again(Store(str(whole)))
        wanted = rows_of(whole)
        assert again(Store(str(whole))) == []  # nothing is left to say
        assert not [path.name for path in whole.rglob(".*")]
        for changes in range(100):
            cut = Path(shutil.copytree(folder, Path(scratch, f"cut{changes}")))
            try:
                again(CutStore(str(cut), changes))
            except Killed:
                again(Store(str(cut)))
                assert rows_of(cut) == wanted
                assert not [path.name for path in cut.rglob(".*")]
            else:
                assert rows_of(cut) == wanted
                return changes
    raise AssertionError("it never ended")


STATES = st.sampled_from(["COMPLETE", "PRUNED", "FAIL", STOPPED])
TRIAL_PARTS = st.lists(st.lists(st.tuples(st.integers(0, 5), STATES), max_size=4), max_size=3)
KEYS = st.tuples(st.integers(0, 5), st.integers(1, 4))
DAMAGED = st.tuples(st.integers(0, 4), st.integers(0, 4))  # parts, if there are so many
EPOCH_PARTS = st.lists(st.lists(KEYS, max_size=4), max_size=3)


@settings(max_examples=5)
@given(TRIAL_PARTS, EPOCH_PARTS, st.lists(KEYS, max_size=4), st.booleans(), DAMAGED)
def test_whatever_a_kill_left_each_row_is_there_once(
    trials: list[list[tuple[int, str]]],
    epochs: list[list[tuple[int, int]]],
    buffered: list[tuple[int, int]],
    old: bool,
    damaged: tuple[int, int],
) -> None:
    """Doubles, contradicted rows, damaged parts, buffered rows, names of all versions."""
    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
        patch.setitem(parquet.ROWS, "epochs", 3)
        patch.setitem(parquet.ROWS, "trials", 3)
        folder = Path(scratch, "study")
        store = Store(str(folder))
        names = ["all.parquet", "all-0.parquet"] if old else []
        names += [f"part-{i:06d}.parquet" for i in range(4)]
        for name, trial_rows in zip(names, trials, strict=False):
            store.write_table(f"trials/{name}", trial_part(*trial_rows))
        for name, keys in zip(names, epochs or [[]], strict=False):
            store.write_table(f"epochs/{name}", epoch_part(*keys))
        kept = {key for keys in epochs for key in keys}
        if damaged[0] < len(epochs):
            (folder / "epochs" / names[damaged[0]]).write_bytes(b"PAR1")
            kept = {key for i, keys in enumerate(epochs) if i != damaged[0] for key in keys}
        if damaged[1] < len(trials):
            (folder / "trials" / names[damaged[1]]).write_text("")
        buffer = ".epochs-part-000007.jsonl" if old else ".epochs.jsonl"
        lines = b"".join(line_of(epoch_row(*key)) for key in buffered)
        (folder / buffer).write_bytes(lines + b'{"trial": 1')
        check_every_kill(folder)
        restore(store)
        states, keys = rows_of(folder)
        ended = [record for record in JOURNAL if record.state != STOPPED]
        assert [row[:2] for row in states] == [[r.number, r.state] for r in ended]
        want = {key for key in kept | set(buffered) if key != (4, 3)}
        assert {tuple(key) for key in keys} == want


def test_a_kill_at_any_change_of_a_large_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every kind of change in one study: parts written again, appended, set aside, deleted."""
    monkeypatch.setitem(parquet.ROWS, "epochs", 2)
    store = Store(str(tmp_path / "study"))
    store.write_table("trials/part-000000.parquet", trial_part((0, "COMPLETE"), (4, STOPPED)))
    store.write_table("trials/part-000001.parquet", trial_part((0, "COMPLETE"), (1, "FAIL")))
    store.write_table("trials/part-000002.parquet", trial_part((3, "COMPLETE")))
    (tmp_path / "study/trials/part-000002.parquet").write_bytes(b"no")
    store.write_table("epochs/part-000000.parquet", epoch_part((0, 1), (4, 3)))
    store.write_table("epochs/part-000001.parquet", epoch_part((0, 1), (0, 2)))
    store.write_table("epochs/part-000002.parquet", epoch_part((9, 9)))
    (tmp_path / "study/epochs/part-000002.parquet").write_bytes(b"no")
    (tmp_path / "study/.epochs.jsonl").write_bytes(
        line_of(epoch_row(0, 2)) + line_of(epoch_row(1, 1)) + b"\xff\x00 garbage\n"
    )
    (tmp_path / "study/.trials-part-000003.jsonl").write_bytes(b'{"trial": 5, "error": "E"}\n[]\n')
    assert check_every_kill(tmp_path / "study") == 10
    said = restore(store)
    assert [line.partition("study/")[2] for line in said] == [
        "trials/part-000002.parquet is damaged: journal.log has its rows",
        "epochs/part-000002.parquet is damaged: its rows, curves of epochs that were trained, are "
        "lost; the file is kept as damaged-epochs-part-000002.parquet",
        ".epochs.jsonl is damaged: 1 of its 3 lines, rows of epochs that were trained, are lost",
    ]
    states, epochs = rows_of(tmp_path / "study")
    assert states == [
        [0, "COMPLETE", "error 0"],
        [1, "COMPLETE", ""],
        [2, "COMPLETE", ""],
        [3, "COMPLETE", ""],
        [5, "FAIL", "E"],
    ]
    assert epochs == [[0, 1], [0, 2], [1, 1]]


def test_a_search_killed_at_any_change_has_each_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it streams rows; the rows that were told before the kill are there after a resume."""
    monkeypatch.setitem(parquet.ROWS, "epochs", 3)

    for changes in range(2, 40):
        folder = tmp_path / str(changes)
        store, told = CutStore(str(folder), changes), -1
        try:
            sink = parquet.ParquetSink(store, KNOBS)
            for epoch in range(8):
                sink.epoch(epoch_row(0, epoch))
                told = epoch
                if epoch % 2:
                    sink.flush()
            sink.close()
        except Killed:
            seen = pd.read_parquet(folder / "epochs")["epoch"].tolist()
            assert seen == list(range(len(seen)))
            restore_epochs(Store(str(folder)), [], set(), print)
            found = pd.read_parquet(folder / "epochs")["epoch"].tolist()
            assert found == list(range(len(found)))
            assert len(found) >= max(told + 1, len(seen))
        else:
            assert changes > 12
            return
    raise AssertionError("it never ended")


def test_a_table_that_is_right_is_not_written(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    restore_trials(store, SCHEMA, JOURNAL, print)
    GrowingTable(store, "epochs", EPOCHS).write(store, [epoch_row(0, 1)])
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert restore(store) == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == times
    assert len(times) == 2


def test_the_rows_of_interrupted_trials_are_returned_as_they_were(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_table("epochs/all.parquet", epoch_part((4, 2), (4, 3), (0, 1)))
    store.append(".epochs.jsonl", line_of(epoch_row(4, 4)))
    found = restore_epochs(store, JOURNAL, AGAIN, print)
    assert [epoch_key(row)[::3] for row in found] == [(4, 2), (4, 3), (4, 4)]


FOREIGN = {
    "other columns": pa.table({"x": [1]}),
    "other types": pa.table({name: ["a"] for name in [*EPOCHS.names, "state", "seed", "score"]}),
    "no trial number": pa.table(
        {name: pa.nulls(1) for name in [*EPOCHS.names, "state", "seed", "score"]}
    ),
}


@pytest.mark.parametrize("name", ["mine.parquet", "part-000007.parquet"])
@pytest.mark.parametrize("table", FOREIGN.values(), ids=FOREIGN)
def test_foreign_table_files_are_passed_over(tmp_path: Path, table: pa.Table, name: str) -> None:
    """With one line for each; they stay as they are, and rows are added beside them."""
    store, folders = Store(str(tmp_path)), ("trials", "epochs", "finals")
    store.write_table("trials/part-000000.parquet", trial_part((0, "COMPLETE")))
    store.write_table("epochs/part-000000.parquet", epoch_part((0, 1)))
    store.write_table("finals/0-7.parquet", final_part(0, 7))
    for folder in folders:
        store.write_table(f"{folder}/{name}", table)
    before = {folder: store.read(f"{folder}/{name}") for folder in folders}
    check_tables(store, JOURNAL)
    said = restore(store)
    set_aside_damaged(store, "finals", said.append)
    assert said == [
        f"{tmp_path}/{folder}/{name} is no file of imbtune's: it is not used" for folder in folders
    ]
    assert known_finals(store) == [FinalRecord(0, 7, 0.5)]
    assert recorded_epochs(store, JOURNAL) == {}
    sink = parquet.ParquetSink(store, KNOBS)
    sink.epoch(epoch_row(1, 1))
    sink.close()
    assert {folder: store.read(f"{folder}/{name}") for folder in folders} == before
    assert own_table(store, "epochs")["trial"].to_pylist() == [0, 1]
    ended = [record.number for record in JOURNAL if record.state != STOPPED]
    assert own_table(store, "trials")["trial"].to_pylist() == ended


def test_a_damaged_file_with_another_name_stays(tmp_path: Path) -> None:
    """No version of imbtune has written it, so its rows are not the journal's."""
    store = Store(str(tmp_path))
    for folder in ("trials", "epochs", "finals"):
        store.write(f"{folder}/notes.parquet", b"mine")
    check_tables(store, JOURNAL)
    said = restore(store)
    set_aside_damaged(store, "finals", said.append)
    assert len(said) == 3
    assert known_finals(store) == []
    for folder in ("trials", "epochs", "finals"):
        assert store.read(f"{folder}/notes.parquet") == b"mine"


def test_epochs_of_other_versions_get_the_columns_of_this_one(tmp_path: Path) -> None:
    """A missing column is null, an unknown one is left out, a type is converted."""
    store = Store(str(tmp_path))
    rows = epoch_part((0, 1), (4, 3), (0, 2)).drop_columns(["loss"])
    rows = rows.append_column("extra", pa.array(["a", "b", "c"]))
    rows = rows.set_column(0, "trial", rows["trial"].cast(pa.int64()))
    store.write_table("epochs/part-000000.parquet", rows)
    assert restore(store) == []
    part = store.part("epochs/part-000000.parquet")
    assert part.schema.equals(EPOCHS)
    assert part["epoch"].to_pylist() == [1, 2]
    assert part["loss"].null_count == 2
    assert restore(store) == []


def test_the_check_is_that_the_journal_has_what_the_tables_have(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_table("finals/3-7.parquet", final_part(3, 7))
    store.write_table("trials/part-000000.parquet", trial_part((3, "COMPLETE"), (4, STOPPED)))
    check_tables(store, JOURNAL)
    with pytest.raises(StudyError, match=r"trial 3 is COMPLETE in the tables, but missing"):
        check_tables(store, JOURNAL[:3])


def test_checkpoints_of_trials_that_have_ended_are_deleted(tmp_path: Path) -> None:
    """A kill may come before that; those of the trunks that go on stay, and so do other files."""
    request = SearchRequest(tiny_space(), 6, "s", storage=str(tmp_path))
    store = Store(request.path)
    for name in ("0-3.pt", "4-1.pt", "4-3.pt", "notes.txt"):
        store.write(f"checkpoints/{name}", b"x")
    restore_tables(store, KNOBS, JOURNAL, request, lambda _: None)
    assert store.names("checkpoints") == ["4-1.pt", "4-3.pt", "notes.txt"]
