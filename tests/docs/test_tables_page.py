"""docs/tables.md names every column of every table, with its type."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest

from imbtune.study.records import ENDS
from imbtune.study.tables.schema import (
    CLASSES,
    EPOCH_METRICS,
    EPOCHS,
    FINALS,
    MACHINE,
    MARGINS,
    METRICS,
    PREDICTIONS,
    SCORES,
    VERSION,
    trial_schema,
)

PAGE = (Path(__file__).parents[2] / "docs/tables.md").read_text(encoding="utf-8")
PROBABILITIES = [column for column in METRICS if column not in EPOCH_METRICS]
SHARED = {
    "metrics": EPOCH_METRICS,
    "metrics of probabilities": PROBABILITIES,
    "margins": MARGINS,
    "machines": MACHINE,
}
TABLES = {
    "trials": trial_schema({}),
    "epochs": EPOCHS,
    "finals": FINALS,
    "predictions": PREDICTIONS,
    "scores": SCORES,
    "classes": CLASSES,
}


def section(title: str) -> str:
    found = re.search(
        rf"^## {title}$(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE | re.IGNORECASE
    )
    assert found
    return found[1]


def columns(title: str) -> dict[str, str]:
    """The type of each column that a section lists."""
    rows = re.findall(r"^\| `(\w+)`(?: \*\*\d\*\*)? \| ([\w ]+) \|", section(title), re.MULTILINE)
    return dict(rows)


def word(kind: pa.DataType) -> str:
    """A type as the page has it."""
    if pa.types.is_list(kind):
        return f"list of {word(kind.value_type)}"
    if pa.types.is_struct(kind):
        return "struct"
    return "timestamp" if pa.types.is_timestamp(kind) else str(kind)


@pytest.mark.parametrize("title", SHARED)
def test_shared_columns(title: str) -> None:
    assert columns(title) == {name: word(kind) for name, kind in SHARED[title]}


@pytest.mark.parametrize("name", TABLES)
def test_every_column_of_a_table(name: str) -> None:
    listed = columns(name)
    for title in SHARED:
        if f"(#{title.replace(' ', '-')})" in section(name):
            assert listed.keys().isdisjoint(columns(title))
            listed |= columns(title)
    assert listed == {field.name: word(field.type) for field in TABLES[name]}


def test_every_file_has_the_version_that_the_page_names() -> None:
    assert f"`imbtune_tables`: now {VERSION}." in PAGE
    for schema in TABLES.values():
        assert schema.metadata == {b"imbtune_tables": VERSION.encode()}


def test_every_end_of_a_search() -> None:
    rows = re.findall(r"^\| `([\w ]+)` \| (.+) \|$", section("study.yaml"), re.MULTILINE)
    told = {end: words.replace("`", "") for end, words in rows if end != "end"}
    assert told == ENDS
