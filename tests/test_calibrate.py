"""A real calibration of digits, and a search that follows it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from command import run


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Eight trials of 9 epochs, rungs at 3 and 9: the folder that holds `runs`, and the output."""
    home = tmp_path_factory.mktemp("home")
    done = run("calibrate", "digits-lt", "--trials", "8", "--epochs", "9", cwd=home)
    assert done.returncode == 0, done.stderr
    return home, done.stdout


def test_every_rung_of_every_kind_is_scored_once(calibrated: tuple[Path, str]) -> None:
    home, _ = calibrated
    scores = pd.read_parquet(home / "runs/digits-lt-calibration/scores")
    assert not scores.duplicated(["trial", "seed", "kind", "budget"]).any()
    first, second = (scores[scores["seed"] == seed] for seed in (0, 1))
    columns = {("compressed", 3), ("cooldown", 3), ("prefix", 3), ("cooldown", 9)}
    for number in range(8):
        mine = first[first["trial"] == number]
        assert set(zip(mine["kind"], mine["budget"], strict=True)) == columns
        assert second[second["trial"] == number]["budget"].tolist() == [9]
    assert scores["score"].between(0, 1).all()


def test_the_report_says_what_the_file_holds(calibrated: tuple[Path, str]) -> None:
    home, output = calibrated
    path = home / "runs/digits-lt-calibration/calibration.yaml"
    content = yaml.safe_load(path.read_text())
    assert content["trials"] == 8 and content["full_budget"] == 9
    scores = pd.read_parquet(path.parent / "scores").set_index(["seed", "kind", "budget", "trial"])
    columns: Any = scores["score"].unstack("trial")
    truth = columns.loc[(1, "cooldown", 9)]
    for report in content["reports"]:
        rung = columns.loc[(0, report["kind"], report["budget"])]
        assert report["rho"] == pytest.approx(rung.corr(truth, method="spearman"))
        assert f"{report['rho']:.2f}" in output
    again = columns.loc[(0, "cooldown", 9)]
    assert content["floor"] == pytest.approx(again.corr(truth, method="spearman"))
    assert f"{content['advice']['why']}." in output
    assert f"Advice: --rungs {content['advice']['rungs']}" in output
    assert re.search(r"\(by chance\) .* 38%", output)


def test_a_search_follows_the_calibration(calibrated: tuple[Path, str]) -> None:
    home, _ = calibrated
    calibration = home / "runs/digits-lt-calibration/calibration.yaml"
    content = yaml.safe_load(calibration.read_text())
    for advice in (
        content["advice"],
        {"rungs": "compressed", "eta": 2, "count": 3, "start": 2, "why": "edited"},
    ):
        calibration.write_text(yaml.safe_dump({**content, "advice": advice}))
        name = f"{advice['rungs']}-{advice['why'] == 'edited'}"
        options = ["--rungs", "auto", "--trials", "2", "--epochs", "9", "--name", name]
        done = run("search", "digits-lt", *options, cwd=home)
        assert done.returncode == 0, done.stderr
        rungs = yaml.safe_load((home / "runs" / name / "study.yaml").read_text())["rungs"]
        assert (rungs["kind"], rungs["eta"]) == (advice["rungs"], advice["eta"])
        assert len(rungs["budgets"]) == advice["count"]


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (
            ["search", "digits-lt", "--rungs", "auto", "--epochs", "27"],
            "has epochs=9, this search 27: run imbtune calibrate digits-lt",
        ),
        (
            ["search", "digits-lt", "--rungs", "auto", "--epochs", "9", "--set", "data.ratio=20"],
            "has data.ratio=50.0, this search 20.0",
        ),
        (
            ["search", "cifar10-lt", "--rungs", "auto"],
            "there is no calibration in runs/cifar10-lt-calibration: run imbtune calibrate",
        ),
        (["calibrate", "digits-lt"], "the study runs/digits-lt-calibration exists already"),
        (["calibrate", "digits-lt", "--trials", "7"], "greater than or equal to 8"),
    ],
)
def test_what_does_not_fit_is_one_line(
    calibrated: tuple[Path, str], args: list[str], line: str
) -> None:
    done = run(*args, cwd=calibrated[0])
    assert done.returncode == 2
    assert line in done.stderr and done.stderr.count("\n") == 1
