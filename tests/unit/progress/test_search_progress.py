"""The state of a search after literal sequences of events, and what the views make of it."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from imbtune.progress.json_view import LEFT_OUT, NAMES, JsonView, as_json
from imbtune.progress.live_lines import MOST_LINES, cut, live_lines
from imbtune.progress.plain_view import PlainView, lines_of
from imbtune.progress.reporter import Reporter, to_lines
from imbtune.progress.run_events import (
    FAILED,
    FINALS,
    FINISHED,
    INTERRUPTED,
    RUNS,
    SEEDS,
    STOPPED,
    TRIALS,
    Downloaded,
    EpochsTrained,
    Event,
    Heartbeat,
    Interrupted,
    Message,
    RunEnded,
    RungReached,
    RunStarted,
    StageStarted,
    Step,
    WorkEnded,
    WorkerLost,
)
from imbtune.progress.search_progress import SearchProgress
from imbtune.progress.time_left import Measured, Pace, pace_of, until_the_last
from imbtune.progress.words import run_shown

START = 1_790_000_000.0  # 2026-09-21T14:13:20Z
STAGE = StageStarted(
    START,
    TRIALS,
    4,
    "digits-lt",
    "runs/s",
    workers=2,
    budgets=(3, 9),
    eta=3,
    objective="balanced_accuracy",
    score_error=0.029,
    resume="imbtune resume runs/s",
    finals=4,
)
STEPS = (Step(3, 3, 300.0), Step(9, 7, 700.0))


def started(number: int, at: float = 0.0, name: str = "erm") -> RunStarted:
    return RunStarted(START + at, f"trial {number}", name, 1, STEPS, 900.0)


def trained(number: int, at: float, epochs: int, epoch: int) -> EpochsTrained:
    return EpochsTrained(START + at, f"trial {number}", epochs, epoch)


def reached(
    number: int, at: float, budget: int, score: float, cutoff: float | None = None
) -> RungReached:
    return RungReached(START + at, f"trial {number}", number, budget, score, cutoff)


def ended(
    number: int,
    state: str,
    score: float | None = None,
    budget: int = 0,
    at: float = 0.0,
    **more: object,
) -> RunEnded:
    return RunEnded(START + at, f"trial {number}", number, state, score, budget, **more)  # type: ignore[arg-type]


# One preset that finished, one trial that was stopped, one that failed, one that is still trained
SEARCH: list[Event] = [
    STAGE,
    started(0),
    started(1, name="mamix + ldam"),
    trained(0, 10, 1, 1),
    trained(1, 11, 1, 1),
    trained(0, 20, 2, 3),
    reached(0, 20, 3, 0.5, 0.5),
    trained(1, 21, 2, 3),
    reached(1, 21, 3, 0.417, 0.47),
    ended(1, STOPPED, 0.417, 3, 21, cutoff=0.5, name="mamix + ldam"),
    started(2, 22),
    trained(0, 60, 7, 9),
    reached(0, 60, 9, 0.62),
    ended(0, FINISHED, 0.62, 9, 60, name="erm", is_preset=True),
    ended(2, FAILED, at=61, error="OutOfMemoryError: x"),
    started(3, 62, "mixup"),
]


def after(events: list[Event]) -> SearchProgress:
    progress = SearchProgress()
    for event in events:
        progress.apply(event)
    return progress


def plain(events: list[Event]) -> list[str]:
    """All lines that a file gets."""
    lines: list[str] = []
    reporter = Reporter(PlainView(lines.append))
    for event in events:
        reporter.tell(event)
    return lines


def test_the_state_of_a_search() -> None:
    found = after(SEARCH)
    assert found.ended == {FINISHED: 1, STOPPED: 1, FAILED: 1}
    assert (found.done, found.total, [*found.running]) == (3, 4, ["trial 3"])
    assert {b: (len(r.scored), r.stopped, r.cutoff) for b, r in found.rungs.items()} == {
        3: (2, 1, 0.47),
        9: (1, 0, None),
    }
    assert found.best is found.best_preset
    assert found.best and found.best.number == 0
    assert found.failures == {"OutOfMemoryError: x": 1}


def test_a_better_trial_takes_the_place_of_the_best_but_not_of_the_best_preset() -> None:
    found = after([*SEARCH, ended(3, FINISHED, 0.7, 9)])
    assert found.best and found.best.number == 3
    assert found.best_preset and found.best_preset.number == 0


def test_a_stopped_or_interrupted_trial_is_never_the_best() -> None:
    found = after([STAGE, started(0), ended(0, STOPPED, 0.9, 3), ended(1, INTERRUPTED, 0.95, 3)])
    assert found.best is None and found.done == 1


def test_trials_on_one_trunk_are_one_run_until_the_last_has_ended() -> None:
    trunk = RunStarted(START, "trial 4", "erm", 2, STEPS)
    first = RunEnded(START, "trial 4", 4, STOPPED, 0.1, 3)
    second = RunEnded(START, "trial 4", 5, STOPPED, 0.1, 3)
    assert [*after([STAGE, trunk, first]).running] == ["trial 4"]
    assert not after([STAGE, trunk, first, second]).running
    assert after([STAGE, trunk, first, second]).done == 2


def test_a_lost_worker_leaves_the_trial_to_be_started_again() -> None:
    lost = WorkerLost(START, "trial 0", "its process ended")
    found = after([STAGE, started(0), lost])
    assert not found.running and found.done == 0
    assert [*after([STAGE, started(0), lost, started(0, 5)]).running] == ["trial 0"]


def test_trials_of_an_earlier_process_count_and_do_not_print() -> None:
    before = (ended(0, FINISHED, 0.8, 9, is_preset=True), ended(1, STOPPED, 0.2, 3))
    resumed = StageStarted(START, TRIALS, 4, budgets=(3, 9), eta=3, earlier=before)
    found = after([resumed])
    assert found.done == 2 and found.best is before[0] and found.rungs[3].stopped == 1
    assert plain([resumed]) == []
    line = plain([resumed, started(2), ended(2, FINISHED, 0.5, 9)])[0]
    assert line.startswith("2026-09-21T14:13:20Z  3/4  trial 2  finished at 9 epochs: 0.500")


def test_the_finals_have_their_own_counts_and_keep_the_best() -> None:
    stage = StageStarted(START + 100, FINALS, 4, budgets=(9,))
    final = RunEnded(START + 110, "trial 0, seed 5", 0, FINISHED, 0.6, 9)
    found = after([*SEARCH, stage, final])
    assert (found.done, found.total) == (1, 4)
    assert found.best and found.best.number == 0
    assert found.finals == {0: [0.6]} and not found.running


def test_the_finals_that_run_are_named_with_the_place_of_their_seed() -> None:
    stage = StageStarted(START, FINALS, 12, budgets=(9,), fresh_seeds=(55, 5, 15))
    runs: list[Event] = [
        RunStarted(START, f"trial {number}, seed {seed}", steps=STEPS)
        for number, seed in ((3, 5), (3, 55), (10, 15), (0, 5), (4, 5))
    ]
    events = [stage, *runs, Heartbeat(START + 9)]
    assert plain(events)[-1].split("  ", 1)[1] == (
        "progress: 0 of 12 final runs ended, 5 running (trial 3, seed 2 of 3; trial 3, "
        "seed 1 of 3; trial 10, seed 3 of 3; trial 0, seed 2 of 3; 1 more); time left not known yet"
    )
    view = [line.text for line in live_lines(after(events), START + 9, 100, 30)]
    assert any(line.startswith("  trial 10, seed 3 of 3") for line in view)
    assert "finals, the best trials again, with fresh seeds" in view
    assert run_shown("trial 3, seed 7", after(events)) == "trial 3, seed 7"  # of another study
    ended: list[Event] = [
        RunEnded(START + 9, "trial 3, seed 5", 3, FINISHED, 0.5, 9, seconds=12.3),
        RunEnded(START + 9, "trial 0, seed 5", 0, FAILED, None, error="x"),
        WorkerLost(START + 9, "trial 4, seed 5", "its process ended"),
    ]
    assert [line.split("  ", 1)[1] for line in plain([*events, *ended])[-3:]] == [
        "final  1/12  trial 3, seed 2 of 3 (5): 0.5000 (12 s)",
        "final  2/12  trial 0, seed 2 of 3 (5): failed: x",
        "trial 4, seed 2 of 3 (5) lost its worker (its process ended): another one goes on with it",
    ]


# ---- the time left -------------------------------------------------------------------------------


def test_the_time_left_of_one_worker_without_stopping_is_passes_over_speed() -> None:
    """Ten passes a second after the first report: 100 epochs of 10 passes each."""
    steps = (Step(100, 100, 1000.0),)
    stage = StageStarted(START, RUNS, 3, budgets=(100,))
    run = RunStarted(START, "a", steps=steps)
    reports: list[Event] = [EpochsTrained(START + 5 + i, "a", 1, i + 1) for i in range(11)]
    found = after([stage, run, *reports])
    # the worker took 5 s to its first report, one of which was the first epoch's
    assert found.pace() == Pace(per_pass=0.1, per_run=0.0, start=4.0)
    # 89 epochs of this run, 100 of each of the two others
    assert found.seconds_left(START + 15) == pytest.approx(89 + 200)
    assert found.seconds_left(START + 18) == pytest.approx(89 + 200 - 3)
    assert found.run_seconds_left(found.running["a"], START + 15) == pytest.approx(89)


def test_what_a_run_takes_besides_its_training_is_measured_after_the_first_of_a_worker() -> None:
    """3 s from its start to its first epoch of 1 s: 2 s besides, and 7 s for the first one."""
    steps = (Step(2, 2, 20.0),)
    events: list[Event] = [StageStarted(START, RUNS, 5, budgets=(2,))]
    for i, (before, name) in enumerate([(8, "a"), (3, "b"), (3, "c")]):
        at = START + 20 * i
        events += [
            RunStarted(at, name, steps=steps),
            EpochsTrained(at + before, name, 1, 1),
            EpochsTrained(at + before + 1, name, 1, 2),
            RunEnded(at + before + 1, name, i, FINISHED, 0.5, 2),
        ]
    found = after(events)
    assert found.pace() == Pace(per_pass=0.1, per_run=2.0, start=7.0)
    assert found.seconds_left(START + 44) == pytest.approx(2 * (2 + 2))


def test_a_trial_that_may_be_stopped_counts_by_the_share_that_goes_on() -> None:
    """One of two trials was stopped at the rung; with the prior, (1 + 1) / (2 + 3) go on."""
    found = after(SEARCH)
    assert found.share(3) == pytest.approx(2 / 5)
    pace = found.pace()
    assert pace
    # trial 0: 2 + 7 epochs in 50 s after its first report; trial 1: 2 epochs in 10 s
    assert pace.per_pass == pytest.approx((50 + 10) / (200 + 700 + 200))
    # 10 s and 11 s to the first epoch of 100 passes
    assert pace.start == pytest.approx(10.5 - 100 * pace.per_pass)
    trial, final = 300 + 0.4 * 700, 900
    wanted = trial * pace.per_pass + pace.start + 2 * final * pace.per_pass
    assert found.seconds_left(START + 60) == pytest.approx(wanted)


def test_the_finals_begin_with_the_pace_of_the_trials() -> None:
    finals = StageStarted(START + 70, FINALS, 4, workers=2, budgets=(9,))
    found, before = after([*SEARCH, finals]), after(SEARCH).pace()
    assert found.pace() == before and before
    wanted = before.start + 2 * 900 * before.per_pass
    assert found.seconds_left(START + 70) == pytest.approx(wanted)
    found.apply(RunStarted(START + 80, "a", steps=(Step(9, 9, 900.0),)))
    found.apply(EpochsTrained(START + 84, "a", 1, 1))  # it has started, which counts no longer
    assert found.seconds_left(START + 84) == pytest.approx(2 * 900 * before.per_pass)


def test_a_worker_that_is_free_takes_the_next_run() -> None:
    """Three runs of 10 s on two workers take 20 s, not 15."""
    assert until_the_last([], 3, 10.0, 2) == 20.0
    assert until_the_last([4.0], 1, 10.0, 2) == 10.0  # the other worker begins at once
    assert until_the_last([4.0, 8.0], 1, 10.0, 2) == 14.0
    assert until_the_last([30.0, 1.0], 2, 10.0, 2) == 30.0
    assert until_the_last([5.0], 10_000, 2.0, 64) == (5 + 20_000) / 64


def test_the_start_of_the_workers_counts_from_the_start_of_the_stage() -> None:
    """The workers' processes start for 15 s and 20 s before their first runs begin."""
    runs: list[Event] = [started(0, 15), trained(0, 20, 1, 1), started(1, 20), trained(1, 25, 1, 1)]
    found = after([STAGE, *runs, trained(0, 30, 1, 2), trained(1, 35, 1, 2)])
    pace = found.pace()
    assert pace and pace.per_pass == pytest.approx(0.1)  # 10 s for 100 passes
    assert pace.start == pytest.approx((20 + 25) / 2 - 10)


