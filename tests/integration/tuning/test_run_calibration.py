"""A real calibration of digits, and a search that follows it."""

from __future__ import annotations

import hashlib
import re
import shlex
import signal
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from command import invoke, invoke_in, run, start

from imbtune.errors import StudyError
from imbtune.progress.reporter import to_lines
from imbtune.search_options import search_request
from imbtune.tuning.calibration.run_calibration import random_configs, resume_calibration


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Eight trials of 9 epochs, rungs at 3 and 9: the folder that holds `runs`, and the output."""
    home = tmp_path_factory.mktemp("home")
    return home, invoke_in(home, "calibrate", "digits-lt", "--trials", "8", "--epochs", "9")


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
    """Even where somebody has edited the advice; from a folder that is no study's."""
    home, _ = calibrated
    content = yaml.safe_load((home / "runs/digits-lt-calibration/calibration.yaml").read_text())
    advice = {"rungs": "compressed", "eta": 2, "count": 3, "start": 2, "why": "edited"}
    (home / "edited").mkdir()
    (home / "edited/calibration.yaml").write_text(yaml.safe_dump({**content, "advice": advice}))
    options = ["--rungs", "auto", "--calibration", "./edited", "--trials", "2", "--epochs", "9"]
    invoke_in(home, "search", "digits-lt", *options, "--max-concurrent", "1")
    rungs = yaml.safe_load((home / "runs/digits-lt/study.yaml").read_text())["rungs"]
    assert rungs == {"kind": "compressed", "eta": 2, "budgets": [2, 4, 9]}


# ---- cut off, resumed, failed --------------------------------------------------------------------


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A calibration that Ctrl-C cut off after a few runs: the folder that holds `runs`, what it
    printed, and what another process was told that wanted to go on with it meanwhile."""
    home = tmp_path_factory.mktemp("cut")
    calibration = start("calibrate", "digits-lt", "--trials", "8", "--epochs", "9", cwd=home)
    try:
        deadline = time.monotonic() + 120
        while not list(home.glob("runs/*/scores/*.parquet")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with pytest.raises(StudyError) as other:
            resume_calibration(str(home / "runs/digits-lt-calibration"), {}, to_lines(print))
        calibration.send_signal(signal.SIGINT)
        output, _ = calibration.communicate(timeout=120)
    finally:
        calibration.kill()
    assert calibration.returncode == 130, output
    return home, output, str(other.value)


@pytest.mark.slow
def test_a_calibration_that_is_cut_off_advises_nothing(cut: tuple[Path, str, str]) -> None:
    home, output, other = cut
    place = home / "runs/digits-lt-calibration"
    done = len(list(place.glob("scores/*.parquet")))
    assert 0 < done < 16 and f"Interrupted after {done} of 16 runs" in output
    assert output.endswith("resume runs/digits-lt-calibration\n")
    assert "Advice" not in output and not (place / "calibration.yaml").exists()
    assert other == f"the study {place} is in use by another process: wait, or stop it"
    content = yaml.safe_load((place / "study.yaml").read_text())
    assert (content["purpose"], content["sampler"]) == ("calibration", "random")
    assert content["rungs"]["kind"] == "every"


@pytest.mark.slow
def test_a_resumed_calibration_ends_as_one_that_was_not_cut_off(
    calibrated: tuple[Path, str], cut: tuple[Path, str, str]
) -> None:
    straight, resumed = (home / "runs/digits-lt-calibration" for home in (calibrated[0], cut[0]))
    before = {path: path.stat().st_mtime_ns for path in resumed.glob("scores/*.parquet")}
    said = invoke_in(cut[0], "resume", "runs/digits-lt-calibration")
    assert said.count("  trial ") == 16 - len(before)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    files = [path.name for path in sorted(straight.glob("scores/*"))]
    assert [path.name for path in sorted(resumed.glob("scores/*"))] == files
    for name in ("calibration.yaml", *(f"scores/{name}" for name in files)):
        assert (resumed / name).read_bytes() == (straight / name).read_bytes()
    assert said.partition("two seeds each")[2] == calibrated[1].partition("two seeds each")[2]


def test_a_whole_calibration_stays_as_it_is(calibrated: tuple[Path, str]) -> None:
    home, output = calibrated
    path = home / "runs/digits-lt-calibration/calibration.yaml"
    before = path.stat().st_mtime_ns, path.read_bytes()
    said = invoke_in(home, "resume", "runs/digits-lt-calibration")
    again = said.partition("two seeds each")[2]
    again = again.replace(" --name digits-lt-2", "")  # another test has taken the usual name
    assert again and output.endswith(again)
    assert "  trial " not in said
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before


FRAGILE = """
from typing import Annotated
from imbtune.methods.losses import ce, losses
from imbtune.registry import Knob

