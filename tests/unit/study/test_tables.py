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
from imbtune.study.tables.curves import last_curves
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


def curve(*rows: tuple[str, int, int, int]) -> pd.DataFrame:
    """Epochs of trial 1 as (phase, budget, first and last epoch), one after the other in time."""
    found = [
        {"trial": 1, "phase": phase, "budget": budget, "epoch": epoch}
        for phase, budget, first, last in rows
        for epoch in range(first, last + 1)
    ]
    times = pd.date_range("2026-01-01", periods=len(found), freq="s", tz="UTC")
    return pd.DataFrame(found).assign(time=times)


def path(curves: pd.DataFrame, trial: int) -> list[tuple[str, int]]:
    own = curves[curves["trial"] == trial]
    return list(zip(own["phase"].str[0], own["epoch"], strict=True))


TRUNK = [("t", 1), ("t", 2)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([("trunk", 9, 1, 2)], TRUNK, id="no rung yet"),
        pytest.param(
            [("trunk", 9, 1, 2), ("cooldown", 3, 3, 3)], [*TRUNK, ("c", 3)], id="stopped at a rung"
        ),
        pytest.param(
            [("trunk", 9, 1, 2), ("cooldown", 3, 3, 3), ("trunk", 9, 3, 4)],
            [*TRUNK, ("t", 3), ("t", 4)],
            id="on its way to the next rung",
        ),
        pytest.param(
            [("trunk", 9, 1, 2), ("cooldown", 3, 3, 3), ("trunk", 9, 3, 4), ("cooldown", 9, 5, 6)],
            [*TRUNK, ("t", 3), ("t", 4), ("c", 5), ("c", 6)],
            id="finished",
        ),
        pytest.param(
            [("trunk", 3, 1, 2), ("cooldown", 3, 3, 3), ("trunk", 9, 1, 4), ("cooldown", 9, 5, 5)],
            [*TRUNK, ("t", 3), ("t", 4), ("c", 5)],
            id="compressed schedules begin anew",
        ),
    ],
)
def test_the_last_curve_of_a_trial(
    rows: list[tuple[str, int, int, int]], expected: list[tuple[str, int]]
) -> None:
    assert path(last_curves(curve(*rows), {1: 1}), 1) == expected


def test_trials_on_one_trunk_have_its_epochs_each() -> None:
    rows = curve(("trunk", 9, 1, 2), ("cooldown", 3, 3, 3))
    other = rows[rows["phase"] == "cooldown"].assign(trial=2)
    curves = last_curves(pd.concat([rows, other]), {1: 1, 2: 1})
    assert path(curves, 1) == path(curves, 2) == [*TRUNK, ("c", 3)]
    assert last_curves(rows.iloc[:0], {}).empty
