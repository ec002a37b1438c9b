"""Real searches through Ray on real digits: the study that they leave, kills, and Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from command import descendants, invoke, invoke_in, run, start
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from imbtune.config.train_config import TrainConfig
from imbtune.data.load import load
from imbtune.inference.loading import load_model
from imbtune.spaces.space_file import load_space


def read_trials(study: Path) -> pd.DataFrame:
    return pd.read_parquet(study / "trials").set_index("trial").sort_index()


def check_journal(study: Path, trials: pd.DataFrame) -> None:
    """Optuna knows every trial as the table does; what was cut off is running for it."""
    storage = JournalStorage(JournalFileBackend(str(study / "journal.log")))
    known = {
        trial.number: trial
        for trial in optuna.load_study(study_name=study.name, storage=storage).trials
    }
    for number, row in trials.iterrows():
        frozen = known.pop(int(number))  # type: ignore[call-overload]
        assert frozen.state.name == {"STOPPED": "RUNNING"}.get(row["state"], row["state"])
        if frozen.state.name != "FAIL":
            assert list(frozen.intermediate_values) == list(row["rung_budgets"])
            assert list(frozen.intermediate_values.values()) == list(row["rung_scores"])
    assert not known


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A search of 12 trials with short runs and W&B offline: its folder and its output."""
    home = tmp_path_factory.mktemp("home")
    args = "search digits-lt --trials 12 --epochs 9 --name first --seed 5 --wandb offline"
    args += " --finals 0"
    done = run(*args.split(), cwd=home)
    assert done.returncode == 0, done.stderr
    return home / "runs" / "first", done.stdout


def test_the_tables_of_a_search(searched: tuple[Path, str]) -> None:
    study, _ = searched
    trials = read_trials(study)
    assert list(trials.index) == list(range(12))
    presets = list(load_space("digits-lt").presets())
    assert list(trials["preset"].dropna()) == presets
    assert set(trials["state"]) == {"COMPLETE", "PRUNED"}
    finished = trials[trials["state"] == "COMPLETE"]
    assert set(finished["budget"]) == {9}
    assert set(trials[trials["state"] == "PRUNED"]["budget"]) == {3}
    assert trials["score"].tolist() == [scores[-1] for scores in trials["rung_scores"]]
    assert (trials["images"] == 4 * 64 * np.where(trials["budget"] == 9, 10, 3)).all()
    assert (trials["epochs"] == 9).all()
    assert trials["optimizer.lr"].dtype == float
    assert trials["mix.omega"].isna().tolist() == (trials["mix"] != "mamix").tolist()
    check_journal(study, trials)


def test_every_epoch_is_one_row(searched: tuple[Path, str]) -> None:
    """Cool-down rungs at 3 and 9 epochs: 3 epochs for the first, trunk and cool-down after it."""
    study, _ = searched
    trials, epochs = read_trials(study), pd.read_parquet(study / "epochs")
    assert not epochs.duplicated(["trial", "epoch", "phase", "budget"]).any()
    for number, row in trials.iterrows():
        mine = epochs[epochs["trial"] == number]
        trunk = mine[mine["phase"] == "trunk"]["epoch"].tolist()
        assert trunk == list(range(1, len(trunk) + 1))
        for budget, score in zip(row["rung_budgets"], row["rung_scores"], strict=True):
            cooled = mine[(mine["phase"] == "cooldown") & (mine["budget"] == budget)]
            assert cooled["epoch"].iloc[-1] == budget
            assert cooled["balanced_accuracy"].iloc[-1] == score
    recall = np.array(epochs["recall"].tolist())
    np.testing.assert_allclose(recall.mean(1), epochs["balanced_accuracy"])


def test_the_study_says_what_was_searched(searched: tuple[Path, str]) -> None:
    study, _ = searched
    content = yaml.safe_load((study / "study.yaml").read_text())
    assert content["seed"] == 5
    assert content["rungs"] == {"kind": "cooldown", "budgets": [3, 9], "eta": 3}
    assert content["data"]["counts"] == [100, 64, 41, 27, 17, 11, 7, 4, 3, 2]
    assert len(content["data"]["sha256"]) == 64
    assert content["command"].startswith("imbtune search digits-lt --trials 12")
    assert TrainConfig.from_nested(content["space"]["fixed"]).epochs == 9