def test_a_worker_that_comes_after_a_run_has_ended_says_nothing_of_the_start() -> None:
    """Where fewer runs than expected are trained at a time, a second one has no new worker."""
    late = replace(started(1, 600), run="trial 1")
    first: list[Event] = [
        started(0, 5),
        trained(0, 10, 1, 1),
        trained(0, 20, 1, 2),
        ended(0, FINISHED, 0.5, 9),
    ]
    found = after([STAGE, *first, late, trained(1, 612, 1, 1)])
    pace = found.pace()
    assert pace and pace.start == pytest.approx((0 + 2) / 2)


def test_the_pace_of_the_finals_begins_with_that_of_the_trials() -> None:
    """Their first seconds are slow, while other workers still start."""
    slow = Measured(before=5.0, first=0.0, seconds=2.0, passes=1.0)
    found = pace_of([slow], [], Pace(0.1))
    assert found and found.per_pass == pytest.approx((10 + 2) / (100 + 1))
    alone = pace_of([slow], [])
    assert alone and alone.per_pass == 2.0


def test_the_view_says_that_the_workers_start() -> None:
    """It takes seconds in which no run begins; the finals have new workers."""
    finals = StageStarted(START + 70, FINALS, 4, workers=2, budgets=(9,))
    for events in ([STAGE], [*SEARCH, finals]):
        assert "failed 0 · Starting 2 workers" in "\n".join(view([*events]))
    assert "running 1 of 2" in "\n".join(view([STAGE, started(0)]))


