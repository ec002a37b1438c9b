"""What a search says at its end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scripted import rung_record, tiny_space

from imbtune.cli.outcome.summary import print_outcome, stopping_line
from imbtune.cli.settings import fill
from imbtune.config.train_config import TrainConfig
from imbtune.metrics.metric import metric_from
from imbtune.metrics.predictions import ClassCounts
from imbtune.study.evidence import decide, evidence_of
from imbtune.study.outcome import FrontTrial, SearchOutcome
from imbtune.study.records import Cutoff, FinalRecord, TrialRecord
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


SPARED = Cutoff(2, 0.8, is_spared=True)
RECORDS = [
    record(0, 0.5, preset="erm"), record(1, 0.8), record(2, 0.7, cutoff=SPARED),
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
        objectives=REQUEST.space.objectives,
        **more,
    )


def printed(found: SearchOutcome, width: int = 120) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        print_outcome(found, console)
    return capture.get()


def finals(seeds: int, *trials: int) -> list[FinalRecord]:
    return [FinalRecord(n, 100 + s, 0.5 + n / 10 + s / 100) for n in trials for s in range(seeds)]


def test_a_whole_search_says_what_to_do_with_its_winner() -> None:
    text = printed(outcome(RECORDS, finals(3, 0, 1)))
    told = "\n4 of 4 trials and the finals in 9 s of wall time: 3 finished, 1 stopped\n"
    assert text.startswith(told)
    without = printed(replace(outcome(RECORDS, []), seconds=83.6))
    assert without.startswith("\n4 of 4 trials in 1.4 min of wall time: 3 finished")
    assert "mean ± std of" in text and "3 fresh seeds" in text
    assert "Winner: trial 1" in text and "+10.00 points over the best preset, 'erm'" in text
    assert "train runs/s/best.yaml --seeds 5" in text and RESUME not in text


def test_the_metric_of_one_class_is_titled_with_its_class() -> None:
    counts = ClassCounts(["ok", "Krebs, Übergang"], np.array([9, 3]), np.array([4, 2]))
    setting = {"name": "recall_at_precision", "precision": 0.8}
    for of in ({}, {"of": 1}, {"of": "Krebs, Übergang"}):
        objective = metric_from({**setting, **of}).named(counts)
        text = printed(replace(outcome(RECORDS, []), objectives=[objective]))
        title = "by recall_at_precision (precision ≥ 0.8, of 'Krebs, Übergang') on validation"
        assert title in " ".join(text.split())


def test_a_front_has_the_values_of_its_metrics_and_its_definition() -> None:
    space = tiny_space(objectives=["balanced_accuracy", "log_loss"])
    rungs = [replace(r, rungs=[replace(r.rungs[0], metrics={"log_loss": 2.2614})]) for r in RECORDS]
    found = outcome(rungs, [], front=[FrontTrial(1, (0.8, -2.2614))])
    text = printed(replace(found, objectives=space.objectives), 200)
    assert "no trial is at least as good as one of these in every objective and better" in text
    assert "log loss (lower is better)\n" in text and "(lower is" in text
    assert "2.2614" in text.partition("Pareto")[2] and "−2.2614" not in text


def test_one_fresh_seed_is_one() -> None:
    text = printed(outcome(RECORDS, finals(1, 0, 1)))
    assert (
        "mean of" in text
        and "1 fresh seed " in text
        and "fresh seeds" not in text.partition("Next:")[0]
    )
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
    assert ("Interrupted after 3 of 4 trials" in text) == interrupted
    assert ("The time budget is used up" in text) != interrupted
    assert ("best.yaml" in text) != interrupted


def test_early_stopping_says_what_it_saved_and_whether_it_lost_a_good_trial() -> None:
    assert stopping_line(outcome(RECORDS, [])) == (
        "Early stopping saved 20% of the image passes that training every trial to the end takes.\n"
        "  To see whether it loses good trials, 1 trial that it would have stopped ran to "
        "the end: it lost no better trial. Of one run each, trial 2 scored 0.7000, −10.00 points "
        "compared with the best of the trials that it let finish."
    )
    best = [
        RECORDS[0],
        *(replace(r, cutoff=SPARED) for r in RECORDS[1:3]),
        RECORDS[3],
    ]
    line = stopping_line(outcome(best, []))
    assert "2 trials that it would have stopped ran to the end: it would have lost the " in line
    assert line.endswith(
        "the best of them, trial 1, scored 0.8000, +30.00 points compared with the best of the "
        "trials that it let finish."
    )


def test_the_number_of_stopped_trials_is_that_of_the_first_line() -> None:
    """Trials that ran to the end to check early stopping are not counted as stopped anywhere."""
    text = printed(outcome(RECORDS, []))
    assert "3 finished, 1 stopped" in text
    assert not re.search(r"of \d+ trials to be stopped", text)


def test_early_stopping_that_saves_nothing_says_so() -> None:
    dear = [replace(r, rungs=[replace(r.rungs[0], images=200)]) for r in RECORDS]
    line = stopping_line(outcome(dear, []))
    assert line.startswith("Early stopping saved nothing: with rungs, the trials took 200% of the")


def rows(found: SearchOutcome, width: int = 120) -> list[str]:
    """The lines of the table below its heading, each from its trial's number on."""
    lines = "\n".join(table_lines(printed(found, width)))
    return [line.strip() for line in lines.splitlines() if re.match(r"\s+\d", line)]


