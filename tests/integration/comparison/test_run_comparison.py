"""A real comparison of two presets and a study's winner, with runs that fail and a SIGKILL."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from command import clean_environment, invoke, invoke_in, run
from made_study import SPACE, make_study

import imbtune
from imbtune.storage import Store
from imbtune.study.results.table import SCHEMA

# A network that breaks down, or that is slow, while there is a file of that name
PLUGIN = """
import time
from pathlib import Path
from torch import nn
from imbtune.models.networks import Backbone, models

class Shy(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.inner = nn.Linear(channels * 64, 8)

    def forward(self, images_BCHW):
        if self.training and Path("{home}/broken").exists():
            Path("{home}/broken").unlink()
            raise ArithmeticError("broken down")
        if self.training and Path("{home}/slow").exists():
            time.sleep(0.1)
        return self.inner(images_BCHW.flatten(1)).relu()

@models.register("shy", help="for this test")
def shy(channels):
    return Backbone(Shy(channels), 8)
"""
EPOCHS, SEEDS = 6, (3, 4)
ARGS = (
    *("tiny.yaml", "--presets", "erm,drw", "--study", "runs/mine", "--seeds", "2", "--seed", "3"),
    *("--epochs", str(EPOCHS), "--reference", "drw", "--max-concurrent", "1"),
)
CUT = """
import sys
from imbtune.cli.main import app
from imbtune.comparison import run_comparison
run_comparison.CHECKPOINT_SECONDS = 0.0
app(sys.argv[1:])
"""
TIMES = ["seconds", "node"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a space, a plugin and a study whose trial 3 has won."""
    folder = tmp_path_factory.mktemp("home")
    space = {**SPACE, "imports": ["my_shy"], "train": {"epochs": 9, "model": "shy"}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(space))
    (folder / "my_shy.py").write_text(PLUGIN.format(home=folder))
    make_study(str(folder / "runs" / "mine"))
    return folder


@pytest.fixture(scope="module")
def partly(home: Path) -> subprocess.CompletedProcess[str]:
    """The comparison, of which the first run failed."""
    (home / "broken").touch()
    return run("compare", *ARGS, cwd=home)


@pytest.fixture(scope="module")
def compared(home: Path, partly: object) -> tuple[Path, str]:
    """Resumed, so that it is complete: its folder, and what was printed."""
    done = run("resume", "runs/tiny-comparison", cwd=home)
    assert done.returncode == 0, done.stdout + done.stderr
    return home / "runs/tiny-comparison", done.stdout


def test_a_failed_run_is_named_and_the_others_go_on(
    home: Path, partly: subprocess.CompletedProcess[str]
) -> None:
    assert partly.returncode == 1, partly.stderr
    output = partly.stdout
    assert "3 configurations, 2 seeds: 6 runs of 6 epochs, 1 at a time on 1 CPU each" in output
    assert "1/6  erm, seed 3: failed: ArithmeticError: broken down\n" in output
    assert "\nfailed: erm, seed 3: ArithmeticError: broken down\n" in output
    assert "erm: 1 of 2 seeds, so it is not ranked or tested." in output
    assert output.count("test balanced accuracy") == 5
    assert output.endswith("resume runs/tiny-comparison\n")


def test_a_resumed_comparison_trains_what_had_failed(
    compared: tuple[Path, str], partly: object
) -> None:
    path, output = compared
    assert output.count("test balanced accuracy") == 1 and "6/6  erm, seed 3: test" in output
    assert "not ranked" not in output
    runs = pd.read_parquet(path / "runs")
    assert sorted(zip(runs["row"], runs["seed"], strict=True)) == [
        (row, seed) for row in ("drw", "erm", "mine-winner") for seed in SEEDS
    ]
    assert not list((path / "checkpoints").glob("*"))


def test_the_files_and_the_terminal_have_one_table(compared: tuple[Path, str]) -> None:
    path, output = compared
    frame = pd.read_parquet(path / "table.parquet")
    assert list(frame.columns) == SCHEMA.names
    runs = pd.read_parquet(path / "runs")
    for row in frame.to_dict("records"):
        scores = runs[runs["row"] == row["row"]]["balanced_accuracy"]
        assert row["balanced_accuracy"] == pytest.approx(scores.mean())
        assert row["balanced_accuracy_std"] == pytest.approx(scores.std())
        cell = f"{100 * scores.mean():.2f} ± {100 * scores.std():.2f}"
        for text in (output, (path / "table.md").read_text()):
            assert cell in text
        assert cell.replace("±", r"$\pm$") in (path / "table.tex").read_text()
    assert frame["reference"].tolist() == ["drw"] * 3
    assert frame.set_index("row")["p"].isna().to_dict() == {
        "drw": True,
        "erm": False,
        "mine-winner": False,
    }
    (winner,) = [r for r in frame.to_dict("records") if r["row"] == "mine-winner"]
    assert (winner["study"], winner["trial"], winner["epochs"]) == ("runs/mine", 3, EPOCHS)
    assert "\nmodel: shy, but small_cnn in mine-winner.\n" in output


def test_a_run_is_what_a_training_is(
    compared: tuple[Path, str], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same seed gives the same test figures to the last bit, for presets and winners."""
    monkeypatch.chdir(home)
    options: dict[str, Any] = {
        "seeds": 2,
        "epochs": EPOCHS,
        "settings": {"seed": 3},
        "progress": None,
    }
    preset = imbtune.train(preset="drw", space="tiny.yaml", out=tmp_path / "drw", **options)
    winner = imbtune.train("runs/mine/best.yaml", out=tmp_path / "winner", **options)
    runs = Store(str(compared[0])).table("runs").to_pylist()
    for name, result in (("drw", preset), ("mine-winner", winner)):
        for trained in result.runs:
            (row,) = [r for r in runs if (r["row"], r["seed"]) == (name, trained.seed)]
            assert {key: row[key] for key in trained.metrics} == trained.metrics
            assert (row["recall"], row["confusion"]) == (trained.recall_K, trained.confusion_KK)
            assert {key: row[key] for key in trained.margins} == trained.margins


def test_a_whole_comparison_is_only_read(
    compared: tuple[Path, str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, output = compared
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.name != ".lock"}
    monkeypatch.chdir(home)
    code, again, _ = invoke("resume", "runs/tiny-comparison")
    assert code == 0 and "seed 3: test" not in again
    assert again.splitlines()[-8:] == output.splitlines()[-8:]
    assert {file: file.stat().st_mtime_ns for file in before} == before
    result = imbtune.resume("runs/tiny-comparison")
    assert isinstance(result, imbtune.ComparisonResult) and not result.interrupted
    assert repr(result) == (
        "ComparisonResult('runs/tiny-comparison'): 6 of 6 runs of 3 configurations"
    )
    pd.testing.assert_frame_equal(result.table, pd.read_parquet(path / "table.parquet"))
    assert result.markdown == (path / "table.md").read_text()
    study = imbtune.load_study("runs/tiny-comparison")
    assert repr(study) == "Study('runs/tiny-comparison'): a comparison of 6 runs"


def test_a_comparison_is_not_overwritten_and_nothing_else(
    compared: tuple[Path, str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    for command, message in (
        (("compare", *ARGS), "the study runs/tiny-comparison exists already: give another name"),
        (("resume", "runs/tiny-comparison", "--trials", "9"), "is a comparison: leave it out"),
        (("resume", "runs/tiny-comparison", "--pack"), "is a comparison: leave it out"),
        (("train", "--trial", "runs/tiny-comparison", "0"), "is a comparison: give the folder of"),
        (("compare", "tiny.yaml", "--study", "runs/tiny-comparison"), "is a comparison: give the"),
    ):
        code, _, error = invoke(*command)
        assert code == 2 and message in error and error.count("\n") == 1


# ---- killed --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def killed(home: Path) -> Path:
    """The same comparison, whose driver was killed in the middle of a run."""
    folder, flag = home / "runs/cut", home / "slow"
    flag.touch()
    command = [sys.executable, "-c", CUT, "compare", *ARGS, "--name", "cut"]
    driver = subprocess.Popen(command, cwd=home, stdout=subprocess.DEVNULL, env=clean_environment())
    try:
        deadline = time.monotonic() + 120
        while not list(folder.glob("checkpoints/*-2.pt")):  # of 6 epochs
            assert time.monotonic() < deadline and driver.poll() is None
            time.sleep(0.01)
    finally:
        driver.kill()
        driver.wait()
        flag.unlink()
    return folder


@pytest.mark.slow
def test_a_killed_comparison_goes_on_inside_a_run_to_the_same_result(
    killed: Path, home: Path, compared: tuple[Path, str]
) -> None:
    assert (killed / "study.yaml").exists() and not (killed / "table.md").exists()
    invoke_in(home, "resume", "runs/cut")
    one, other = (
        pd.read_parquet(path / "runs").sort_values(["row", "seed"], ignore_index=True)
        for path in (compared[0], killed)
    )
    pd.testing.assert_frame_equal(
        one.drop(columns=TIMES), other.drop(columns=TIMES), check_exact=True
    )
    for name in ("table.md", "table.tex", "table.parquet"):
        assert (killed / name).read_bytes() == (compared[0] / name).read_bytes()
    assert not list((killed / "checkpoints").glob("*"))
