"""The sentences of the first screen."""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_study import HOSTILE, make_data, trial, usual

from imbtune.report.first_screen.story import (
    BETTER,
    MAY_BE_CHANCE,
    NO_PRESET,
    NOTHING,
    PRESET_WINS,
    UNCONFIRMED,
    story_of,
)
from imbtune.report.frames.studies_frames import studies_frame
from imbtune.report.frames.trial_frame import failure_frame
from imbtune.report.missing import no_finals, none_finished
from imbtune.report.next_steps import trainings
from imbtune.report.pages.study_page import study_page
from imbtune.report.plots import StudyPlots
from imbtune.report.sections import EVERY, FIRST
from imbtune.report.study_data import NothingToDrawError, StudyData, trials_with_file
from imbtune.report.tested import read_tested
from imbtune.report.wording import NO_WINNER, bars_of, duration, points, texts_of
from imbtune.storage import Store
from imbtune.study.lock import Activity
from imbtune.study.records import FRONT_FILE


def test_a_winner_that_leads() -> None:
    story = story_of(usual())
    assert story.verdict == BETTER
    assert story.headline.startswith("Trial 4 has the best balanced accuracy: 0.615 (95 % interval")
    assert "10.5 points ahead of the best preset, erm (trial 0)" in story.lead
    assert "unlikely to be chance" in story.lead
    assert "The largest change of recall is +10.5 points, of class </scri" in story.lead
    assert story.lead.endswith(" (20 training images).")
    assert "largest change" not in story_of(make_data([trial(0)], {0: (0.5, 0.6)})).lead
    assert "best of 3 finalists by these same runs" in story.doubt
    assert "Not tested yet" in story.doubt
    assert story.steps[0][0] == "imbtune train runs/made --seeds 5 --baselines"


def test_evidence_that_counts_the_images_is_told_with_its_corrections() -> None:
    study = usual()
    assert study.evidence is not None
    assert "count the seeds alone, not the images: they are too sure" in story_of(study).doubt
    images = replace(study.evidence, images=True, mean_corrected=0.594, lead_corrected=0.081)
    failed = story_of(replace(study, evidence=replace(images, failed_runs=2)))
    assert "2 of the 6 runs of the finals are no better than chance, of trials" in failed.doubt
    story = story_of(replace(study, evidence=images))
    assert "no better than chance" not in story.doubt
    low, high = f"{images.low:.3f}", f"{images.high:.3f}"
    assert story.headline == (
        "Trial 4 has the best balanced accuracy: 0.615, corrected for the choice 0.594 "
        f"(95 % interval {low} to {high})."
    )
    assert "+8.1 points when corrected for the choice of the winner" in story.lead
    assert " points, p" in story.lead
    assert "0.594" not in story.doubt and "  " not in story.doubt
    assert "hardly" not in story.doubt
    same = replace(images, mean_corrected=images.mean)
    assert "lowers the lead and hardly the mean" in story_of(replace(study, evidence=same)).doubt
    page = study_page(replace(study, evidence=images))
    assert "<span>The bars are not corrected for the choice of the winner.</span>" in page
    assert "The bars are not corrected" not in study_page(study)  # nor is the headline
    assert "count the seeds, the validation images and the choice" in story.doubt


def test_a_corrected_mean_that_looks_the_same_is_not_said_to_be_another() -> None:
    study = usual()
    assert study.evidence is not None
    same = replace(study.evidence, images=True, mean_corrected=study.evidence.mean - 1e-5)
    same = replace(same, lead_corrected=-1e-5)
    story = story_of(replace(study, evidence=same))
    assert "0.615, also when corrected for the choice (95" in story.headline
    assert "this mean could be too high: hence the correction. " in story.doubt
    assert "likely" not in story.doubt and "+0.0 points when corrected" in story.lead