def test_the_best_preset_is_trained_once_in_the_finals() -> None:
    stage = replace(STAGE, total=9, finals=9, preset_finals=3)  # two finalists, three seeds
    preset = replace(ended(0, FINISHED, 0.7, 9), is_preset=True)
    others = [ended(n, FINISHED, score, 9) for n, score in enumerate((0.6, 0.8, 0.9), 1)]
    assert after([stage]).final_runs == 9
    assert after([stage, preset, *others[:2]]).final_runs == 6
    assert after([stage, preset, *others]).final_runs == 9


def test_nothing_is_said_of_the_time_left_before_the_first_reports() -> None:
    for events in ([], [STAGE], [STAGE, started(0)], [STAGE, started(0), trained(0, 1, 1, 1)]):
        assert after([*events]).seconds_left(START + 9) is None


def test_epochs_from_a_checkpoint_are_no_speed() -> None:
    """The first report of a resumed run has epochs that this process has not trained."""
    steps = (Step(100, 100, 1000.0),)
    stage = StageStarted(START, RUNS, 2, budgets=(100,))
    runs = [RunStarted(START, name, steps=steps) for name in "ab"]
    found = after(
        [stage, *runs, EpochsTrained(START + 1, "a", 1, 1), EpochsTrained(START + 2, "b", 90, 90)]
    )
    assert found.pace() is None
    assert found.running["b"].path.trained == 900
    found.apply(EpochsTrained(START + 4, "b", 4, 94))
    pace = found.pace()
    assert pace and pace.per_pass == pytest.approx(2 / 40)


