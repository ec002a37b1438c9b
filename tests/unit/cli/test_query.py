"""`imbtune query`: what it prints and writes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from command import invoke
from table_rows import KNOBS, epoch_row, trial_row

from imbtune.storage import Store
from imbtune.study.tables.parquet import ParquetSink


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder of one study; `--out` is relative to the folder above it."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "runs" / "one"
    place.mkdir(parents=True)
    (place / "study.yaml").write_text("name: one\n")
    sink = ParquetSink(Store(str(place)), KNOBS)
    for trial in (0, 1):
        sink.epoch(epoch_row(trial, 1))
        sink.trial(trial_row(trial) | {"error": 'a|b "c"\nd\x1b[31m' if trial else None})
    sink.close()
    return "runs"


def query(*args: str) -> str:
    code, out, err = invoke("query", *args)
    assert (code, err) == (0, "")
    return out


ROWS = "select study, trial, score, recall, ended, error, mix from trials order by trial"


def test_a_table_fits_the_terminal(runs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    out = query(runs, "from trials")
    assert max(map(len, out.splitlines())) <= 60
    assert " study " in out and " mix.omega " not in out
    assert "more columns (" in out and "--out FILE.csv writes all" in " ".join(out.split())
    monkeypatch.delenv("COLUMNS")
    assert " mix.omega " in query(runs, "from trials")  # a file has lines of any length


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["from trials", "runs"], "the query 'from trials' is not the last argument"),
        (["runs", "(select 1)", "runs"], "the query '(select 1)' is not the last argument"),
        (["/* all */ select 1", "nowhere"], "is not the last argument"),
        (["runs/one"], "no query is given after the study 'runs/one'"),
        (["SELECT 1"], "no study is given before the query 'SELECT 1'"),
        (["runs", "runs/one"], "the last argument, 'runs/one', is a study and no query"),
        (["runs", "s3://bucket/runs"], "'s3://bucket/runs', is a study and no query"),
    ],
)
def test_arguments_in_the_wrong_order(runs: str, args: list[str], message: str) -> None:
    code, out, err = invoke("query", *args)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
    assert err.endswith('imbtune query STUDY… "SELECT …"\n')


def test_a_folder_with_the_name_of_a_query(runs: str) -> None:
    Path(runs).rename("from trials")
    assert " 2 " in query("from trials", "select count(*) as n from trials")


def test_a_table_has_its_first_rows(runs: str) -> None:
    out = query(runs, "select range as n from range(1234)")
    assert "1,134 more rows: --out FILE.csv writes all" in out and " 99 " in out


def test_nothing_of_a_cell_reaches_the_terminal_raw(runs: str) -> None:
    out = query(runs, ROWS)
    assert "\x1b" not in out and "\\x1b[31m" in out and "[0.1, 0.9]" in out
    assert query(runs, """select '[red]:x:' as "[b]" """).count("[red]:x:") == 1


def test_every_format_has_the_same_rows(runs: str) -> None:
    as_json = json.loads(query(runs, ROWS, "--format", "json"))
    assert [row["recall"] for row in as_json] == [[0.1, 0.9]] * 2
    assert as_json[1]["error"] == 'a|b "c"\nd\x1b[31m' and as_json[0]["error"] is None
    as_csv = list(csv.DictReader(io.StringIO(query(runs, ROWS, "--format", "csv"))))
    assert [row["error"] for row in as_csv] == ["", 'a|b "c"\nd\x1b[31m']
    assert [json.loads(row["recall"]) for row in as_csv] == [[0.1, 0.9]] * 2
    lines = query(runs, ROWS, "--format", "markdown").splitlines()
    assert len(lines) == 4 and r'a\|b "c" d' in lines[3]
    assert all(line.replace(r"\|", "").count("|") == 8 for line in lines)
    query(runs, ROWS, "--out", "x.parquet")
    assert pd.read_parquet("x.parquet")["trial"].tolist() == [0, 1]
    assert query(runs, "select 1 where false", "--format", "json") == "[]\n"


@pytest.mark.parametrize("name", ["x.csv", "x.json", "x.md", "x.parquet", "X.CSV"])
def test_a_file_is_written_by_its_name(name: str, runs: str) -> None:
    assert query(runs, ROWS, "--out", name) == f"2 rows written to {name}\n"
    before = Path(name).read_bytes()
    code, _, err = invoke("query", runs, "select 1", "--out", name)
    assert code == 2 and err == f"error: --out {name} exists: give another file\n"
    assert Path(name).read_bytes() == before


WRONG: list[tuple[list[str], str]] = [
    (["--format", "xml"], "unknown value for --format 'xml'"),
    (["--format", "parquet"], "--format parquet is not text: give --out FILE, too"),
    (["--out", "x"], "--out x: give a name that ends in .csv, .json, .md, .parquet, or --format"),
    (["--out", "x.csv", "--format", "table"], "--format table is printed"),
    (["--out", "no/x.csv"], "--out no/x.csv: there is no folder no: create it"),
    (["--out", "s3://b/x.csv"], "--out s3://b/x.csv: it is read and written on this machine"),
    (["--out", "s3://K:S@b/x.csv"], "--out"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_an_option_that_cannot_be_is_one_line(options: list[str], message: str, runs: str) -> None:
    code, out, err = invoke("query", runs, "select 1", *options)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
    assert "K:S" not in err


def test_numbers_json_does_not_have(runs: str) -> None:
    sql = "select 'nan'::double a, [1.5, 'inf'::double] b, {'c': 'nan'::double} d, 'x'::blob e"
    (row,) = json.loads(query(runs, sql, "--format", "json"))
    expected: dict[str, Any] = {"a": None, "b": [1.5, None], "d": {"c": None}, "e": "78"}
    assert row == expected
