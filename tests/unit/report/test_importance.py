"""Importance and dependence, where it is known what mattered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from report_study import make_data, trial

from imbtune.report.dependence import dependence_frame
from imbtune.report.importance import LEAST, importance
from imbtune.report.study_data import NothingToDrawError, StudyData


def made(count: int) -> StudyData:
    """Finished trials whose score is their ω, whatever their learning rate is."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        omega = float(rng.uniform(0.1, 0.5)) if i % 4 else None
        changes = {"mix.omega": omega, "optimizer.lr": float(10 ** rng.uniform(-2, -1))}
        rows.append(trial(2 * i, omega or 0.1, preset=None, **changes))
    return make_data(rows)


def test_what_decides_the_score_is_most_important() -> None:
    frame: Any = importance(made(60))
    assert frame["knob"].iloc[0] == "mix.omega"
    assert frame["value"].sum() == pytest.approx(1)
    assert (frame["low"] <= frame["high"]).all()
    assert frame["low"].iloc[0] > frame["high"].iloc[1]
    assert frame.set_index("knob").loc["mix.omega", ["n", "of"]].tolist() == [45, 60]


def test_nothing_below_fifty_finished_trials() -> None:
    with pytest.raises(NothingToDrawError, match=f"has 49 finished trials .* needs {LEAST}"):
        importance(made(49))
    with pytest.raises(NothingToDrawError, match="the study has 49"):
        dependence_frame(made(49))


def test_dependence_follows_the_score() -> None:
    study = made(60)
    frame = dependence_frame(study)
    column = {knob.name: knob.column for knob in study.knobs}["mix.omega"]
    curve = frame[frame["column"] == column]
    assert np.corrcoef(curve["x"], curve["mean"])[0, 1] > 0.95
    assert (curve["low"] <= curve["mean"]).all() and (curve["mean"] <= curve["high"]).all()
    assert curve["x"].between(0.1, 0.5).all()