@pytest.mark.parametrize("finals", [{}, {1: (0.3, 0.3)}])
def test_a_search_whose_trials_are_at_chance_has_no_winner(
    finals: dict[int, tuple[float, float]],
) -> None:
    """Three classes, so a model that predicts one of them has a balanced accuracy of a third."""
    ended = {"end": "finished"}
    study = make_data([trial(0, 1 / 3), trial(1, 0.25)], info=ended)
    study = replace(study, finals=make_data([trial(0, 0.3), trial(1, 0.3)], finals).finals)
    story = story_of(study)
    assert (story.verdict, story.badge, story.steps) == (NOTHING, "No winner", [])
    assert (
        "no trial is better than a model that predicts the same for every image" in story.headline
    )
    assert "The best trial, 0, has 0.333 in one run, and such a model 0.333." in story.lead
    running = replace(study, info={**study.info, "end": None}, activity=Activity(locked=True))
    assert story_of(running).badge == "Not confirmed"


def test_finals_that_score_no_better_than_chance_are_told() -> None:
    study = make_data([trial(0, 0.5), trial(1, 0.4)], info={"end": "finished"})
    study = replace(study, finals=make_data([trial(0, 0.3)], {0: (0.3, 0.3)}).finals)
    story = story_of(study)
    assert (story.badge, story.steps) == ("No winner", [])
    assert "The best trial, 0, has 0.500 in one run, but no finalist's mean over" in story.lead


def test_a_search_with_several_objectives_points_to_its_front() -> None:
    objectives = {"objective": "balanced_accuracy", "objectives": ["balanced_accuracy", "mcc"]}
    space = {**usual().info["space"], **objectives}
    study = replace(usual(), info={**usual().info, "space": space})
    assert "Balanced accuracy is the first of 2 objectives: the Pareto" in story_of(study).lead


def test_the_figure_of_the_finals_says_what_its_intervals_count() -> None:
    study = usual()
    (seeds, recall) = texts_of(study, FIRST)
    assert "counts the fresh seeds alone, not the validation images" in seeds.reading
    assert recall == FIRST[1]
    without = pd.Series([[0.5, 0.6]] * len(study.finals))
    finals = study.finals.assign(scores_without_groups=without)
    assert study.evidence is not None
    images = replace(study, finals=finals, evidence=replace(study.evidence, images=True))
    reading = texts_of(images, FIRST)[0].reading
    assert "counts the fresh seeds and the validation images" in reading
    assert "not corrected for the choice of the winner" in reading
    assert "interval in the headline is another one: it is corrected" in reading
    assert "headline" not in bars_of(replace(images, evidence=None))  # the finals run
    one_seed = make_data([trial(0), trial(4)], {0: (0.5,), 4: (0.6,)})
    assert bars_of(one_seed) == ""
    assert texts_of(one_seed, FIRST) == list(FIRST)


@pytest.mark.parametrize(
    ("finals", "verdict", "words"),
    [
        ({0: (0.5, 0.7), 4: (0.65, 0.6)}, MAY_BE_CHANCE, "That may be chance"),
        ({0: (0.5,), 4: (0.6,)}, MAY_BE_CHANCE, "With one seed each, that may be chance"),
        ({0: (0.9, 0.8), 4: (0.6, 0.5)}, PRESET_WINS, "It is the preset erm"),
        ({4: (0.6, 0.5), 6: (0.4, 0.3)}, NO_PRESET, "No preset from the literature"),
    ],
)
def test_verdicts(finals: dict[int, tuple[float, ...]], verdict: str, words: str) -> None:
    story = story_of(make_data([trial(n) for n in range(0, 8, 2)], finals))
    assert story.verdict == verdict
    assert words in story.lead


def test_without_finals_a_score_of_one_run_is_not_confirmed() -> None:
    story = story_of(make_data([trial(0, 0.4), trial(4, 0.6)]))
    assert story.verdict == UNCONFIRMED
    assert "highest of 2 scores is partly luck" in story.lead
    assert "erm (trial 0), had 0.400" in story.doubt
    assert story.steps[0][0] == "imbtune resume runs/made --finals 5"


@pytest.mark.parametrize(
    ("study", "headline", "lead"),
    [
        (make_data([]), "No trial has ended yet.", ""),
        (make_data([trial(1)]), "No trial was trained to the full budget.", "trial 1"),
        (make_data([trial(n, None) for n in (1, 3)]), "All 2 trials failed.", HOSTILE),
    ],
)
def test_without_a_finished_trial(study: StudyData, headline: str, lead: str) -> None:
    story = story_of(study)
    assert (story.verdict, story.headline) == (NOTHING, headline)
    assert lead in story.lead


