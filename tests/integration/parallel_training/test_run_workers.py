"""Final training on several workers of Ray Train: the result of one process, also when some die."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from command import descendants

import imbtune
from imbtune.config.train_config import TrainConfig
from imbtune.errors import ClusterError, DivergenceError
from imbtune.final_training.retrain import train_final
from imbtune.parallel_training.run_workers import WorkerGroup
from imbtune.progress.reporter import Reporter, to_lines

pytestmark = [
    pytest.mark.slow,
    # Ray Train makes a DataContext of Ray Data, which warns of its own defaults
    pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning:ray.data.context"),
]

SETTINGS = {
    "data": "digits",
    "data.head": 40,
    "data.ratio": 10.0,
    "model.width": 4,
    "mix": "mamix",
    "batch_size": 35,  # 17 images on one worker, 18 on the other
    "precision": "float32",
    "epochs": 5,
}


class KillingLog(list[str]):
    """Collects the lines, and kills a worker with SIGKILL at lines that contain a text."""

    def __init__(self, at: str, times: int) -> None:
        super().__init__()
        self._at, self._left = at, times

    def __call__(self, line: str) -> None:
        self.append(line)
        if self._at in line and self._left:
            self._left -= 1
            names = descendants(os.getpid()).items()
            workers = [pid for pid, name in names if "RayTrainWorker" in name]
            os.kill(workers[0], signal.SIGKILL)


def weights_of(out: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(out / "model.safetensors")


def check_same_result(one: Path, other: Path) -> None:
    """The same files, weights and test results, but for rounding and the time."""
    assert sorted(path.name for path in one.iterdir()) == sorted(p.name for p in other.iterdir())
    wanted, found = weights_of(one), weights_of(other)
    assert wanted.keys() == found.keys()
    for name, tensor in wanted.items():
        np.testing.assert_allclose(found[name], tensor, rtol=1e-3, atol=1e-4, err_msg=name)
    results = [json.loads((out / "metrics.json").read_text()) for out in (one, other)]
    for run in (run for result in results for run in result["runs"]):
        del run["seconds"]
        run["margins"] = {k: np.round(v, 2).tolist() for k, v in run["margins"].items()}
    metrics = [[run.pop("metrics") for run in result["runs"]] for result in results]
    for ones, others in zip(*metrics, strict=True):
        assert ones.keys() == others.keys()
        own, other_own = (np.array([m[k] for k in ones], dtype=float) for m in (ones, others))
        np.testing.assert_allclose(own, other_own, rtol=1e-3, atol=1e-3)  # None is NaN
    assert results[0]["runs"] == results[1]["runs"]


def test_two_workers_train_what_one_process_trains(tmp_path: Path) -> None:
    config, lines = TrainConfig.from_settings(SETTINGS), list[str]()
    imbtune.train(config, out=tmp_path / "one", progress=None)
    result = imbtune.train(config, out=tmp_path / "two", progress=lines.append, workers=2)
    check_same_result(tmp_path / "one", tmp_path / "two")
    assert lines[0].endswith("5 epochs on 2 workers with 1 CPU each")
    model = imbtune.load_model(result.path)
    assert len(model.predict(np.zeros((3, 8, 8), dtype=np.uint8))) == 3


def test_a_run_goes_on_when_a_worker_is_killed(tmp_path: Path) -> None:
    config = TrainConfig.from_settings(SETTINGS)
    train_final(config, 1, tmp_path / "one", None, {}, Reporter())
    log, group = KillingLog("epoch 2/5", 1), WorkerGroup(2, checkpoint_seconds=0)
    train_final(config, 1, tmp_path / "two", None, {}, to_lines(log), open_trainer=group)
    check_same_result(tmp_path / "one", tmp_path / "two")
    (again,) = [line for line in log if "a worker died" in line]
    assert again.startswith("seed 0: a worker died; all of them train on from epoch ")
    assert int(again.rsplit(" ", 1)[1]) >= 1


def test_a_killed_command_goes_on_with_its_workers(tmp_path: Path) -> None:
    """From the checkpoint that the command has written beside the models."""
    config, out = TrainConfig.from_settings(SETTINGS), tmp_path / "two"

    def die(line: str) -> None:
        if "epoch 3/5" in line:
            raise SystemExit

    group = WorkerGroup(2, checkpoint_seconds=0)
    with pytest.raises(SystemExit):
        train_final(config, 1, out, None, {}, to_lines(die), open_trainer=group)
    log = list[str]()
    train_final(config, 1, out, None, {}, to_lines(log.append), open_trainer=group)
    assert any(line.startswith("seed 0: goes on after epoch ") for line in log)
    train_final(config, 1, tmp_path / "one", None, {}, Reporter())
    check_same_result(tmp_path / "one", out)


@pytest.fixture
def loss_that_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a plugin module with the loss `turns_nan`."""
    source = """
import torch
from imbtune.methods.losses import losses

@losses.register("turns_nan", help="nan from the start, but for a check of its shapes")
def turns_nan(counts_K):
    def loss(logits_BK, labels_B):
        each_B = torch.nn.functional.cross_entropy(logits_BK, labels_B, reduction="none")
        return each_B * (float("nan") if len(labels_B) > 4 else 1.0)
    return loss
"""
    (tmp_path / "my_nan_loss.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_nan_loss"


def test_a_run_that_diverges_ends_with_its_line(loss_that_breaks: str, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(
        f"like: digits-lt\nimports: [{loss_that_breaks}]\nknobs: {{loss: [ce, turns_nan]}}\n"
    )
    with pytest.raises(DivergenceError, match="seed 0, epoch 1: the loss is not finite"):
        imbtune.train(
            preset="erm",
            space=space,
            settings={"loss": "turns_nan"},
            workers=2,
            out=tmp_path / "out",
            progress=None,
        )


def test_workers_that_die_every_time_end_with_a_line(tmp_path: Path) -> None:
    config, out = TrainConfig.from_settings(SETTINGS), tmp_path / "out"
    log = KillingLog("seed 0: epoch 1/5", 9)
    with pytest.raises(ClusterError, match="seed 0: the workers died 4 times") as error:
        train_final(config, 1, out, None, {}, to_lines(log), open_trainer=WorkerGroup(2))
    assert len(str(error.value)) < 400
    assert not out.exists()  # nothing was trained that could go on