def test_the_time_left_ends_with_the_work() -> None:
    assert after([*SEARCH, WorkEnded(START + 70, "ended")]).seconds_left(START + 70) is None


@given(st.lists(st.sampled_from([*SEARCH, Interrupted(START), Heartbeat(START)]), max_size=30))
@settings(max_examples=60, deadline=None)
def test_events_in_any_order_give_a_view_that_fits(events: list[Event]) -> None:
    """A resumed, killed or odd search must not end by its own view."""
    found = after(events)
    for width, height in ((80, 24), (40, 10), (20, 3), (1, 1)):
        lines = live_lines(found, START + 100, width, height)
        assert len(lines) <= max(1, min(MOST_LINES, height - 2))
        assert all(cell_len(line.text) <= width for line in lines)
    for event in events:
        json.dumps(as_json(event, found), allow_nan=False)
        lines_of(event, found)


# ---- heartbeats ----------------------------------------------------------------------------------


def test_a_heartbeat_at_every_twentieth_of_the_trials_or_after_ten_minutes() -> None:
    stage = StageStarted(START, TRIALS, 60, budgets=(9,))
    found = after([stage])
    assert not found.is_beat_due(START + 599) and found.is_beat_due(START + 600)
    for number in range(2):
        found.apply(ended(number, FINISHED, 0.5, 9))
    assert not found.is_beat_due(START + 60)
    found.apply(ended(2, FINISHED, 0.5, 9))
    assert found.is_beat_due(START + 60) and not found.is_beat_due(START + 4)
    found.apply(Heartbeat(START + 60))
    assert not found.is_beat_due(START + 61)