def test_what_is_doubtful_is_said() -> None:
    rows = [trial(n, 0.4 + n / 1000) for n in range(0, 60, 2)]
    rows[-1] |= {"mix.omega": 0.5, "weights.beta": 0.999}
    study = make_data(rows, {0: (0.5, 0.52), 58: (0.6, 0.61)}, info={"end": "interrupted"})
    warnings = " ".join(story_of(study).warnings)
    assert "was interrupted" in warnings
    assert "still rose in the last fifth" in warnings
    assert "mix.omega, 0.5, is at an end of its range (0.1 to 0.5)" in warnings
    assert "weights.beta, 0.999, is at an end" in warnings
    assert "optimizer.lr" not in warnings


def test_numbers_in_words() -> None:
    assert points(-0.0123) == "−1.2"
    assert [duration(s) for s in (12, 90, 3900, 90000)] == ["12 s", "1.5 min", "1 h 5 min", "25 h"]


def test_the_time_of_one_report_is_that_of_a_comparison() -> None:
    times = {"started": "2026-01-01T00:00:00Z", "ended": "2026-01-01T00:05:00Z"}
    study = make_data([trial(0), trial(4)], {0: (0.5,), 4: (0.6,)}, info=times)
    study.finals["seconds"] = [30.0, None]
    told = dict(story_of(study).facts)
    assert told["training time, all runs"] == "2.5 min"  # 60 + 60 + 30 seconds
    assert told["wall time"] == "5.0 min"
    row = studies_frame([study]).iloc[0]
    assert (row["seconds"], row["wall_seconds"]) == (150, 300)


def test_without_both_times_there_is_no_wall_time() -> None:
    study = make_data([trial(0)])
    assert "wall time" not in dict(story_of(study).facts)
    assert studies_frame([study]).iloc[0]["wall_seconds"] is None


@pytest.mark.parametrize(
    ("locked", "info", "words", "command"),
    [
        (True, {}, "has been running since 2026-01-01 00:00 UTC: 1 of 3 trials has ended.", None),
        (
            False,
            {},
            "no process of this machine works on it: 1 of 3 trials has ended. It was killed",
            "resume runs/made",
        ),
        (
            None,
            {},
            "1 of 3 trials has ended. Whether it still runs cannot be seen here, as this study has "
            "no lock; its files last changed at 2026-01-01 00:30 UTC.",
            "resume runs/made",
        ),
        (None, {"end": "interrupted"}, "The search was interrupted", "resume runs/made"),
        (None, {"end": "finished"}, None, "resume runs/made --finals 5"),
        (
            False,
            {"end": "time budget"},
            "--time-budget was used up before all trials had started: 1 of 3 trials ended.",
            "resume runs/made --finals 5",
        ),
        (
            False,
            {"end": "failed"},
            "trials failed for one reason, and no other trial scored above chance: 1 of 3",
            "resume runs/made --finals 5",
        ),
        (
            False,
            {"end": "interrupted"},
            "interrupted: 1 of 3 trials has ended.",
            "resume runs/made",
        ),
        (True, {"end": "interrupted"}, "interrupted: 1 of 3 trials has ended.", "resume runs/made"),
        (True, {"end": "finished"}, None, "resume runs/made --finals 5"),
    ],
)
def test_a_search_that_runs_is_told_from_one_that_was_killed(
    locked: bool | None, info: dict[str, str], words: str | None, command: str | None
) -> None:
    rows = [trial(0), trial(2, 0.4, state="STOPPED")]
    changed = dt.datetime(2026, 1, 1, 0, 30, tzinfo=dt.UTC) if locked is None else None
    activity = Activity(locked, changed)
    story = story_of(make_data(rows, info={"trials": 3, **info}, activity=activity))
    if words:
        assert words in story.warnings[0]
    else:
        assert not story.warnings
    assert [step for step, _ in story.steps] == ([f"imbtune {command}"] if command else [])
    assert dict(story.facts)["trials"] == "1 of 3"


