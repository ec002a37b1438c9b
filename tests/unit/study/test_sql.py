"""SQL over one or several studies: what it sees, and that it does nothing but read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from table_rows import KNOBS, epoch_row, trial_row

from imbtune.errors import ConfigError, DamagedFileError, StudyError
from imbtune.storage import Store, checksums, store
from imbtune.study.tables.find_studies import studies_in
from imbtune.study.tables.parquet import ParquetSink
from imbtune.study.tables.schema import FINALS, SCORES
from imbtune.study.tables.sql import query
from imbtune.study.view import Study


def make(place: Path, knobs: dict[str, type], rows: list[dict[str, Any]], epochs: int = 3) -> str:
    place.mkdir(parents=True)
    (place / "study.yaml").write_text(f"name: {place.name}\n")
    sink = ParquetSink(Store(str(place)), knobs)
    for row in rows:
        for epoch in range(1, epochs + 1):
            sink.epoch(epoch_row(row["trial"], epoch))
        sink.trial(row)
    sink.close()
    return str(place)


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    """Two studies of different spaces, and what is not a study beside them."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "read.me").write_text("")
    other = {"mix": str, "cutmix.size": int, "model.width": float}
    row = trial_row(0) | {"mix": "it's", "cutmix.size": 3, "model.width": 1.5}
    return [
        make(tmp_path / "a", KNOBS, [trial_row(0), trial_row(1) | {"score": 0.75}]),
        make(tmp_path / "b's", other, [row]),
    ]


