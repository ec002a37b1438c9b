"""How far a search is, read from the lines that it prints."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from imbtune.study.records import COMPLETE, FAIL, PRUNED, STOPPED, WORDS
from imbtune.tuning.jobs.job_progress import from_log
from imbtune.tuning.study_writer import StudyWriter


def line(ended: int, number: int, state: str, score: float | None, budget: int = 81) -> str:
    """A trial's line, as the search prints it."""
    writer: Any = SimpleNamespace(_trials=120, _ended=ended)
    record: Any = SimpleNamespace(
        number=number,
        state=state,
        score=score,
        budget=budget,
        preset="mamix_drw",
        diverged=None,
        error="OutOfMemoryError: x" if state == FAIL else None,
    )
    return StudyWriter._line(writer, record)


def test_every_state_is_counted() -> None:
    lines = [
        line(1, 0, COMPLETE, 0.5),
        line(2, 3, PRUNED, 0.9, 9),
        line(3, 1, FAIL, None, 0),
        line(4, 104, COMPLETE, 0.75),
        line(5, 5, STOPPED, 0.1, 27),
    ]
    found = from_log("\n".join(["120 trials, 2 at a time on 1 CPU each; …", *lines]))
    assert (found.total, found.ended) == (120, 4)
    assert found.states == {COMPLETE: 2, PRUNED: 1, FAIL: 1, STOPPED: 1}
    assert found.best == "trial 104: mamix_drw, 0.750 in one run of 81 epochs"
    first = found.lines()[0]
    assert first.startswith("4 of 120 trials: ")
    assert all(word in first for word in WORDS.values())


def test_a_resumed_trial_counts_once() -> None:
    """With its last line: it was interrupted first, and stopped later."""
    found = from_log(line(1, 4, STOPPED, None, 0) + "\n" + line(1, 4, PRUNED, 0.3, 9))
    assert found.states == {PRUNED: 1}
    assert found.best == ""


def test_finals_are_counted() -> None:
    log = f"{line(120, 9, COMPLETE, 0.5)}\n\nFinals: 2 trials\nfinal  1/12  trial 9  0.512\n"
    assert from_log(log).finals == 1


@pytest.mark.parametrize("log", ["", "error: no data\n", "Traceback (most recent call last):"])
def test_nothing_is_known_of_a_search_that_has_not_begun(log: str) -> None:
    assert from_log(log).lines() == ["no trial has started"]
