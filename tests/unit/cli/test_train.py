"""What a training says at its end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from imbtune.cli.train import print_result
from imbtune.config.train_config import TrainConfig
from imbtune.final_training.final_run import FinalRun
from imbtune.final_training.retrain import TrainResult

METRICS = {"balanced_accuracy": 0.5, "worst_class": 0.1, "many": None, "medium": 0.4, "few": 0.3}


def result(path: str, lead: float) -> TrainResult:
    def metrics(seed: int) -> dict[str, float | None]:
        return {k: v and v + lead + seed / 50 for k, v in METRICS.items()}

    runs = [FinalRun(seed, metrics(seed), [], [], {}, 1.0) for seed in (0, 1)]
    return TrainResult(Path(path), TrainConfig.from_settings({}), runs)


def printed(found: TrainResult) -> str:
    console = Console(width=80)
    with console.capture() as capture:
        print_result(found, console)
    return capture.get()


def test_a_winner_and_its_baselines_stand_in_one_table() -> None:
    """Also where a baseline has the name of the model's folder."""
    others = {name: result(f"runs/erm/{name}", 0.0) for name in ("mamix_drw", "erm")}
    text = printed(replace(result("runs/erm", 0.1), baselines=others))
    (heading,) = (line for line in text.splitlines() if "metric" in line)
    assert [cell.strip() for cell in heading.strip("┃").split("┃")] == [
        *("metric", "this model", "mamix_drw", "erm")
    ]
    (row,) = (line for line in text.splitlines() if "balanced_accuracy" in line)
    assert row.count("0.6100 ± 0.0141") == 1 and row.count("0.5100 ± 0.0141") == 2
    assert "…" not in text and "many" not in text


def test_what_the_options_change_and_what_comes_next(capsys: pytest.CaptureFixture[str]) -> None:
    found = result("runs/my model", 0.1)
    runs = [replace(run, without={"averaging": METRICS}) for run in found.runs]
    text = printed(replace(found, runs=runs, ensemble={**METRICS, "balanced_accuracy": 0.7}))
    (heading,) = (line for line in text.splitlines() if "metric" in line)
    assert [cell.strip() for cell in heading.strip("┃").split("┃")] == [
        *("metric", "mean ± std", "without averaging", "ensemble")
    ]
    (row,) = (line for line in text.splitlines() if "balanced_accuracy" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        *("balanced_accuracy", "0.6100 ± 0.0141", "0.5000 ± 0.0000", "0.7000")
    ]
    assert "The model of seed 0 is in runs/my model; in it, that of seed 1" in text
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("imbtune ")[2] for line in lines if "imbtune " in line] == [
        "predict 'runs/my model' IMAGES --out predictions.parquet",
        "evaluate 'runs/my model' --data FOLDER --split all",
        "export 'runs/my model' --to onnx",
    ]


def test_the_groups_of_classes_are_explained() -> None:
    text = printed(result("runs/s/best", 0.0))
    assert "medium: mean recall of the classes with 20 to 100 training images" in text
    assert "few: mean recall of the classes with fewer than 20 training images" in text


@pytest.mark.parametrize(("without", "warns"), [(0.4, True), (0.5, False), (0.6, False)])
def test_a_temperature_that_made_the_test_worse(without: float, warns: bool) -> None:
    found = result("runs/s/best", 0.0)
    runs = [
        replace(
            run,
            metrics={**run.metrics, "log_loss": 0.5},
            without={"temperature": {**METRICS, "log_loss": without}},
        )
        for run in found.runs
    ]
    text = " ".join(printed(replace(found, runs=runs)).split())
    told = "made the log-loss of the test images worse: 0.5000, and 0.4000 without it"
    assert (told in text) is warns and ("Warning" in text) is warns


@pytest.mark.parametrize(("without", "warns"), [(0.4, True), (0.5, False)])
def test_an_ensemble_s_temperature_that_made_the_test_worse(without: float, warns: bool) -> None:
    found = replace(
        result("runs/s/best", 0.0),
        ensemble={**METRICS, "log_loss": 0.5},
        ensemble_without={**METRICS, "log_loss": without},
    )
    text = " ".join(printed(found).split())
    told = "Warning: the ensemble's own temperature made the log-loss of the test images worse: "
    assert (f"{told}0.5000, and 0.4000 without it" in text) is warns
    assert ("Warning" in text) is warns