def rows(studies: list[str], sql: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = query(studies, sql).to_pylist()
    return found


def test_several_studies_have_the_columns_of_all(two: list[str]) -> None:
    assert studies_in(str(Path(two[0]).parent)) == two
    assert studies_in(two[1]) == [two[1]]
    sql = 'select study, trial, mix, "mix.omega", "cutmix.size", "model.width" from trials'
    assert rows(two, sql) == [
        {"study": "a", "trial": 0, "mix": "mamix", "mix.omega": 0.25, "cutmix.size": None}
        | {"model.width": 16},
        {"study": "a", "trial": 1, "mix": "mamix", "mix.omega": 0.25, "cutmix.size": None}
        | {"model.width": 16},
        {"study": "b's", "trial": 0, "mix": "it's", "mix.omega": None, "cutmix.size": 3}
        | {"model.width": 1.5},
    ]
    counts = "select study, count(*) n, max(score) best from trials group by study order by study"
    assert [tuple(row.values()) for row in rows(two, counts)] == [("a", 2, 0.75), ("b's", 1, 0.5)]
    assert rows(two, "select count(*) n from finals") == [{"n": 0}]
    assert rows(two, "select kind from scores") == []


def test_studies_of_one_name_are_told_apart_by_their_path(tmp_path: Path) -> None:
    same = [make(tmp_path / k / "s", KNOBS, [trial_row(0)]) for k in ("x", "y")]
    assert [row["study"] for row in rows(same, "select study from trials")] == same


@pytest.mark.parametrize(
    "sql",
    [
        "select * from epochs order by trial, epoch",
        "from epochs order by all",
        "select trial, max(balanced_accuracy) from epochs group by trial order by trial",
        "select count(*) from epochs",
        "select sum(recall[1]) from epochs where phase = 'trunk'",
        "select columns('m.*') from epochs order by all",
        "select e from epochs e order by e.trial, e.epoch",
        "pivot (select trial, epoch, loss from epochs) on epoch using first(loss) order by trial",
        "select count(t.mix), avg(loss) from epochs join trials t using (study, trial)",
        "select * from (select study, trial, mix from trials) natural join epochs order by all",
        "describe epochs",
        "select count(*) from query_table('ep' || 'ochs')",
    ],
)
def test_columns_that_are_not_read_do_not_change_the_result(
    sql: str, two: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = query(two, sql)
    monkeypatch.setattr("imbtune.study.tables.sql._columns_read", lambda *_: None)
    assert found.equals(query(two, sql)) and found.num_rows


def test_of_the_epochs_only_the_columns_of_the_query_are_decoded(
    two: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study of 10,000 trials of 100 epochs and 100 classes has a gigabyte of recall."""
    asked = list[Any]()
    whole = checksums.parquet_table

    def spy(content: bytes, columns: Any = None) -> pa.Table:
        table = whole(content, columns)
        asked.append(set(table.column_names))
        return table

    monkeypatch.setattr(store, "parquet_table", spy)
    assert rows(two, "select avg(loss) x from epochs where trial = 1") == [{"x": 1.5}]
    assert asked == [{"trial", "phase", "budget", "epoch", "loss"}] * 2
    asked.clear()
    assert len(rows(two, "select score from trials")) == 3
    assert len(asked) == 2 and all("loss" not in columns for columns in asked)


WRITES = [
    "copy trials to '{here}/x.csv'",
    "copy (select 1) to '{here}/x.parquet'",
    "attach '{here}/x.db'",
    "export database '{here}/x'",
    "install httpfs",
    "load httpfs",
    "set enable_external_access = true",
    "pragma enable_profiling",
    "create table x as select 1",
    "create or replace view trials as select 1",
    "drop view trials",
    "insert into trials select * from trials",
    "select 1; select 2",
    "",
    ";",
]
READS = [
    "select * from '{here}/secret.csv'",
    "select * from read_csv('{here}/secret.csv')",
    "select * from read_text('{here}/secret.csv')",
    "select * from read_parquet('{here}/a/trials/*.parquet')",
    "select * from glob('{here}/*')",
    "select * from 'https://127.0.0.1:1/x.parquet'",
    "select * from secret",  # a variable of this process
]


@pytest.mark.parametrize("sql", [*WRITES, *READS])
def test_a_query_only_reads_the_views(sql: str, two: list[str], tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("key\nhidden\n")
    secret = pd.DataFrame({"key": ["hidden"]})
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    with pytest.raises(ConfigError) as error:
        query(two, sql.format(here=tmp_path))
    assert "\n" not in str(error.value) and "hidden" not in str(error.value)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before and len(secret) == 1


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("selec 1", 'syntax error at or near "selec"'),
        ("select scor from trials", 'Referenced column "scor" not found'),
        ("select scor from epochs", 'Referenced column "scor" not found'),
        ("select * from trial", "Table with name trial does not exist"),
        ("select mix::int from trials", "Could not convert string"),
        ("delete from trials", "the query is a DELETE: a query only reads: give a SELECT"),
    ],
)
def test_an_error_is_duckdbs_in_one_line(sql: str, message: str, two: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        query(two, sql)
    assert message in str(error.value) and "LINE 1" not in str(error.value)


def test_foreign_files_are_left_out_and_damage_is_named(two: list[str]) -> None:
    folder = Path(two[0], "trials")
    (folder / "theirs.parquet").write_bytes(b"no Parquet")
    pa.parquet.write_table(pa.table({"trial": [9]}), folder / "other.parquet")
    assert rows(two, "select count(*) n from trials") == [{"n": 3}]
    part = next(folder.glob("part-*.parquet"))
    part.write_bytes(part.read_bytes()[:-40])
    with pytest.raises(DamagedFileError, match=part.name):
        query(two, "select 1 from trials")
    assert rows(two, "select count(*) n from epochs") == [{"n": 9}]


def test_values_that_pandas_and_files_do_not_have(two: list[str]) -> None:
    sql = """select sum(t.trial) s, 1.25::decimal(4, 2) d, t.study, u.study, interval 1 day i,
        10::hugeint ** 30 h from trials t, trials u group by all order by all limit 1"""
    found = query(two, sql)
    assert found.column_names == ["s", "d", "study", "study_1", "i", "h"]
    first = found.to_pylist()[0]
    assert (first["s"], first["d"], first["h"]) == (0, 1.25, 1e30)
    assert isinstance(first["s"], int) and isinstance(first["d"], float)


def test_a_study_answers_as_a_data_frame(two: list[str]) -> None:
    found = Study(two[0]).sql("select trial, max(epoch) as last from epochs group by trial")
    assert found.sort_values("trial").to_numpy().tolist() == [[0, 3], [1, 3]]
    assert str(found.dtypes["trial"]) == "Int32"
    times = Study(two[0]).sql("select ended from trials")["ended"]
    assert times.dt.tz is not None and str(times.dt.tz) == "UTC"


def test_finals_and_scores_have_their_rows(two: list[str]) -> None:
    final = {"trial": 1, "seed": 5, "score": 0.5}
    score = {"trial": 0, "seed": 1, "kind": "prefix", "budget": 3, "score": 0.25}
    place = Store(two[0])
    place.write_table("finals/1-5.parquet", pa.Table.from_pylist([final], schema=FINALS))
    place.write_table("scores/0-1.parquet", pa.Table.from_pylist([score], schema=SCORES))
    assert rows(two, "select trial, seed, score from finals") == [final]
    assert rows(two, "select * exclude study from scores") == [score]


def test_a_place_without_studies(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(StudyError, match="is not a study, and has none in it"):
            studies_in(str(place))