@pytest.mark.parametrize("locked", [False, None])
def test_trials_that_a_killed_search_left_in_its_journal_are_counted(locked: bool | None) -> None:
    activity, planned = Activity(locked), {"trials": 12}
    one = make_data([trial(0)], info=planned, activity=activity, journal_ended=2)
    assert dict(story_of(one).facts)["trials"] == "2 of 12"
    warning = story_of(one).warnings[0]
    assert "2 of 12 trials have ended." in warning
    assert warning.endswith(
        "1 of these trials is only in the journal yet, and this page shows it after imbtune resume."
    )
    none = story_of(make_data([], info=planned, activity=activity, journal_ended=5))
    assert none.headline == "No result can be shown yet."
    assert none.lead.startswith("5 of 12 trials have ended. They are only in the journal yet")
    assert none.steps[0][0] == "imbtune resume runs/made"
    written = make_data([trial(0)], info=planned, activity=activity, journal_ended=1)
    assert "journal" not in story_of(written).warnings[0]
    all_ended = make_data([], info={"trials": 5}, activity=activity, journal_ended=5)
    assert not all_ended.has_ended  # its finals are still to be trained


ASKED = {"finals": 2, "final_seeds": 3}


@pytest.mark.parametrize(
    ("request_", "info", "locked", "clause"),
    [
        (ASKED, {"trials": 9}, True, "the finals begin when all trials have ended"),
        (ASKED, {}, True, "no run of the finals has ended yet"),
        (ASKED, {}, False, "the search has not come to its finals"),
        (ASKED, {"end": "interrupted"}, False, "the search has not come to its finals"),
        ({"finals": 0, "final_seeds": 3}, {}, True, "the search was started without finals"),
        (
            {"finals": None, "final_seeds": 3},
            {"trials": 9},
            True,
            "a search of so few trials has no finals",
        ),
        ({"finals": None}, {"trials": 10}, True, "the finals begin when"),
        (ASKED, {"end": "finished"}, False, "no run of the finals was trained to its end"),
        (None, {"end": "finished"}, False, "the study has no finals"),
    ],
)
def test_why_there_are_no_finals_is_one_sentence_everywhere(
    request_: dict[str, Any] | None, info: dict[str, Any], locked: bool, clause: str
) -> None:
    rows = [trial(0, 0.4, host="a"), trial(4, 0.6, host="a")]
    study = make_data(rows, info={"request": request_, **info}, activity=Activity(locked))
    with pytest.raises(NothingToDrawError, match=clause) as caught:
        StudyPlots(study).finals()
    assert f"with fresh seeds ({caught.value})." in story_of(study).lead
    assert f"Not shown: {caught.value}." in study_page(study)


def test_a_search_whose_trials_are_at_chance_says_why_it_has_no_finals() -> None:
    study = make_data([trial(0, 0.3)], info={"end": "finished", "request": ASKED})
    assert (
        no_finals(study) == "no trial is better than a model that predicts the same for every image"
    )


@pytest.mark.parametrize(("end", "words"), [("finished", "was trained"), (None, "trained to the")])
def test_what_a_study_without_a_finished_trial_lacks(end: str | None, words: str) -> None:
    rows = [trial(1, host="a")]
    study = make_data(rows, info={"end": end, "request": ASKED}, activity=Activity(False))
    page, clause = study_page(study), none_finished(study)
    assert words in clause and clause.endswith(" yet") == (end is None)
    assert f'<p class="headline">{clause.capitalize()}.</p>' in page
    shown = re.findall("Not shown: (.*?)</p>", page)
    assert shown.count(f"{clause}.") >= 8  # of figures


def test_before_the_finals_are_complete_the_figures_say_who_is_called_the_winner() -> None:
    study = make_data([trial(0), trial(4, 0.6)], {0: (0.5,)}, activity=Activity(True))
    running = replace(study, winner=None, baseline=None, evidence=None)
    assert "with fresh seeds, are not complete." in story_of(running).lead
    readings = {text.name: text.reading for text in texts_of(running, EVERY)}
    told = {name for name, reading in readings.items() if NO_WINNER in reading}
    assert told == {
        *("recall_by_size", "recall_change", "confusion", "margins", "parts", "knobs", "parallel"),
        *("scores", "progress", "curves", "front"),
    }
    assert study_page(running).count("Without finals, the winner and") >= 2
    assert NO_WINNER not in study_page(study)