def test_the_winner_finished_and_its_file_is_a_complete_configuration(
    searched: tuple[Path, str],
) -> None:
    study, output = searched
    trials = read_trials(study)
    best = yaml.safe_load((study / "best.yaml").read_text())
    evidence = best.pop("provenance")
    row = trials.loc[evidence["winner"]["trial"]]
    assert row["state"] == "COMPLETE"
    finished = trials[trials["state"] == "COMPLETE"]
    assert row["score"] == finished["score"].max() == evidence["winner"]["validation_score"]
    assert (
        evidence["best_preset"]["validation_score"]
        == finished.dropna(subset="preset")["score"].max()
    )
    config = TrainConfig.from_nested(best)
    assert config.nested() == best
    for key, value in config.flat().items():
        if key != "seed":
            assert row[key] == value, key
    assert "Winner: trial" in output
    assert "Not confirmed: no trial was trained again with fresh seeds" in output
    assert output.endswith("imbtune resume runs/first --finals 5\n")


def test_wandb_has_a_run_a_trial(searched: tuple[Path, str]) -> None:
    study, _ = searched
    runs = [path.stem for path in study.glob("wandb/offline-run-*/run-*.wandb")]
    assert sorted(run.rpartition("-")[2] for run in runs) == sorted(
        [*map(str, range(12)), "report"]
    )


def test_training_the_winner_leaves_models_that_score_as_reported(
    searched: tuple[Path, str],
) -> None:
    study, _ = searched
    invoke_in(study.parents[1], "train", "runs/first/best.yaml", "--seeds", "2")
    results = json.loads((study / "best" / "metrics.json").read_text())
    assert [r["seed"] for r in results["runs"]] == [0, 1]
    labels = json.loads((study / "best" / "labels.json").read_text())
    assert labels["training_images"] == [100, 64, 41, 27, 17, 11, 7, 4, 3, 2]
    scores = [r["metrics"]["balanced_accuracy"] for r in results["runs"]]
    assert results["test"]["balanced_accuracy"]["mean"] == pytest.approx(np.mean(scores))
    assert results["test"]["balanced_accuracy"]["std"] == pytest.approx(np.std(scores, ddof=1))
    assert results["provenance"]["study"] == "runs/first"
    test = load("digits", None).test
    for run_figures in results["runs"]:
        assert isinstance(test.pixels, np.ndarray)
        model = load_model(study / "best", run_figures["seed"])
        hits = (model.logits(test.pixels).argmax(1).numpy() == test.labels).mean()
        assert hits == pytest.approx(run_figures["metrics"]["accuracy"])


