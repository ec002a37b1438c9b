"""A search that is cut off and resumed: with scripted scores, it ends as one that was not."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import ScriptedSearch, tiny_space, told

from imbtune.storage import Store
from imbtune.study.journal import open_journal
from imbtune.study.working_journal import FILE

FAST = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # a journal is synced at every line


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


Searched = tuple[bytes, list[list[Any]], ScriptedSearch]


def searched(content: bytes, late: int, sampler: str, trials: int) -> Searched:
    """A search to its end on a journal that begins with `content`: the journal and its trials."""
    with tempfile.TemporaryDirectory(dir=FAST) as folder:
        (Path(folder) / FILE).write_bytes(content)
        with open_journal(Store(folder), "s") as journal:
            search = ScriptedSearch(journal.study, tiny_space(late), trials, sampler)
            search.run()
            found = [told(trial) for trial in journal.study.get_trials()]
            return (Path(folder) / FILE).read_bytes(), found, search


def ends_of_lines(content: bytes) -> list[int]:
    return [0, *(i + 1 for i, byte in enumerate(content) if byte == ord("\n"))]


@pytest.mark.parametrize("late", [1, 3])
def test_a_search_cut_off_at_any_write_ends_as_one_that_was_not(late: int) -> None:
    """In the middle of asking, of a rung's scores, of telling: the journal holds whole writes."""
    content, trials, search = searched(b"", late, "random", 11)
    assert {row[1] for row in trials} == {"COMPLETE", "PRUNED", "FAIL"}
    for end in ends_of_lines(content):
        _, again, resumed = searched(content[:end], late, "random", 11)
        assert again == trials
        assert resumed.scheduler.cutoffs == search.scheduler.cutoffs


@pytest.fixture(scope="module", params=[1, 4], ids=["alone", "late"])
def by_tpe(request: pytest.FixtureRequest) -> tuple[int, Searched]:
    """More trials than TPE begins at random with."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return request.param, searched(b"", request.param, "tpe", 26)


@settings(max_examples=15)
@given(data=st.data())
def test_a_search_by_tpe_cut_off_twice_ends_as_one_that_was_not(
    by_tpe: tuple[int, Searched], data: st.DataObject
) -> None:
    """At any byte: half a line is no line."""
    late, (content, trials, search) = by_tpe
    first = data.draw(st.integers(0, len(content)))
    second, again, _ = searched(content[:first], late, "tpe", 26)
    assert again == trials
    end = data.draw(st.integers(0, len(second)))
    _, again, resumed = searched(second[:end], late, "tpe", 26)
    assert again == trials
    assert resumed.scheduler.cutoffs == search.scheduler.cutoffs