def test_while_the_finals_run_nothing_is_to_be_resumed() -> None:
    study = make_data([trial(0), trial(4)], activity=Activity(True))
    assert "has been running since" in story_of(study).warnings[0]
    assert not story_of(study).steps


def test_a_search_in_its_finals_says_so() -> None:
    rows = [trial(0), trial(2)]
    study = make_data(rows, {0: (0.5,)}, activity=Activity(True))
    (warning, *_) = story_of(replace(study, winner=None, baseline=None, evidence=None)).warnings
    assert warning.endswith(
        "all 2 trials have ended, and the finals run (1 final run has ended so far)."
    )


def test_a_search_that_was_killed_in_its_finals_has_not_ended() -> None:
    rows = [trial(0, host="a"), trial(2, host="a")]
    killed, older = make_data(rows), make_data([trial(0), trial(2)])
    assert "It was killed" in story_of(killed).warnings[0]
    assert story_of(killed).steps == [("imbtune resume runs/made", "goes on with the search")]
    assert not story_of(older).warnings  # that version did not record ends
    in_bucket = make_data(rows, activity=Activity(None))
    assert "only where no process works on it" in story_of(in_bucket).steps[0][1]


def test_a_failure_that_was_repeated_without_failing_is_not_told() -> None:
    """The repeat has the same configuration, and another number."""
    bad, other = trial(3, None), trial(9, None)
    again = trial(5) | {"optimizer.lr": bad["optimizer.lr"], "weights.beta": bad["weights.beta"]}
    preset = [trial(1, None, preset="drw"), trial(7, preset="drw") | {"optimizer.lr": 0.1}]
    preset[0]["optimizer.lr"] = 0.1
    study = make_data([bad, again, other, *preset])
    assert "1 trial failed: RuntimeError: " in story_of(study).warnings[-1]
    assert failure_frame(study)["numbers"].tolist() == [[9]]
    assert not any("failed" in line for line in story_of(make_data([bad, again])).warnings)


@pytest.mark.parametrize(
    ("error", "has_remedy"),
    [
        ("epoch 3: the loss is not finite (nan)", False),
        ("epoch 1: the logits of 3 of 9 images are not finite", False),
        ("generate=deepsmote: epoch 2 of the autoencoder: the loss is not finite (inf)", False),
        ("RuntimeError: the input is not finite", True),
        ("its process ended", True),
    ],
)
def test_only_what_may_succeed_is_to_be_repeated(error: str, has_remedy: bool) -> None:
    study = make_data([trial(1, None, error=error)], info={"end": "finished"})
    assert ("--retry-failed" in str(story_of(study).steps)) == has_remedy


def test_only_a_study_with_failed_trials_is_told_to_retry_them() -> None:
    stopped = make_data([trial(1)], info={"end": "finished"})
    failed = make_data([trial(1, None)], info={"end": "finished"})
    assert not story_of(stopped).steps
    assert story_of(failed).steps[0][0] == "imbtune resume runs/made --retry-failed"


def result(*seeds: float, trial: int | None = None, **options: object) -> bytes:
    """The content of a metrics.json."""
    values = {"mean": sum(seeds) / len(seeds)}
    if len(seeds) > 1:
        values["std"] = float(np.std(seeds, ddof=1))
    content = {"test": {"balanced_accuracy": values}, "runs": [{} for _ in seeds]}
    origin = {} if trial is None else {"winner": {"trial": trial}}
    return json.dumps({**content, "options": options, "provenance": origin}).encode()


def told(store: Store) -> tuple[str, str]:
    """What the report says of the tests in a study's folder, and the command that it offers."""
    study = make_data(
        [trial(0), trial(4)],
        {0: (0.5, 0.52), 4: (0.6, 0.63)},
        info={"name": "made"},
        tested=read_tested(store, 4),
    )
    story = story_of(study)
    return story.doubt, " ".join(step for step, _ in story.steps)


