"""What each figure shows, against literal formulas."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_study import CLASSES, COUNTS, HOSTILE, make_data, trial, usual
from scipy import stats

from imbtune.report.frames.confusion_frames import confusion_frame, slope_frame
from imbtune.report.frames.finals_frames import (
    GROUPS,
    MOST_POINTS,
    class_frame,
    finals_frame,
    recall_frame,
    recall_interval,
)
from imbtune.report.frames.front_frame import front_frame
from imbtune.report.frames.search_frames import ABSENT, curve_band_frame, parallel_frame, part_frame
from imbtune.report.frames.studies_frames import (
    by_objective,
    differences,
    labels_of,
    studies_frame,
    why_no_test,
)
from imbtune.report.frames.trial_frame import (
    failure_frame,
    progress_frame,
    timeline_frame,
    trial_frame,
)
from imbtune.report.study_data import NothingToDrawError


def test_a_knob_that_does_not_act_stays_null() -> None:
    study = usual()
    frame: Any = trial_frame(study)
    columns = {knob.name: knob.column for knob in study.knobs}
    assert frame[columns["mix.omega"]].isna().tolist() == [n % 2 == 1 for n in range(12)]
    assert frame[columns["weights.beta"]].dropna().tolist() == pytest.approx([0.01] * 4)  # 1 - x


def test_kinds_and_rungs_of_trials() -> None:
    frame: Any = trial_frame(usual()).set_index("trial")
    kinds = ["best preset", "trial", "preset", "trial", "winner"]
    assert frame["kind"].tolist()[:5] == kinds
    assert frame["full"].isna().tolist() == [n % 2 == 1 for n in range(12)]
    assert frame.loc[4, "r0"] == frame.loc[4, "score"] / 2
    assert math.isnan(frame.loc[3, "r1"])
    assert math.isnan(frame.loc[11, "r0"])


def test_the_front_is_that_of_the_means_over_the_fresh_seeds() -> None:
    """By hand: trial 3 is best in one run; of the finalists 0 and 4, each leads in one."""
    info = {"space": {"objective": "accuracy", "objectives": ["accuracy", "brier"]}}
    rows = [trial(n, 0.5, brier=0.4, state="COMPLETE") for n in range(6)]
    rows[3] |= {"score": 0.9, "brier": 0.1}
    rows[5] |= {"state": "PRUNED"}
    study = make_data(rows, {0: (0.5, 0.6), 2: (0.5, 0.5), 4: (0.6, 0.7)}, info=info)
    study.finals["brier"] = [0.2, 0.2, 0.3, 0.3, 0.4, 0.2]
    frame: Any = front_frame(study).set_index("trial")
    assert frame.index.tolist() == [0, 1, 2, 3, 4]
    assert frame.loc[0, ["s0", "s1"]].tolist() == [0.5, -0.4]
    assert frame["m0"].dropna().tolist() == pytest.approx([0.55, 0.5, 0.65])
    assert frame["m1"].dropna().tolist() == pytest.approx([-0.2, -0.3, -0.3])
    assert frame.index[frame["front"]].tolist() == [0, 4]
    without: Any = front_frame(make_data(rows, info=info)).set_index("trial")
    assert without.index[without["front"]].tolist() == [3]
    with pytest.raises(NothingToDrawError, match="the study has one objective"):
        front_frame(usual())


def test_the_interval_of_a_finalist_is_students_with_pooled_variance() -> None:
    scores = np.array([[0.50, 0.52], [0.60, 0.63], [0.55, 0.56]])
    variance = ((scores - scores.mean(1, keepdims=True)) ** 2).sum() / 3  # 3 · (2 - 1) freedom
    # on the scale of arcsin √score
    centre, slope = math.asin(math.sqrt(0.615)), 1 / (2 * math.sqrt(0.615 * 0.385))
    half = stats.t.ppf(0.975, 3) * math.sqrt(variance / 2) * slope
    ends = math.sin(centre - half) ** 2, math.sin(centre + half) ** 2
    frame: Any = finals_frame(usual())
    winner: Any = frame[frame["kind"] == "winner"].iloc[0]
    assert winner["mean"] == pytest.approx(0.615)
    assert (winner["low"], winner["high"]) == pytest.approx(ends)
    assert frame["trial"].tolist() == [4, 4, 6, 6, 0, 0]  # best mean first


def test_a_finalist_without_all_seeds_has_no_interval() -> None:
    study = make_data([trial(0), trial(2)], {0: (0.5, 0.6), 2: (0.7,)})
    frame: Any = finals_frame(study).set_index("trial")
    assert pd.isna(frame.loc[2, "low"])
    assert not frame.loc[0, "low"].isna().any()


def test_the_interval_of_a_recall_is_wilsons() -> None:
    n, p, z = 30, 0.9, stats.norm.ppf(0.975)
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert recall_interval(p, n) == pytest.approx((middle - half, middle + half))
    assert recall_interval(1.0, 10)[0] is not None
    assert recall_interval(0.5, 0) == (None, None)
    assert recall_interval(math.nan, 10) == (None, None)


def test_recall_of_winner_and_preset_by_size() -> None:
    frame: Any = recall_frame(usual())
    assert frame["kind"].tolist() == ["winner"] * 3 + ["best preset"] * 3
    assert frame["images"].round(6).tolist() == [100, 20, 2] * 2
    assert frame["recall"].tolist()[:3] == pytest.approx([1.0, 0.615, 0.2])


def test_many_classes_are_drawn_in_groups() -> None:
    count = MOST_POINTS + 20
    rows = [trial(0, recall=np.linspace(0, 1, count)), trial(1)]
    study = make_data(
        rows, classes=[f"c{i}" for i in range(count)], counts=[1 + i for i in range(count)]
    )
    frame: Any = recall_frame(study)
    assert len(frame) == GROUPS
    assert frame["validation"].tolist() == [30] * GROUPS  # three classes of ten images
    assert frame["recall"].mean() == pytest.approx(0.5)


def test_classes_and_their_change() -> None:
    frame: Any = class_frame(usual())
    assert frame["class"].tolist() == ["ship", HOSTILE, "frog"]
    assert frame["change"].tolist() == pytest.approx([0, 0.615 - 0.51, 0])
    assert slope_frame(usual())["side"].tolist() == [0, 0, 0, 1, 1, 1]


def test_without_finals_the_best_of_one_run_is_compared() -> None:
    study = make_data([trial(0, 0.4), trial(2, 0.5), trial(4, 0.6)])
    assert recall_frame(study)["kind"].tolist() == ["winner"] * 3 + ["best preset"] * 3
    assert recall_frame(study)["model"].iloc[0].startswith("4 ")
    alone = make_data([trial(0, 0.9), trial(4, 0.6)])
    with pytest.raises(NothingToDrawError, match="no preset can be compared"):
        slope_frame(alone)


def test_confusion_is_a_share_of_the_class_over_all_seeds() -> None:
    study = usual()
    cells = [
        {"label": 0, "predicted": 0, "count": 8},
        {"label": 0, "predicted": 2, "count": 2},
        {"label": 2, "predicted": 0, "count": 10},
    ]
    study.finals["confusion"] = pd.Series([cells] * len(study.finals))
    frame: Any = confusion_frame(study).set_index(["class", "predicted"])
    assert frame.loc[("ship", "frog"), ["share", "wrong", "count"]].tolist() == [0.2, 0.2, 4]
    assert pd.isna(frame.loc[("ship", "ship"), "wrong"])
    assert frame.loc[("frog", "ship"), "share"] == 1
    with pytest.raises(NothingToDrawError, match="does not record what its models predicted"):
        confusion_frame(usual())


def test_progress_counts_the_passes_of_all_trials() -> None:
    frame: Any = progress_frame(
        make_data([trial(0, 0.5), trial(1, 0.9), trial(2, 0.4), trial(4, 0.6)])
    )
    assert frame["images"].tolist() == [9e6, 21e6, 30e6]  # 9, 9 + 3 + 9, … millions
    assert frame["best"].tolist() == [0.5, 0.5, 0.6]


def test_choices_are_counted_where_they_act() -> None:
    frame: Any = part_frame(usual())
    assert frame[["value", "n"]].to_numpy().tolist() == [["mamix", 6]]


def test_a_lane_for_knobs_that_do_not_act() -> None:
    study = make_data([trial(0, **{"weights.beta": None}), trial(2, **{"weights.beta": 0.9})])
    frame: Any = parallel_frame(study).set_index(["axis", "trial"])
    assert frame.loc[("weights.beta", 0), ["position", "value"]].tolist() == [
        ABSENT,
        "does not act",
    ]
    assert frame.loc[("weights.beta", 2), "position"] >= 0


def test_bands_of_the_curves_are_quantiles() -> None:
    bands: Any = curve_band_frame(usual()).set_index("epoch")
    assert bands.loc[1, "trials"] == 11
    assert bands.loc[9, "trials"] == 6
    assert bands.loc[9, "q50"] == pytest.approx(9 / 20)


def test_failures_of_one_kind_are_one_row() -> None:
    rows = [trial(n, None, error=f"CUDA out of memory: {n} MiB at 0x{n:x}f") for n in range(3)]
    frame: Any = failure_frame(make_data([*rows, trial(4, None, error="other")]))
    assert frame["trials"].tolist() == [3, 1]
    assert frame["numbers"].iloc[0] == [0, 1, 2]
    assert frame["traceback"].tolist() == [None, None]  # divergences have none, for example
    files: Any = failure_frame(make_data([*rows, trial(4, None, error="other")], tracebacks=[1, 2]))
    assert files["traceback"].tolist() == ["runs/made/errors/trial-1.txt", None]


def test_runs_that_never_reported_have_no_timeline() -> None:
    rows = [trial(0, None, error="ValueError: x") | {"started": pd.NaT, "ended": pd.Timestamp(0)}]
    with pytest.raises(NothingToDrawError, match="no trial has trained an epoch"):
        timeline_frame(make_data(rows))


def test_runs_at_the_same_time_have_lanes_of_their_own() -> None:
    start = pd.Timestamp("2026-01-01", tz="UTC")

    def run(number: int, began: int, ended: int) -> dict[str, Any]:
        at: dict[str, Any] = {"started": start + pd.Timedelta(hours=began), "host": "a"}
        return trial(number, **at, ended=start + pd.Timedelta(hours=ended), gpu="0")

    frame: Any = timeline_frame(make_data([run(0, 0, 2), run(2, 1, 3), run(4, 2, 4)]))
    assert dict(zip(frame["run"], frame["lane"], strict=True)) == {
        "trial 0": "a, GPU 0 · 1",
        "trial 2": "a, GPU 0 · 2",
        "trial 4": "a, GPU 0 · 1",
    }
    assert frame["ended"].max() == 4
    with pytest.raises(NothingToDrawError, match="does not record when its trials began"):
        timeline_frame(usual())


def test_several_studies() -> None:
    one, other = usual(), make_data([trial(0, 0.4)], info={"name": "b"})
    frame: Any = studies_frame([one, other])
    assert frame["winner"].tolist() == [4, 0]
    assert frame["seeds"].tolist() == [2, 0]
    beside = studies_frame([one, make_data([], info={"name": "c"}, journal_ended=5)])
    assert str(beside["winner"].tolist()) == "[4, None]"  # a number is no 4.0 beside a None
    assert beside["trials"].tolist() == [12, 5]
    assert labels_of([one, one]) == [one.path] * 2
    assert differences([one, other]) == []
    here, elsewhere = (
        make_data([trial(0)], info={"data": {"counts": [1], "sha256": name}}) for name in "xy"
    )
    assert differences([here, elsewhere]) == [
        "The studies have different images, so their scores cannot be compared."
    ]


@pytest.mark.parametrize(
    ("finals", "why"),
    [
        ({4: (0.6, 0.7)}, "chosen by these scores (the finals of all have the same seeds)"),
        ({4: (0.6, 0.7, 0.8)}, "(some seeds of their finals differ)"),
        ({}, ""),
    ],
)
def test_studies_are_not_said_to_differ_where_they_do_not(
    finals: dict[int, tuple[float, ...]], why: str
) -> None:
    """The finals of `usual` have the seeds 0 and 1."""
    other = make_data([trial(0), trial(4)], finals, info={"data": {"counts": [1], "sha256": "x"}})
    found = why_no_test([usual(), other])
    assert (why in found) if why else found == ""
    assert differences([usual(), other]) == []  # usual() has not recorded its images
    (metric,) = by_objective([usual(), other])
    assert metric == "balanced accuracy"


def test_studies_whose_seeds_and_metrics_differ() -> None:
    other = make_data([trial(0)], {0: (0.5, 0.6)}, info={"space": {"objective": "accuracy"}})
    other.finals["seed"] += 7
    assert why_no_test([usual(), other]).endswith("(the seeds of their finals differ)")
    names = [each.name for each in (usual(), other)]
    assert by_objective([usual(), replace(other, info={**other.info, "name": "b"})]) == {
        "balanced accuracy": names[:1],
        "accuracy": ["b"],
    }
    assert differences([usual(), other]) == [
        "The studies maximise different metrics (balanced accuracy; accuracy), so their scores "
        "cannot be compared."
    ]


def test_studies_with_different_costs_differ_though_their_words_are_the_same() -> None:
    costs = [{"name": "expected_cost", "costs": [[0, cost], [1, 0]]} for cost in (2, 3)]
    studies = [make_data([trial(0)], info={"space": {"objective": each}}) for each in costs]
    studies = [
        replace(s, info={**s.info, "name": name}) for s, name in zip(studies, "ab", strict=True)
    ]
    words = "negative expected cost (costs of 2 × 2 classes)"
    assert by_objective(studies) == {f"{words} of a": ["a"], f"{words} of b": ["b"]}
    assert len(differences(studies)) == 1
    assert by_objective(studies[:1]) == {words: ["a"]}


def test_a_change_within_the_error_of_the_recalls_is_no_change() -> None:
    rows = [trial(0, recall=[0.9, 0.1, 0.4]), trial(4, 0.6, recall=[0.8, 0.9, np.nan])]
    study = make_data(rows)
    frame = slope_frame(study)
    winner = frame[frame["side"] == 1].set_index("images")
    assert winner["differs"].to_dict() == {100: False, 20: True, 2: False}  # 10 images a class
    unknown = make_data(rows, info={"data": {"counts": COUNTS, "classes": CLASSES}})
    assert not slope_frame(unknown)["differs"].any()