def test_the_best_of_several_objectives_is_named() -> None:
    lines = list[str]()
    reporter = Reporter(PlainView(lines.append), clock=lambda: START + 30)
    reporter.tell(replace(STAGE, ranked_by="g_mean"))
    for event in SEARCH[1:]:
        reporter.tell(event)
    reporter.tell(Heartbeat(START + 30))
    assert "best g_mean 0.620 (trial 0)" in lines[-1]


def test_no_heartbeat_before_the_first_and_after_the_last_run() -> None:
    done = [ended(number, STOPPED, 0.1, 3) for number in range(4)]
    for found in (after([]), after([STAGE, *done]), after([STAGE, WorkEnded(START, "")])):
        assert not found.is_beat_due(START + 9999)


def test_a_reporter_says_it_once() -> None:
    lines, now = list[str](), [START]
    reporter = Reporter(PlainView(lines.append), clock=lambda: now[0])
    reporter.tell(StageStarted(START, TRIALS, 60, budgets=(9,)))
    for seconds in (1, 601, 602, 1300):
        now[0] = START + seconds
        reporter.tick()
    assert [line.partition("  ")[2] for line in lines] == [
        "progress: 0 of 60 trials ended, 0 running; time left not known yet"
    ] * 2


# ---- plain lines ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            ended(3, STOPPED, 0.417, 27, cutoff=0.85, name="mixup"),
            "1/4  trial 3  stopped at 27 epochs: 0.417 is below the cut-off 0.850  mixup",
        ),
        (
            ended(3, STOPPED, 0.41732, 27, cutoff=0.41741, name="mixup"),
            "1/4  trial 3  stopped at 27 epochs: 0.417 is below the cut-off 0.4174  mixup",
        ),
        (ended(3, STOPPED, 0.4, 27), "1/4  trial 3  stopped at 27 epochs: 0.400"),
        (ended(3, STOPPED, 0.4, 1), "1/4  trial 3  stopped at 1 epoch: 0.400"),
        (
            ended(3, FINISHED, 0.5, 81, name="drw"),
            "1/4  trial 3  finished at 81 epochs: 0.500  drw",
        ),
        (
            ended(3, FINISHED, 0.5, 81, cutoff=0.31, never_pruned=9, name="drw"),
            "1/4  trial 3  finished at 81 epochs: 0.500 (never-pruned sample: below the cut-off "
            "0.310 at 9 epochs)  drw",
        ),
        (
            ended(3, FAILED, 0.4, 9, error="ValueError: bad", name="drw"),
            "1/4  trial 3  failed after 9 epochs, 0.400: ValueError: bad  drw",
        ),
        (ended(3, FAILED, error="ValueError: bad"), "1/4  trial 3  failed: ValueError: bad"),
        (ended(3, INTERRUPTED, 0.4, 9), "0/4  trial 3  interrupted at 9 epochs: 0.400"),
        (ended(3, INTERRUPTED), "0/4  trial 3  interrupted before its first rung"),
    ],
)
def test_how_a_trial_ended_and_why(event: RunEnded, line: str) -> None:
    assert plain([STAGE, event]) == [f"2026-09-21T14:13:20Z  {line}"]