def test_nothing_is_overwritten(
    searched: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, _ = searched
    before = {p: p.stat().st_mtime_ns for p in study.rglob("*")}
    monkeypatch.chdir(study.parents[1])
    code, _, error = invoke("search", "digits-lt", "--name", "first")
    assert code == 2
    assert re.fullmatch(
        r"error: the study runs/first exists already with other settings \(.*trials: \d+ there, "
        r"100 now.*\): give another name, such as --name first-2, continue it as it is with "
        r"\S*imbtune resume runs/first, or delete it\n",
        error,
    )
    code, _, error = invoke("train", "runs/first/best.yaml", "--out", "runs/first")
    assert code == 2
    assert "--out runs/first exists already and is not empty" in error
    assert {p: p.stat().st_mtime_ns for p in study.rglob("*")} == before


@pytest.mark.slow  # test_failures.py kills workers whose trials go on
def test_a_killed_trial_fails_alone_and_rows_come_between_rungs(tmp_path: Path) -> None:
    """A worker is killed while it trains towards its first rung; the search goes on to its end."""
    args = "search digits-lt --trials 2 --epochs 600 --rungs none --max-concurrent 1"
    args += " --max-failures 0"
    search = start(*args.split(), cwd=tmp_path)
    study = tmp_path / "runs/digits-lt"
    try:
        deadline = time.monotonic() + 120
        while not (study / "epochs").is_dir() or not len(pd.read_parquet(study / "epochs")):
            assert time.monotonic() < deadline, "no epoch was written"
            time.sleep(0.2)
        assert not len(pd.read_parquet(study / "trials"))
        (worker,) = (
            pid for pid, name in descendants(search.pid).items() if "Trainable.train" in name
        )
        os.kill(worker, signal.SIGKILL)
        output, _ = search.communicate(timeout=200)
    finally:
        search.kill()
    assert search.returncode == 0, output
    trials = read_trials(study)
    assert trials["state"].tolist() == ["FAIL", "COMPLETE"]
    assert trials["error"].notna().tolist() == [True, False]
    check_journal(study, trials)


def test_ctrl_c_ends_a_search_with_all_it_has(tmp_path: Path) -> None:
    args = "search digits-lt --trials 500 --epochs 30"
    search = start(*args.split(), cwd=tmp_path)
    study = tmp_path / "runs/digits-lt"
    try:
        assert search.stdout
        for line in search.stdout:
            if "finished" in line:
                break
        search.send_signal(signal.SIGINT)
        output, _ = search.communicate(timeout=120)
    finally:
        search.kill()
    assert search.returncode == 130, output
    assert "Interrupted after" in output
    assert "Traceback" not in output
    trials = read_trials(study)
    assert (trials["images"] > 0).sum() >= (trials["state"] != "STOPPED").sum()
    assert "COMPLETE" in set(trials["state"])
    assert len(trials) < 500
    assert (study / "best.yaml").is_file()
    check_journal(study, trials)


def test_ctrl_c_while_ray_starts_leaves_no_study(tmp_path: Path) -> None:
    search = start("search", "digits-lt", cwd=tmp_path)
    try:
        assert search.stdout
        for line in search.stdout:
            if "Starting Ray" in line:
                break
        search.send_signal(signal.SIGINT)
        output, _ = search.communicate(timeout=120)
    finally:
        search.kill()
    # the signal may come while the line is flushed: then Python flushes it again at its end
    said = [line for line in output.splitlines() if "Starting Ray" not in line]
    assert said == ["interrupted: no study was made: give the same command again"]
    assert search.returncode == 130
    assert not (tmp_path / "runs/digits-lt").exists()


def test_a_search_whose_trials_all_fail_says_why_and_exits_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No score may come out of a network that cannot be trained: a batch of one and batch norm."""
    args = "search digits-lt --trials 2 --epochs 3 --max-concurrent 1"
    args += " --set batch_size=1 --set model=shufflenet_v2_x0_5"
    monkeypatch.chdir(tmp_path)
    code, said, _ = invoke(*args.split())
    assert code == 1, said
    assert "2 failed" in said
    trials = read_trials(tmp_path / "runs/digits-lt")
    assert trials["state"].tolist() == ["FAIL", "FAIL"]
    assert "Expected more than 1 value per channel" in trials["error"][0]
    assert not (tmp_path / "runs/digits-lt/best.yaml").exists()


@pytest.mark.slow
def test_a_search_in_which_every_trial_diverges_stops_with_one_line(tmp_path: Path) -> None:
    """The weights of every preset grow until they overflow; none of the trials has an end to wait
    for."""
    growing = ("optimizer.lr=10", "optimizer.weight_decay=1", "optimizer.momentum=0.999")
    settings = [word for each in (*growing, "batch_size=10") for word in ("--set", each)]
    done = run("search", "digits-lt", "--trials", "17", "--epochs", "6", *settings, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    (line,) = done.stderr.splitlines()
    assert "ended failed, for one reason (epoch " in line
    assert "not finite" in line and line.endswith("imbtune resume runs/digits-lt")
    study = tmp_path / "runs/digits-lt"
    trials = read_trials(study)
    failed = trials[trials["state"] == "FAIL"]
    assert 5 <= len(failed) < 17
    assert failed["error"].str.match(r"epoch \d+.*not finite").all()
    assert not (study / "best.yaml").exists()
    assert np.isfinite(pd.read_parquet(study / "epochs")["loss"]).all()
