"""What a final training writes, and what stays of it when a seed diverges."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from diverging import ONLY_SCORED, bad_parts
from torch import Tensor

from imbtune import strict_json
from imbtune.config.train_config import TrainConfig
from imbtune.data.data_source import DataSource
from imbtune.data.load import load
from imbtune.errors import ClusterError, ConfigError, DivergenceError
from imbtune.final_training.final_run import FinalRun
from imbtune.final_training.final_task import FinalTask, TrainOptions
from imbtune.final_training.retrain import train_final
from imbtune.inference.loading import load_model
from imbtune.methods.losses import LossFunction, losses
from imbtune.progress.reporter import Reporter, to_lines

TINY: dict[str, Any] = {
    "data": "digits",
    "data.head": 20,
    "data.ratio": 10.0,
    "model.width": 2,
    "epochs": 2,
    "batch_size": 100,  # one step an epoch
}


FILES = [  # of a model
    "README.md",
    "calibration.json",
    "classes.parquet",
    "config.yaml",
    "labels.json",
    "manifest.json",
    "margins.parquet",
    "metrics.json",
    "model.safetensors",
    "predictions.parquet",
    "preprocess.json",
]


@pytest.fixture
def second_run_diverges() -> Iterator[None]:
    """A loss that is nan from its fourth step on: in the second epoch of the second run."""
    steps = []

    @losses.register("breaks", help="for this test")
    def breaks(counts_K: Tensor) -> LossFunction:
        def loss(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
            steps.append(1)
            factor = 1.0 if len(steps) < 4 else math.nan
            return factor * torch.nn.functional.cross_entropy(logits_BK, labels_B, reduction="none")

        return loss

    with bad_parts():
        yield
    losses.remove("breaks")


@pytest.mark.usefixtures("second_run_diverges")
def test_the_models_before_a_seed_that_diverges_stay(tmp_path: Path) -> None:
    config = TrainConfig.from_settings({**TINY, "loss": "breaks", "seed": 3})
    out, lines = tmp_path / "final", list[str]()
    with pytest.raises(DivergenceError) as error:
        train_final(config, 3, out, None, {}, to_lines(lines.append))
    assert str(error.value) == (
        "seed 4, epoch 2: the loss is not finite (nan): give a lower --set optimizer.lr (it is "
        f"0.1); {out} has the models of seed 3"
    )
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    results = json.loads((out / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert [run["seed"] for run in results["runs"]] == [3]
    assert load_model(out).classes == [str(k) for k in range(10)]
    assert not any("seed 4: test" in line for line in lines)


@pytest.mark.usefixtures("second_run_diverges")
def test_a_model_that_is_not_finite_is_never_tested_and_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "new" / "final"
    config = TrainConfig.from_settings({**TINY, **ONLY_SCORED})
    with pytest.raises(DivergenceError, match="seed 0, epoch 2: after=bad_after: the logits'"):
        train_final(config, 2, out, None, {}, Reporter())
    assert list(tmp_path.iterdir()) == []
    out.mkdir(parents=True)
    with pytest.raises(DivergenceError):
        train_final(config, 1, out, None, {}, Reporter())
    assert list(out.iterdir()) == []  # the user's own folder stays


def test_a_training_that_fails_before_it_begins_leaves_nothing(tmp_path: Path) -> None:
    """Such as one whose workers cannot be reached; else its folder would refuse other settings."""

    def broken(task: FinalTask) -> NoReturn:
        assert (task.out / "training.json").exists()
        raise ClusterError("no cluster")

    config = TrainConfig.from_settings(TINY)
    with pytest.raises(ClusterError):
        train_final(config, 1, tmp_path / "a/b", None, {}, Reporter(), open_trainer=broken)
    assert list(tmp_path.iterdir()) == []


def test_recall_of_a_class_without_test_images_is_null(tmp_path: Path) -> None:
    """JSON has no NaN."""
    means = {"margin_test": [0.5, math.nan], "margin_train": [0.5, 0.25]}
    run = FinalRun(0, {"few": None}, [0.5, math.nan], [[1, 1], [0, 0]], means, 1.5)
    written = json.loads(strict_json.dumps(run.to_dict()))
    assert written["recall_K"] == [0.5, None]
    assert written["margins"] == {"margin_test": [0.5, None], "margin_train": [0.5, 0.25]}


def test_the_objective_of_the_search_is_tested_with_its_knobs(tmp_path: Path) -> None:
    """F-beta of class 9 with β = 0.5, from the predictions; not the mean of all with β = 2."""
    config = TrainConfig.from_settings({**TINY, "seed": 3})
    provenance = {"objectives": ["auroc", {"name": "f_beta", "beta": 0.5, "of": "9"}]}
    result = train_final(config, 1, tmp_path / "final", None, provenance, Reporter())
    matrix_KK = np.array(result.runs[0].confusion_KK)
    hits = matrix_KK[9, 9]
    precision, recall = hits / max(1, matrix_KK[:, 9].sum()), hits / matrix_KK[9].sum()
    expected = 1.25 * precision * recall / max(1e-300, 0.25 * precision + recall)
    assert result.runs[0].metrics["f_beta"] == pytest.approx(expected)
    written = json.loads((tmp_path / "final" / "metrics.json").read_text())
    assert written["runs"][0]["metrics"]["f_beta"] == pytest.approx(expected)
    named = {"objective": {"name": "f_beta", "of": "ten"}}
    with pytest.raises(ConfigError, match="unknown class 'ten'"):
        train_final(config, 1, tmp_path / "other", None, named, Reporter())
    assert not (tmp_path / "other").exists()


def test_images_from_the_cache_are_trained_and_tested_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warn_always: None
) -> None:
    """They are in the memory of a mapped file, to which nobody may write."""
    monkeypatch.setenv("IMBTUNE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (40, 8, 8), dtype=np.uint8), np.arange(40) % 2
    np.savez(tmp_path / "own.npz", images=pixels, labels=labels)
    settings = {"data": "npz", "model.width": 2, "epochs": 1, "batch_size": 32}
    config, data = TrainConfig.from_settings(settings), tmp_path / "own.npz"
    options = TrainOptions(calibrate=0.2, ensemble=True)
    train_final(config, 2, tmp_path / "out", data, {}, Reporter(), options=options)
    assert not load("npz", {}, DataSource(data)).test.labels.flags.writeable
