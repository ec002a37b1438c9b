"""What a search says at its end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from scripted import rung_record, tiny_space

from imbtune.cli.search_summary import print_outcome, stopping_line
from imbtune.config.train_config import TrainConfig
from imbtune.study.evidence import decide, evidence_of
from imbtune.study.outcome import SearchOutcome
from imbtune.study.records import FinalRecord, TrialRecord
from imbtune.study.request import SearchRequest

REQUEST = SearchRequest(tiny_space(), 4, "s")
RESUME = "resume runs/s\n"


def record(number: int, score: float, state: str = "COMPLETE", **more: Any) -> TrialRecord:
    """A whole run is 100 image passes; a stopped trial has 20."""
    images = 100 if state == "COMPLETE" else 20
    rung = rung_record(number, images // 10, score, images, worst_class=0.1)
    settings = TrainConfig.from_settings({"seed": number}).flat()
    fields = {"preset": None, "settings": settings, **more}
    return TrialRecord(number, number, state=state, rungs=[rung], **fields)


RECORDS = [
    record(0, 0.5, preset="erm"), record(1, 0.8), record(2, 0.7, never_pruned=2),
    record(3, 0.3, "PRUNED"),
]  # fmt: skip


def outcome(
    records: list[TrialRecord], finals: list[FinalRecord], chance: float = 0.0, **more: Any
) -> SearchOutcome:
    finished = {r.number: r for r in records if r.state == "COMPLETE"}
    scores = {number: record.score or 0.0 for number, record in finished.items()}
    presets = [number for number, record in finished.items() if record.preset]
    winner, preset = decide(scores, presets, finals, chance)
    return SearchOutcome(
        REQUEST,
        "runs/s",
        records,
        winner=None if winner is None else finished[winner],
        baseline=None if preset is None else finished[preset],
        seconds=9.0,
        evidence=evidence_of(finals, winner, preset),
        full_images=400,
        finals=finals,
        chance=chance,
        **more,
    )


def printed(found: SearchOutcome) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        print_outcome(found, console)
    return capture.get()


def finals(seeds: int, *trials: int) -> list[FinalRecord]:
    return [FinalRecord(n, 100 + s, 0.5 + n / 10 + s / 100) for n in trials for s in range(seeds)]


def test_a_whole_search_says_what_to_do_with_its_winner() -> None:
    text = printed(outcome(RECORDS, finals(3, 0, 1)))
    assert text.startswith("\n4 of 4 trials in 9 s: 3 finished, 1 stopped\n")
    assert "mean ± std of 3 fresh seeds" in text
    assert "Winner: trial 1" in text and "+10.00 points over the best preset, 'erm'" in text
    assert "train runs/s/best.yaml --seeds 5" in text and RESUME not in text


def test_one_fresh_seed_is_one() -> None:
    text = printed(outcome(RECORDS, finals(1, 0, 1)))
    assert "mean of 1 fresh seed " in text and "fresh seeds" not in text.partition("Next:")[0]
    assert "one fresh seed each" in text and "std" not in text


def test_a_finalist_with_a_failed_run_is_named() -> None:
    lacking = [*finals(2, 0), *finals(1, 1)]
    text = printed(outcome(RECORDS, lacking, dropped=[1]))
    assert "Left out of the finals, because one of their runs failed: trial 1\n" in text
    assert "Winner: trial 0" in text and text.count(RESUME) == 1


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_search_that_ended_early_says_how_it_goes_on(interrupted: bool) -> None:
    """By its time budget, with a winner so far; by Ctrl-C, without one."""
    early = [*RECORDS[:3], record(3, 0.3, "STOPPED")]
    text = printed(outcome(early, [] if interrupted else finals(2, 0, 1), interrupted=interrupted))
    assert text.count(RESUME) == 1
    assert ("Interrupted after 4 of 4 trials" in text) == interrupted
    assert ("The time budget is used up" in text) != interrupted
    assert ("best.yaml" in text) != interrupted


def test_early_stopping_is_held_against_whole_runs() -> None:
    line = stopping_line(outcome(RECORDS, []))
    assert "80% of the image passes" in line and "1 of 2 trials to be stopped ran" in line
    assert "none of them is the best trial. The best of them scored 0.7000, -10.00 points" in line
    best = [RECORDS[0], replace(RECORDS[1], never_pruned=2), *RECORDS[2:]]
    assert "lost trial 1, the best one. The best of them scored 0.8000, +30.00 points" in (
        stopping_line(outcome(best, []))
    )


def test_trials_that_were_cut_off_or_failed_save_nothing() -> None:
    others = [record(4, 0.1, "STOPPED"), record(5, 0.1, "FAIL")]
    assert stopping_line(outcome([*RECORDS, *others], [])) == stopping_line(outcome(RECORDS, []))


def test_without_a_stopped_trial_nothing_is_said() -> None:
    assert stopping_line(outcome(RECORDS[:3], [])) == ""


def test_a_trial_at_chance_is_not_recommended() -> None:
    text = printed(outcome(RECORDS, [], chance=0.8))
    assert "No winner: the best trial, 1, scores 0.8000, no better than a model" in text
    assert "Winner" not in text and "imbtune train" not in text


def test_a_trial_whose_fresh_seeds_are_at_chance_is_not_recommended() -> None:
    finals = [FinalRecord(1, 7, 0.1), FinalRecord(1, 8, 0.1)]
    text = printed(outcome(RECORDS, finals, chance=0.1))
    assert "No winner: trial 1 has the best score, 0.8000, but its runs with fresh seeds" in text
    assert "imbtune train" not in text