@pytest.mark.parametrize(
    ("stage", "event", "line"),
    [
        (FINALS, RunEnded(START, "trial 2, seed 7", 2, FINISHED, 0.5, 9, seconds=12.3),
         "final 1/4  trial 2, seed 7: 0.5000 (12 s)"),
        (FINALS, RunEnded(START, "trial 2, seed 7", 2, FAILED, None, error="x"),
         "final 1/4  trial 2, seed 7: failed: x"),
        (RUNS, RunEnded(START, "trial 2, seed A", 2, FINISHED, 0.5, 9, "mixup"),
         "1/4  trial 2, seed A: mixup 0.5000"),
        (RUNS, RunEnded(START, "erm, seed 0", 2, FAILED, None, error="x"),
         "1/4  erm, seed 0: failed: x"),
        (SEEDS, RunEnded(START, "seed 3", 3, FINISHED, 0.5, 9, "test balanced accuracy", seconds=4),
         "seed 3: test balanced accuracy 0.5000 (4 s)"),
    ],
)  # fmt: skip
def test_how_a_run_of_another_stage_ended(stage: str, event: RunEnded, line: str) -> None:
    assert plain([StageStarted(START, stage, 4), event]) == [f"2026-09-21T14:13:20Z  {line}"]


def test_what_else_is_said() -> None:
    events: list[Event] = [
        Message(START, "one\n\ntwo\n"),
        WorkerLost(START, "trial 3", "its process ended"),
        Interrupted(START),
        Downloaded(START, "cifar.tar.gz", 50_000_000, 200_000_000),
        Downloaded(START, "cifar.tar.gz", 50_000_000, None),
        WorkEnded(START, "search ended: 4 trials"),
    ]
    assert [line.partition("Z  ")[2] for line in plain(events)] == [
        "one",
        "two",
        "trial 3 lost its worker (its process ended): another one goes on with it",
        "interrupted: the runs are being ended; what they have reached is kept",
        "downloading cifar.tar.gz: 50.0 of 200.0 MB (25%)",
        "downloading cifar.tar.gz: 50.0 MB",
        "search ended: 4 trials",
    ]


def test_a_training_says_its_epochs_where_they_have_a_loss() -> None:
    steps = (Step(20, 20, 20.0),)
    events: list[Event] = [StageStarted(START, SEEDS, 1), RunStarted(START, "seed 0", steps=steps)]
    events += [EpochsTrained(START + i, "seed 0", 1, i, 0.5 if i == 4 else None) for i in range(6)]
    assert plain(events) == [
        "2026-09-21T14:13:24Z  seed 0: epoch 4/20, loss 0.500; about 15 s left"
    ]


def test_a_function_gets_lines_without_a_time() -> None:
    lines: list[str] = []
    reporter = to_lines(lines.append)
    reporter("hello\n")
    reporter.tell(STAGE)
    reporter.tell(ended(0, FINISHED, 0.5, 9))
    assert lines == ["hello", "", "1/4  trial 0  finished at 9 epochs: 0.500"]


def test_lines_have_neither_returns_nor_escapes() -> None:
    odd = Message(START, "10 %\r20 % \x1b[31mred\x07")
    (line,) = plain([odd])
    assert line.isprintable() and "20 %" in line and "red" in line
    for line in plain(SEARCH):
        assert line.isprintable() and re.match(r"2026-09-21T14:1\d:\d\dZ  +\S", line)


# ---- JSON ----------------------------------------------------------------------------------------


def test_every_event_is_an_object_in_a_line() -> None:
    lines: list[str] = []
    reporter = Reporter(JsonView(lines.append))
    for event in [*SEARCH, Heartbeat(START + 70), ended(3, FINISHED, float("nan"), 9)]:
        reporter.tell(event)
    found = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert [each["event"] for each in found] == [
        *("stage_started", "run_started", "run_started", "rung_reached", "rung_reached"),
        *("run_ended", "run_started", "rung_reached", "run_ended", "run_ended", "run_started"),
        *("heartbeat", "run_ended"),
    ]
    assert found[5] == {
        **{"event": "run_ended", "time": "2026-09-21T14:13:41Z", "run": "trial 1", "number": 1},
        **{"state": "stopped", "score": 0.417, "budget": 3, "cutoff": 0.5, "name": "mamix + ldam"},
        **{"never_pruned": None, "is_preset": False, "error": None, "seconds": None},
        **{"retry_of": None},
        **{
            "stage": "trials",
            "done": 1,
            "total": 4,
            "running": 1,
            "seconds_left": found[5]["seconds_left"],
        },
    }
    assert found[-2]["best"] == 0 and found[-1]["score"] is None


