"""Studies that were written before the package got its present folders and words.

`tests/old_studies/` was made by commit 8bb4603, with plugins that import modules by old names:
a whole search, one that Ctrl-C cut off, a calibration, and a trained model.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from command import invoke_in

import imbtune
from imbtune.config.trust import consent
from imbtune.errors import StudyError
from imbtune.search_options import search_request
from imbtune.storage import Store
from imbtune.study.files import read_study
from imbtune.study.journal import DIVERGED, open_journal, read_trials
from imbtune.study.tables.schema import FINALS
from imbtune.tuning.reproduce import repeat_trial

OLD = Path(__file__).resolve().parents[2] / "old_studies"
KEPT = ["trial", "preset", "state", "score", "rung_scores", "rescued", "images", "mix", "loss"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with the old studies in `runs/`, and the space that they searched.

    The user has agreed to run their module, which no older version recorded.
    """
    shutil.copytree(OLD, tmp_path / "runs")
    for folder in ("cut", "whole", "old-calibration"):
        with consent(True):
            read_study(str(tmp_path / "runs" / folder))
    for name in ("mine.yaml", "my_losses.py"):
        (tmp_path / "runs" / name).rename(tmp_path / name)
    return tmp_path


def test_an_old_study_is_read(home: Path) -> None:
    study = imbtune.load_study(home / "runs/whole")
    best = yaml.safe_load((home / "runs/whole/best.yaml").read_text())
    assert len(study.trials) == 24 and set(study.trials["state"]) == {"COMPLETE", "PRUNED"}
    assert len(study.epochs) > 100 and len(study.finals) == 6
    assert study.winner and study.winner.number == best["provenance"]["winner"]["trial"]
    assert study.evidence and study.evidence.mean == best["provenance"]["finals"]["mean"]
    assert study.winner.score == best["provenance"]["winner"]["validation_score"]
    assert len(study.optuna.trials) == 24


def test_a_trial_of_an_old_study_is_trained_again(home: Path) -> None:
    """With the plugins that the study keeps. On another processor its last bits may differ."""
    lines: list[str] = []
    repeat_trial(str(home / "runs/whole"), 3, None, lines.append)
    assert any("3 epochs" in line for line in lines)


@pytest.mark.slow
def test_an_old_search_is_resumed(home: Path) -> None:
    before = imbtune.load_study(home / "runs/cut").trials
    ended = before[before["state"] != "STOPPED"]
    assert 8 <= len(ended) < 24
    invoke_in(home, "resume", "runs/cut", "--max-concurrent", "1")
    study = imbtune.load_study(home / "runs/cut")
    assert study.trials["trial"].tolist() == list(range(24)) and study.winner
    again = study.trials.set_index("trial").loc[ended["trial"]].reset_index()
    pd.testing.assert_frame_equal(again[KEPT], ended[KEPT].reset_index(drop=True))


def test_a_refused_resume_tells_no_trial_a_state(home: Path) -> None:
    """Not even one that a killed search had decided, but not recorded."""
    path = str(home / "runs/cut")
    store = Store(path)
    with open_journal(store, "cut") as journal:
        journal.study.ask().set_user_attr(DIVERGED, "epoch 1: the loss is not finite")
    row = {"trial": 99, "seed": 1, "score": 0.5}
    store.write_table("finals/99-1.parquet", pa.Table.from_pylist([row], schema=FINALS))
    before = [trial.state for trial in read_trials(store, "cut")]
    with pytest.raises(StudyError, match="trial 99 is COMPLETE in the tables, but missing"):
        imbtune.resume(path)
    assert [trial.state for trial in read_trials(store, "cut")] == before


def test_the_best_of_an_old_study_is_trained(home: Path) -> None:
    invoke_in(home, "train", "runs/whole/best.yaml", "--epochs", "1", "--out", "trained")
    assert imbtune.load_model(home / "trained").classes == ["dark", "grey", "light"]


def test_an_old_model_is_loaded(home: Path) -> None:
    model = imbtune.load_model(home / "runs/whole/best")
    dark = np.full((2, 8, 8), 60, np.uint8)
    assert model.image_shape is None  # older files do not say it
    assert model.predict(dark).tolist() == ["dark", "dark"]
    assert model.predict_proba(dark).sum(axis=1) == pytest.approx([1, 1])


def test_an_old_calibration_is_followed_and_is_whole(home: Path) -> None:
    request = search_request(
        str(home / "mine.yaml"),
        trials=8,
        storage=str(home / "runs"),
        rungs="auto",
        calibration="old-calibration",
    )
    assert request.calibration and request.rungs in ("cooldown", "compressed", "prefix", "none")
    outcome = imbtune.resume(home / "runs/old-calibration")
    assert isinstance(outcome, imbtune.CalibrationOutcome)
    assert outcome.found and outcome.done == outcome.runs == 16