def test_a_winner_that_an_earlier_version_tested(tmp_path: Path) -> None:
    """Its scores are in results.json."""
    store = Store(str(tmp_path))
    store.write("best/results.json", result(0.8, trial=4))
    assert "(balanced accuracy, one seed): 0.800 for the winner" in told(store)[0]


def test_a_tested_winner_beside_the_best_preset(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert "Not tested yet" in told(store)[0]
    store.write("best/metrics.json", result(0.8, trial=4))
    doubt, step = told(store)
    assert "(balanced accuracy, one seed): 0.800 for the winner; the best preset, erm, has" in doubt
    assert step == "imbtune train runs/made --seeds 2 --baselines --out made-tested"
    store.write("best/metrics.json", result(0.8, 0.9, trial=4))
    store.write("best/seed1/metrics.json", result(0.9))  # the winner's, of its second seed
    store.write("best/erm/metrics.json", result(0.7, 0.8, trial=0))
    doubt, step = told(store)
    assert "mean ± standard deviation of 2 seeds): 0.850 ± 0.071 for the winner" in doubt
    assert "0.750 ± 0.071 for the best preset, erm." in doubt
    assert not step
    store.write("best/erm/metrics.json", b"{")
    assert "erm, has not been tested" in told(store)[0]
    store.write("best/metrics.json", result(0.8, 0.9, trial=7))  # another trial has won since
    assert "Not tested yet" in told(store)[0]


MODEL = [
    "imbtune predict runs/made/best IMAGES --out predictions.parquet",
    "imbtune evaluate runs/made/best --data FOLDER --split all",
    "imbtune export runs/made/best --to onnx",
]


def test_options_of_a_training_stand_at_its_scores_and_in_the_command_for_its_presets(
    tmp_path: Path,
) -> None:
    store = Store(str(tmp_path))
    options = {"ema": 0.9, "calibrate": 0.1, "ensemble": True}
    store.write("best/metrics.json", result(0.8, 0.9, trial=4, **options))
    doubt, step = told(store)
    assert "of 2 seeds; trained with --ema 0.9 --calibrate 0.1): 0.850 ± 0.071" in doubt
    train = "imbtune train runs/made --seeds 2 --baselines --ema 0.9 --calibrate 0.1"
    assert step == f"{train} --out made-tested"
    store.write("best/metrics.json", result(0.8, 0.9, trial=4, ema=None, calibrate=None))
    assert "of 2 seeds): 0.850" in told(store)[0] and "--ema" not in told(store)[1]


def test_a_trained_model_has_its_commands(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("best/metrics.json", result(0.8, 0.9, trial=4))
    store.write("best/manifest.json", b"{}")
    assert told(store)[1].endswith(" ".join(["made-tested", *MODEL]))  # no preset is tested
    store.write("best/erm/metrics.json", result(0.7, 0.8, trial=0))
    assert told(store)[1] == " ".join(MODEL)


def test_the_winner_and_the_front_can_be_trained_on_all_data() -> None:
    study = make_data([trial(0), trial(4)], {0: (0.5, 0.52), 4: (0.6, 0.63)}, front_files=(0, 4))
    assert trainings(study) == {
        0: ["imbtune", "train", "runs/made/front-0.yaml", "--seeds", "5"],
        4: ["imbtune", "train", "runs/made", "--seeds", "5"],
    }
    assert trainings(make_data([trial(0), trial(4)])) == {}


def test_the_files_of_a_front_are_found(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for name in ("front-12.yaml", "front-3.yaml", "front-x.yaml", "best.yaml"):
        store.write(name, b"")
    assert sorted(trials_with_file(store, "", FRONT_FILE)) == [3, 12]


def test_a_method_says_which_part_is_what() -> None:
    rows = [
        trial(4, 0.6, weights="effective_number", **{"weights.schedule": "linear"}),
        trial(1, preset="erm"),
    ]
    lead = story_of(make_data(rows)).lead
    assert lead.startswith(
        "It trains with mix=mamix weights=effective_number weights.schedule=linear."
    )