def numbers(found: SearchOutcome) -> list[int]:
    return [int(row.split()[0]) for row in rows(found)]


def many(scores: Sequence[float], preset: int = 0) -> list[TrialRecord]:
    return [record(n, s, preset="erm" if n == preset else None) for n, s in enumerate(scores)]


def test_all_finalists_and_the_best_score_are_in_the_table() -> None:
    """Trial 8 has the highest score but no finals (its trunk had two finalists, or a run failed);
    the preset, trial 0, has the lowest of all."""
    records = many([0.1, 0.61, 0.62, 0.63, 0.64, 0.65, 0.66, 0.67, 0.99])
    found = outcome(records, finals(3, 0, 1, 2, 3, 4, 5))
    assert numbers(found) == [5, 4, 3, 2, 1, 0, 8]
    found = outcome(records, finals(3, 0, 1))
    assert numbers(found) == [1, 0, 8, 7, 6]
    assert numbers(outcome(records, [])) == [8, 7, 6, 5, 0]


@given(st.data())
def test_the_table_holds_what_the_text_speaks_of(data: st.DataObject) -> None:
    scores = data.draw(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), min_size=1, max_size=14))
    trials = range(len(scores))
    records = many(scores, data.draw(st.sampled_from([*trials, -1])))
    some = sorted(data.draw(st.sets(st.sampled_from(trials))))
    found = outcome(records, finals(2, *some))
    shown = numbers(found)
    assert found.winner and found.winner.number == shown[0]
    assert {*some, scores.index(max(scores))} <= set(shown)
    assert found.baseline is None or found.baseline.number in shown
    assert len(shown) == len(set(shown)) >= min(5, len(scores))


def test_rows_that_look_the_same_show_the_knobs_in_which_they_differ() -> None:
    def mamix(number: int, **knobs: float) -> TrialRecord:
        named = {f"mix.{name}": value for name, value in knobs.items()}
        settings = TrainConfig.from_settings({"mix": "mamix", "seed": number, **named}).flat()
        return record(number, 0.5 - number / 100, settings=settings)

    records = [mamix(0, omega=0.25), mamix(1, omega=0.5, alpha=2), record(2, 0.3)]
    assert [row.partition(" mamix")[2] for row in rows(outcome(records, []))[:2]] == [
        ": mix.alpha=1 mix.omega=0.25",
        ": mix.alpha=2 mix.omega=0.5",
    ]
    assert rows(outcome(records, []))[2].endswith(" cross-entropy")
    close = [mamix(0, omega=0.25), mamix(1, omega=0.25001)]
    assert [row.partition("mix.omega=")[2] for row in rows(outcome(close, []))] == [
        "0.25",
        "0.25001",
    ]
    twins = [mamix(3), mamix(4)]
    assert [row.partition(" mamix: ")[2] for row in rows(outcome(twins, []))] == [
        "seed=3",
        "seed=4",
    ]


