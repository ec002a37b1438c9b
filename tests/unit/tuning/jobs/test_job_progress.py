"""How far a search is, read from the lines that it prints."""

from __future__ import annotations

import pytest

from imbtune.progress.json_view import JsonView
from imbtune.progress.plain_view import PlainView
from imbtune.progress.run_events import FINALS, FINISHED, TRIALS, RunEnded, StageStarted
from imbtune.progress.search_progress import SearchProgress
from imbtune.study.records import COMPLETE, FAIL, PRUNED, STOPPED, WORDS
from imbtune.tuning.jobs.job_log import Tail
from imbtune.tuning.jobs.job_progress import Progress, from_log, has_begun


def event(number: int, state: str, score: float | None, budget: int = 81) -> RunEnded:
    error = "OutOfMemoryError: x" if state == FAIL else None
    cutoff = 0.95 if state == PRUNED else None
    return RunEnded(
        *(0.0, f"trial {number}", number, WORDS[state], score, budget, "mamix_drw", cutoff),
        error=error,
    )


def as_json(ended: RunEnded, done: int, stage: str = TRIALS) -> str:
    """The object of `--progress json`."""
    progress, lines = SearchProgress(), list[str]()
    progress.apply(StageStarted(0.0, stage, 120))
    progress.ended[FINISHED] = done
    JsonView(lines.append).show(ended, progress)
    return lines[0]


def test_objects_are_read_like_lines() -> None:
    ends = [event(0, COMPLETE, 0.5), event(3, PRUNED, 0.9, 9), event(1, FAIL, None, 0)]
    lines = [as_json(ended, i) for i, ended in enumerate(ends, 1)]
    found = whole(*lines, lines[0][:-9], as_json(ends[0], 2, FINALS))
    assert (found.total, found.ended, found.finals) == (120, 3, 2)
    assert found.states == {COMPLETE: 1, PRUNED: 1, FAIL: 1}
    assert found.best == "trial 0: mamix_drw, 0.500 in one run of 81 epochs"


def line(ended: int, number: int, state: str, score: float | None, budget: int = 81) -> str:
    """A trial's line, as the search prints it into its job's log."""
    ended_now = event(number, state, score, budget)
    progress = SearchProgress()
    progress.apply(StageStarted(0.0, TRIALS, 120))
    progress.ended[FINISHED] = ended - 1
    lines: list[str] = []
    progress.apply(ended_now)
    PlainView(lines.append).show(ended_now, progress)
    return lines[0]


def whole(*lines: str) -> Progress:
    return from_log(Tail("\n".join(lines), is_whole=True))


def test_every_state_is_counted() -> None:
    lines = [
        line(1, 0, COMPLETE, 0.5),
        line(2, 3, PRUNED, 0.9, 9),
        line(3, 1, FAIL, None, 0),
        line(4, 104, COMPLETE, 0.75),
        line(5, 5, STOPPED, 0.1, 27),
    ]
    found = whole("120 trials, 2 at a time on 1 CPU each; …", *lines)
    assert (found.total, found.ended) == (120, 4)
    assert found.states == {COMPLETE: 2, PRUNED: 1, FAIL: 1, STOPPED: 1}
    assert found.best == "trial 104: mamix_drw, 0.750 in one run of 81 epochs"
    one = whole("1 trials, 2 at a time on 1 CPU each; …", line(1, 0, COMPLETE, 0.5, 1))
    assert one.best == "trial 0: mamix_drw, 0.500 in one run of 1 epoch"
    first = found.lines()[0]
    assert first.startswith("4 of 120 trials: ")
    assert all(word in first for word in WORDS.values())


def test_the_best_of_negative_and_of_large_scores_is_known() -> None:
    """An objective of which lower is better has negative scores; costs may be above 10."""
    found = whole(line(1, 0, COMPLETE, -12.5), line(2, 1, COMPLETE, -0.25))
    assert found.best == "trial 1: mamix_drw, −0.250 in one run of 81 epochs"
    costly = whole(line(1, 0, COMPLETE, -12.5), line(2, 1, COMPLETE, -13.0))
    assert costly.best == "trial 0: mamix_drw, −12.500 in one run of 81 epochs"


def test_a_resumed_trial_counts_once() -> None:
    """With its last line: it was interrupted first, and stopped later."""
    found = whole(line(1, 4, STOPPED, None, 0), line(1, 4, PRUNED, 0.3, 9))
    assert found.states == {PRUNED: 1}
    assert found.best == ""


def test_the_end_of_a_long_log_says_how_many_have_ended_and_no_more() -> None:
    lines = [line(57, 60, COMPLETE, 0.5), line(58, 61, PRUNED, 0.1, 9)]
    found = from_log(Tail("\n".join(lines), is_whole=False))
    assert found.lines() == ["58 of 120 trials", "(from the end of the job's log, a long one)"]


def test_finals_are_counted() -> None:
    log = f"{line(120, 9, COMPLETE, 0.5)}\n\nFinals: 2 trials\nfinal  1/12  trial 9  0.512\n"
    assert whole(log).finals == 1


@pytest.mark.parametrize("log", ["", "error: no data\n", "Traceback (most recent call last):"])
def test_nothing_is_known_of_a_search_that_has_not_begun(log: str) -> None:
    assert whole(log).lines() == ["no trial has started"]


NOTE = "Presets of the space, left out since --set contradicts them: erm\n"


@pytest.mark.parametrize(
    ("log", "begun"),
    [
        (f"{NOTE}2 trials, 2 at a time on 1 CPU each; cooldown rungs at 1, 2 epochs\n", True),
        ("120 trials, 16 at a time on 4 CPU + 0.25 GPU each; rungs\n", True),
        ("9 runs, 2 per trial, 2 at a time on 1 CPU each; rungs of all kinds\n", True),
        ("2 configurations, 1 seed: 2 runs of 81 epochs, 2 at a time on 1 CPU each\n", True),
        (f"{NOTE}error: the study runs/mine exists already\n", False),
        ("--gpus-per-trial auto: measuring 1 / 2 trials at a time on a GPU …\n", False),
        ("", False),
    ],
)
def test_a_search_that_has_only_printed_notes_may_still_fail_to_begin(
    log: str, begun: bool
) -> None:
    assert has_begun(log) is begun
