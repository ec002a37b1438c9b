"""JSON without NaN and infinity, wherever imbtune writes JSON."""

from __future__ import annotations

import ast
import contextlib
import datetime as dt
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbtune.storage import Store
from imbtune.strict_json import dumps, nan_for_null, null_for_nan
from imbtune.study.optuna_storage import JournalFile
from imbtune.study.records import RungRecord
from imbtune.study.tables.parquet import ParquetSink
from imbtune.study.tables.recover import restore_epochs
from imbtune.study.tables.schema import EPOCHS

ROOT = Path(__file__).resolve().parents[2]
FLOATS = st.floats(allow_nan=True, allow_infinity=True)


def strict(text: str) -> Any:
    """Parsed as strict readers do: `NaN` and `Infinity` are refused."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


@settings(max_examples=30)
@given(st.recursive(FLOATS | st.integers() | st.none() | st.text(), st.lists, max_leaves=9))
def test_what_is_not_finite_is_null_and_the_rest_stays(content: object) -> None:
    read = strict(dumps({"content": content}))["content"]
    assert read == null_for_nan(content)


def test_finite_numbers_keep_every_bit() -> None:
    values = [0.1, 1e-300, -0.0, 3, True, None, "NaN"]
    assert strict(dumps(values)) == values
    assert dumps(values) == json.dumps(values)


def test_a_class_without_images_is_nan_again() -> None:
    read = nan_for_null(strict(dumps([0.5, math.nan])))
    assert read[0] == 0.5 and math.isnan(read[1])


def test_every_call_refuses_what_is_not_finite() -> None:
    """Of the package and its benchmarks, so that a new call is not forgotten."""
    calls = []
    for path in [*ROOT.glob("imbtune/**/*.py"), *ROOT.glob("benchmarks/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.dumps", "json.dump"):
                calls.append(path.name)
                options = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert options.get("allow_nan") == "False", (path, node.lineno)
    assert len(calls) >= 5


def test_a_rung_of_a_class_without_validation_images_survives_the_journal(tmp_path: Path) -> None:
    rung = RungRecord(
        0, "cooldown", 9, 0.5, 90, {"few": None}, [0.5, math.nan], {"margin_val": [1.0, math.nan]},
        "n", 1.0, 1, [0, 0, 5, 0, 1, 2],
    )  # fmt: skip
    entry = strict(dumps(rung.to_journal()))
    again = RungRecord.from_journal(entry)
    assert again.confusion == [0, 0, 5, 0, 1, 2]
    assert again.recall_K[0] == 0.5 and math.isnan(again.recall_K[1])
    assert math.isnan(again.margins["margin_val"][1]) and again.metrics == {"few": None}
    with (
        contextlib.closing(JournalFile(tmp_path / "journal.log")) as journal,
        pytest.raises(ValueError, match="not JSON compliant"),
    ):
        journal.append_logs([{"value": math.nan}])


def test_a_rung_of_an_older_study_is_read_with_its_nan() -> None:
    entry = {
        "order": 0, "kind": "cooldown", "budget": 9, "score": 0.5, "images": 90,
        "figures": {"accuracy": 0.5, "recall": [0.5, math.nan]},
        "node": "n", "seconds": 1.0, "threads": 1,
    }  # fmt: skip
    assert math.isnan(RungRecord.from_journal(json.loads(json.dumps(entry))).recall_K[1])


def test_a_row_that_a_killed_search_buffered_keeps_its_nan(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    sink = ParquetSink(store, {})
    row = {
        "trial": 3, "epoch": 1, "phase": "trunk", "budget": 9, "lr": 0.1, "loss": 1.5,
        "balanced_accuracy": 0.5, "few": None, "recall": [0.5, math.nan],
        "time": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    }  # fmt: skip
    sink.epoch(row)
    (line,) = tmp_path.glob(".epochs.jsonl")
    assert strict(line.read_text())["recall"] == [0.5, None]
    restore_epochs(store, [], set(), print)
    (read,) = store.table("epochs").to_pylist()
    assert read["recall"][0] == 0.5 and math.isnan(read["recall"][1])
    assert read["few"] is None and read["time"] == row["time"]
    assert store.table("epochs").schema.equals(pa.schema(EPOCHS))