@losses.register("fragile", help="cross-entropy that some settings break")
def fragile(counts_K, *, strain: Annotated[float, Knob("breaks above 0.75", 0, search=(0, 1))] = 0):
    if strain > 0.75:
        raise ArithmeticError(f"broken by {strain:.2f}")
    return ce(counts_K)
"""
SHORT = """
like: digits-lt
imports: [my_fragile]
data: {name: digits, head: 20, ratio: 10}
rungs: {eta: 3, count: 2}
train: {model.width: 4, epochs: 3, schedule.cooldown: 0.3}
presets: []
knobs: {loss: [fragile], loss.strain: }
"""


@pytest.fixture(scope="module")
def partly(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A calibration of a space in a file, asked for in many words, where some trials fail: the
    folder, and the output."""
    home = tmp_path_factory.mktemp("partly")
    (home / "my spaces").mkdir()
    (home / "my spaces/my_fragile.py").write_text(FRAGILE)
    (home / "my spaces/short.yaml").write_text(SHORT)
    space, options = "my spaces/short.yaml", ["--epochs", "3", "--set", "model.width=8"]
    options += ["--storage", "my runs", "--name", "tried"]
    options += ["--max-concurrent", "1"]
    done = run("calibrate", space, "--trials", "8", *options, cwd=home)
    assert done.returncode == 0, done.stderr
    return home, done.stdout


@pytest.mark.slow
def test_trials_that_fail_are_left_out_and_named(partly: tuple[Path, str]) -> None:
    home, output = partly
    request = search_request(str(home / "my spaces/short.yaml"), trials=8)
    strains = [float(config.flat()["loss.strain"]) for config in random_configs(request)]
    broken = [number for number, strain in enumerate(strains) if strain > 0.75]
    assert 1 <= len(broken) <= 2  # with seed 0; a quarter may
    for number in broken:
        said = rf"trial {number}, seed A: failed: ArithmeticError: broken by {strains[number]:.2f}"
        assert re.search(said, output)
    assert f"{len(broken)} of 8 trials failed and are left out." in output
    content = yaml.safe_load((home / "my runs/tried/calibration.yaml").read_text())
    assert content["trials"] == 8 - len(broken)


@pytest.mark.slow
def test_the_printed_command_runs(partly: tuple[Path, str]) -> None:
    """As it stands; a few trials instead of a hundred. The study says what it followed."""
    home, output = partly
    words = shlex.split(output.strip().splitlines()[-1])
    assert words[1:3] == ["search", "my spaces/short.yaml"] and "auto" in words
    invoke_in(home, *words[1:], "--trials", "2")
    study = yaml.safe_load((home / "my runs/short/study.yaml").read_text())
    calibration = home / "my runs/tried/calibration.yaml"
    advice = yaml.safe_load(calibration.read_text())["advice"]
    assert (study["rungs"]["kind"], study["rungs"]["eta"]) == (advice["rungs"], advice["eta"])
    assert len(study["rungs"]["budgets"]) == advice["count"]
    followed = study["request"]["calibration"]
    assert followed["place"] == "my runs/tried" and not followed["differs"]
    assert followed["sha256"] == hashlib.sha256(calibration.read_bytes()).hexdigest()
    assert followed["data"] == study["data"]["sha256"]
    assert (study["purpose"], study["space"]["set"]) == ("search", {"model.width": 8, "epochs": 3})


# ---- what cannot be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (
            ["search", "digits-lt", "--rungs", "auto", "--epochs", "27"],
            "calibrate digits-lt --name digits-lt-calibration-2 --epochs 27 and search with --cal",
        ),
        (
            ["search", "digits-lt", "--rungs", "auto", "--epochs", "9", "--set", "data.ratio=20"],
            "has data.ratio=50.0, this search has 20.0",
        ),
        (
            ["search", "cifar10-lt", "--rungs", "auto"],
            "there is no calibration in runs/cifar10-lt-calibration: run ",
        ),
        (
            ["calibrate", "digits-lt", "--epochs", "1", "--name", "new"],
            "a full budget of 1 epochs with rungs: {eta: 3, count: 2} has no lower rung",
        ),
        (
            ["train", "--trial", "runs/digits-lt-calibration", "1"],
            "runs/digits-lt-calibration is a calibration: give the folder of a search",
        ),
        (
            ["resume", "runs/digits-lt-calibration", "--time-budget", "1m"],
            "--time-budget 60: runs/digits-lt-calibration is a calibration: leave it out",
        ),
        (["calibrate", "digits-lt"], "the study runs/digits-lt-calibration exists already"),
        (["calibrate", "digits-lt", "--trials", "7"], "--trials 7: give a number of at least 8"),
    ],
)
def test_what_does_not_fit_is_one_line(
    calibrated: tuple[Path, str], args: list[str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(calibrated[0])
    code, _, error = invoke(*args)
    assert code == 2
    assert line in error and error.count("\n") == 1