@pytest.mark.parametrize("width", [80, 100])
def test_no_number_or_knob_is_cut_on_a_narrow_terminal(width: int) -> None:
    knobs = {"mix": "any_class_knn+linear+margin_aware", "optimizer.weight_decay": 0.000531}
    settings = [
        TrainConfig.from_settings({**knobs, "optimizer.lr": lr}).flat() for lr in (0.1, 0.2)
    ]
    records = [record(n, 0.5, settings=s) for n, s in enumerate(settings)]
    text = printed(outcome(records, finals(3, 0, 1)), width)
    for whole in ("0.6100 ± 0.0100", "any_class_knn+linear+margin_aware", "optimizer.lr=0.2"):
        assert whole in text
    assert "…" not in text and all(len(line) <= width for line in table_lines(text))


def table_lines(text: str) -> list[str]:
    return text.partition("best finished trials")[2].partition("score:")[0].splitlines()


def test_the_figure_to_report_is_named() -> None:
    text = " ".join(printed(outcome(RECORDS, finals(3, 0, 1))).split())
    assert "score: of one run, by which the finalists were chosen, so it is partly luck." in text
    assert "report the mean of the fresh seeds" in text
    assert "0.6100, the mean of 3 fresh seeds (95 % interval" in text


def test_evidence_that_counts_the_images_is_corrected() -> None:
    """The corrected mean is the figure to report; both are told, with what was paired."""
    plain = outcome(RECORDS, finals(3, 0, 1))
    groups = [
        replace(f, scores_without_groups=[f.score + s * g / 500 for g in range(-9, 11)])
        for f, s in zip(plain.finals, [1, 1, 1, -1, -1, -1], strict=True)
    ]
    text = " ".join(printed(outcome(RECORDS, groups)).split())
    assert "report the corrected mean and its interval; best of all, the test set" in text
    assert "0.6100, the mean of 3 fresh seeds; corrected for the choice of the best 0." in text
    assert "paired over 3 fresh seeds and the validation images" in text
    assert "counts the seeds alone" not in text
    seeds_alone = " ".join(printed(plain).split())
    assert "which counts the seeds alone and not the images" in seeds_alone


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_winner_without_finals_is_not_confirmed(interrupted: bool) -> None:
    text = " ".join(printed(outcome(RECORDS, [], interrupted=interrupted)).split())
    assert "Winner: trial 1" in text and "0.8000 in one run" in text
    assert (
        "Not confirmed: no trial was trained again with fresh seeds, and the highest of 3 scores "
        "is partly luck." in text
    )
    assert ("resume runs/s --finals 5" in text) == (not interrupted)  # as in the report
    assert "imbtune train" not in text
    confirmed = printed(outcome(RECORDS, finals(3, 0, 1)))
    assert "Not confirmed" not in confirmed and "--finals" not in confirmed


