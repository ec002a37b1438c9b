"""Axes end where no score can be, and labels cover neither one another nor a mark."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_study import make_data, trial

from imbtune.report.charts.mark_labels import LETTER, LINE, MARK, NARROWEST, offsets
from imbtune.report.charts.theme import score_ends
from imbtune.report.plots import StudyPlots


@pytest.mark.parametrize(
    ("scores", "ends"),
    [
        ([0.0, 0.5], (0.0, 0.53)),
        ([0.5, 1.0], (0.47, 1.0)),
        ([0.0, 0.0], (0.0, 0.01)),
        ([0.2, None, 0.4], (0.188, 0.412)),
        ([-2.0, 0.0], (-2.12, 0.0)),  # the negatives of a loss
        ([-0.1, 0.4], (-0.13, 0.43)),  # a correlation
        ([0.8, 1.8], (0.74, 1.86)),  # a loss in its own range
    ],
)
def test_an_axis_has_room_only_where_scores_can_be(
    scores: list[float | None], ends: tuple[float, float]
) -> None:
    assert score_ends(pd.Series(scores, dtype=float)) == pytest.approx(ends)


def domains(spec: Any) -> list[list[float]]:
    """The ends of every vertical axis of a chart."""
    if isinstance(spec, list):
        return [found for each in spec for found in domains(each)]
    if not isinstance(spec, dict):
        return []
    own = spec.get("encoding", {}).get("y", {}).get("scale", {}).get("domain")
    return [*([own] if own else []), *domains([v for v in spec.values() if v is not own])]


@pytest.mark.parametrize("name", ["scores", "knobs", "progress", "finals"])
def test_scores_of_zero_make_no_negative_axis(name: str) -> None:
    rows = [trial(n, 0.0 if n < 6 else 0.07) for n in range(10)]
    spec = getattr(StudyPlots(make_data(rows, {0: (0.0, 0.1), 6: (0.1, 0.2)})), name)().to_dict()
    assert all(domain[0] >= 0 for domain in domains(spec))
    assert name == "finals" or domains(spec)


def test_only_failures_before_the_first_rung_stand_below_the_axis() -> None:
    rows = [trial(n, 0.0 if n < 6 else 0.07) for n in range(10)]
    (domain,) = domains(StudyPlots(make_data([*rows, trial(10, None)])).scores().to_dict())
    assert domain[0] < 0


def test_labels_cover_neither_one_another_nor_a_mark() -> None:
    rng = np.random.default_rng(0)
    points = [(float(x), float(y)) for x, y in rng.uniform(size=(40, 2))]
    height = 340.0
    words = [f"{i + 100}" for i in range(len(points))]
    found = offsets(points, words, height)

    def box(x: float, y: float, width: float, tall: float) -> tuple[float, float, float, float]:
        return x - width / 2, y - tall / 2, x + width / 2, y + tall / 2

    marks = [box(x * NARROWEST, y * height, 2 * MARK, 2 * MARK) for x, y in points]
    labels = {
        i: box(x * NARROWEST + at[0], y * height + at[1], LETTER * 3, LINE)
        for i, ((x, y), at) in enumerate(zip(points, found, strict=True))
        if at is not None
    }
    assert len(labels) > 20
    for i, (left, top, right, bottom) in labels.items():
        assert left >= 0 and right <= NARROWEST and top >= 0
        others = [*(mark for k, mark in enumerate(marks) if k != i)]
        others += [each for k, each in labels.items() if k != i]
        for other in others:
            apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
            assert apart, (i, other)


def test_a_label_without_room_is_left_out() -> None:
    crowd = [(0.5, 0.5 + i / 50) for i in range(9)] + [(0.5 + i / 25, 0.58) for i in (-1, 1)]
    found = offsets(crowd, ["1234"] * len(crowd), 340)
    assert None in found and found[0] == (0.0, -15.0)
    assert offsets([(0.5, 0.5)], [""], 340) == [None]