def test_the_page_documents_every_key_of_every_event() -> None:
    page = (Path(__file__).parents[3] / "docs" / "progress.md").read_text(encoding="utf-8")
    rows = dict(
        re.findall(
            r"^\| `(\w+)` \| [^|]+ \| ([^|]*)\|$", page.partition("## JSON")[2], re.MULTILINE
        )
    )
    assert {*rows} == {*NAMES.values(), "event"}
    for kind, name in NAMES.items():
        keys = {field.name for field in fields(kind)} - LEFT_OUT - {"time"}
        assert {*re.findall(r"`(\w+)`", rows[name])} == keys, name
    assert {*NAMES} == {*get_args(Event)}


# ---- the live view -------------------------------------------------------------------------------


def view(events: list[Event], width: int = 80, height: int = 24, at: float = 65) -> list[str]:
    return [line.text for line in live_lines(after(events), START + at, width, height)]


def test_the_view_of_a_search() -> None:
    assert view(SEARCH) == [
        "digits-lt · balanced_accuracy · runs/s",
        "━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━────────── 3/4 trials · 65 s in this stage",
        "finished 1 · stopped 1 · failed 1 · running 1 of 2",
        "about 2 min left (finals included: 4 runs)",
        "rungs",
        "     3 epochs: 2 scored, 1 stopped, cut-off 0.470",
        "     9 epochs: 1 scored",
        "best so far (one score: standard error up to 0.029)",
        "  0.620  trial 0  erm, a preset: the best so far is one",
        "running    epoch  last rung  left",
        "  trial 3  0/9               52 s  mixup",
        "FAILED 1×: OutOfMemoryError: x",
        "Ctrl-C ends it, and nothing is lost; to go on: imbtune resume runs/s",
    ]


def test_a_small_terminal_shows_what_matters_most() -> None:
    lines = view(SEARCH, 40, 10)
    assert len(lines) == 8 and all(len(line) <= 40 for line in lines)
    text = "\n".join(lines)
    for words in ("3/4 trials", "finished 1", "left", "0.620  trial 0", "FAILED 1×"):
        assert words in text


def test_ctrl_c_is_answered_in_the_view() -> None:
    assert view([*SEARCH, Interrupted(START + 63)])[-1] == (
        "interrupted: the runs are ended; Ctrl-C again ends at once"
    )


def test_a_view_of_thousands_of_trials_and_dozens_of_runs_has_twenty_lines() -> None:
    events: list[Event] = [StageStarted(START, TRIALS, 9000, workers=64, budgets=(1, 3, 9, 27, 81))]
    events += [ended(n, FAILED, at=n, error=f"error {n}") for n in range(500)]
    events += [started(n, n) for n in range(600, 664)]
    lines = view(events, 200, 100)
    assert len(lines) <= MOST_LINES
    assert "  … 59 more" in lines


def test_the_finals_are_ranked_by_their_mean() -> None:
    stage = StageStarted(START + 100, FINALS, 4, "digits-lt", budgets=(9,))
    scores = ((0, 1, 0.5), (3, 1, 0.7), (0, 2, 0.6))
    runs = [RunEnded(START, f"trial {n}, seed {s}", n, FINISHED, x, 9) for n, s, x in scores]
    lines = view([*SEARCH, stage, *runs], at=130)
    at = lines.index("finals, mean over fresh seeds so far")
    assert lines[at + 1 : at + 3] == ["  0.700  trial 3, 1 seed", "  0.550  trial 0, 2 seeds"]


@given(st.text(max_size=60), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_a_line_is_cut_to_the_terminal_and_moves_no_cursor(text: str, width: int) -> None:
    found = cut(text, width)
    assert cell_len(found) <= width
    assert found.isprintable()


def test_failures_that_were_repeated_without_failing_are_not_shown() -> None:
    earlier = (
        ended(0, FAILED, error="a"),
        ended(1, FAILED, error="a"),
        ended(2, FAILED, error="b"),
    )
    resumed: list[Event] = [
        replace(STAGE, earlier=earlier),
        ended(3, FAILED, error="a", retry_of=0),
    ]
    assert after(resumed).failures == {"a": 3, "b": 1}
    resumed += [ended(4, INTERRUPTED, retry_of=2), ended(5, FINISHED, 0.5, 9, retry_of=3)]
    assert after(resumed).failures == {"a": 1, "b": 1}
    resumed += [ended(6, STOPPED, 0.2, 3, retry_of=1), ended(7, FINISHED, 0.5, 9, retry_of=2)]
    assert after(resumed).failures == {}