def test_the_next_command_has_a_free_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The models of an earlier winner are in the usual one, after a search that got more trials."""
    monkeypatch.chdir(tmp_path)
    found = outcome(RECORDS, finals(3, 0, 1))
    assert "train runs/s/best.yaml --seeds 5\n" in printed(found)
    for i, name in enumerate(["best", "best-2"]):
        (tmp_path / "runs/s" / name).mkdir(parents=True)
        (tmp_path / "runs/s" / name / "model-seed0.pt").touch()
        assert f"best.yaml --seeds 5 --out runs/s/best-{i + 2}\n" in printed(found)


def test_trials_that_were_cut_off_or_failed_save_nothing() -> None:
    others = [record(4, 0.1, "STOPPED"), record(5, 0.1, "FAIL")]
    line = stopping_line(outcome([*RECORDS, *others], []))
    assert line.replace(", not counting failed trials", "") == stopping_line(outcome(RECORDS, []))


def test_without_a_stopped_trial_nothing_is_said() -> None:
    assert stopping_line(outcome(RECORDS[:3], [])) == ""


def test_a_trial_at_chance_is_not_recommended() -> None:
    text = printed(outcome(RECORDS, [], chance=0.8))
    assert "No winner: the best trial, 1, scores 0.8000, no better than a model" in text
    assert "Winner" not in text and "imbtune train" not in text


def test_a_trial_whose_fresh_seeds_are_at_chance_is_not_recommended() -> None:
    finals = [FinalRecord(1, 7, 0.1), FinalRecord(1, 8, 0.1)]
    text = printed(outcome(RECORDS, finals, chance=0.1))
    assert "No winner: trial 1 has the best score of one run, 0.8000, but no finalist's" in text
    assert "predicts the same for every image (0.1000). Search with other" in text
    assert "but all runs with fresh seeds failed." in printed(
        replace(outcome(RECORDS, []), winner=None)
    )
    assert "imbtune train" not in text


NAN = "epoch {}: the loss is not finite (nan)"


def failed(number: int, error: str | None = None, **more: Any) -> TrialRecord:
    return record(number, 0.1, "FAIL", error=error, **more)


def test_a_search_without_a_winner_names_the_most_common_reason_and_the_remedy_once() -> None:
    """Divergences are of one kind, whatever their epoch."""
    nans = [failed(n, diverged=NAN.format(n + 4)) for n in range(1, 4)]
    records = [failed(0, "ValueError: bad"), *nans, record(4, 0.097, "PRUNED")]
    text = printed(outcome(records, [], chance=0.1), 200)
    assert text.endswith(
        "\n4 trials failed; most common reason (3 of 4, such as trial 1): epoch 5: the loss is not "
        "finite (nan)\n  Remedy: search with a lower optimizer.lr and another --name\n"
    )
    assert text.count("not finite") == 1 and "bad" not in text


def test_one_failed_trial_is_named_beside_a_winner() -> None:
    text = printed(outcome([*RECORDS, failed(4, "ValueError: image [7] is bad")], []), 200)
    assert text.count("\nTrial 4 failed: ValueError: image [7] is bad\n") == 1
    assert text.count("Remedy: fix the cause, then run") == 1
    assert "resume runs/s --retry-failed\n" in text and "Winner: trial 1" in text


def test_reasons_that_differ_in_numbers_are_one() -> None:
    errors = ["KeyError: b", "ValueError: 3 images", "ValueError: 5 images"]
    found = outcome([failed(n, error) for n, error in enumerate(errors)], [])
    reason = "most common reason (2 of 3, such as trial 1): ValueError: 3 images"
    assert str(found.common_failure()) == f"3 trials failed; {reason}"
    all_differ = outcome([failed(0, "KeyError: b"), failed(1, "TypeError: c")], [])
    reason = "most common reason (1 of 2, trial 0): KeyError: b"
    assert str(all_differ.common_failure()) == f"2 trials failed; {reason}"


def test_a_search_without_a_failed_trial_names_no_remedy() -> None:
    assert "Remedy" not in printed(outcome(RECORDS, []))


def test_a_failed_trial_that_was_repeated_without_failing_is_not_named() -> None:
    """Also where the first repeat failed, too; one that was stopped has not failed."""
    chain = [failed(4, "OSError: a"), failed(5, "OSError: a", retry_of=4)]
    done = [*RECORDS, *chain, record(6, 0.3, "PRUNED", retry_of=5)]
    assert "Remedy" not in printed(outcome(done, []))
    text = printed(outcome([*done, failed(7, "KeyError: b")], []), 200)
    assert "\nTrial 7 failed: KeyError: b\n" in text and "OSError" not in text
    assert "2 failed (2 since trained again without failing)" in printed(outcome(done, []))
    assert "2 failed\n" in printed(outcome([*RECORDS, *chain], []))
    for state in ("STOPPED", "FAIL"):  # not yet, or not at all
        again = [*RECORDS, failed(4, "OSError: a"), record(5, 0.3, state, retry_of=4)]
        assert "OSError: a" in printed(outcome(again, []), 200)


@pytest.mark.parametrize("width", [*range(60, 121, 3)])
def test_no_line_ends_inside_a_number_with_its_unit_or_a_setting(width: int) -> None:
    text = (
        "Winner: trial 9, mixup (schedule.milestones=0\u00a00.5 mix.alpha=0.181): 0.7844 ± 0.01, "
        "the mean of 3 fresh seeds; now 0.7469 (95 % interval 0.6906 to 0.8366), +2.56 points "
        "over 'smote' (95 % interval −8.08 to +8.64 points, p = 0.83; paired over 12 images); "
        "after 9 epochs, class 3"
    )
    lines = fill(text, Console(width=width)).split("\n")
    assert max(map(len, lines)) <= width
    assert " ".join(line.strip() for line in lines) == text.replace("\u00a0", " ")
    whole = ["schedule.milestones=0 0.5", "0.7844 ± 0.01", "3 fresh seeds", "95 % interval"]
    whole += ["0.6906 to 0.8366", "+2.56 points", "−8.08 to +8.64 points", "p = 0.83", "trial 9"]
    whole += ["12 images", "9 epochs", "class 3"]
    assert [words for words in whole if not any(words in line for line in lines)] == []
