"""`imbtune train` killed in its work, and the same command again; seeds side by side on Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from command import clean_environment, descendants

import imbtune
from imbtune.config.train_config import TrainConfig

pytestmark = pytest.mark.slow

PROGRAM = """
from imbtune.cli.main import main
from imbtune.final_training import seed_training

seed_training.CHECKPOINT_SECONDS = 0.0  # after every epoch
main()
"""
WORDS = [
    *("train", "--preset", "mamix_drw", "--space", "digits-lt", "--set", "model.width=4"),
    *("--epochs", "40", "--seeds", "2", "--ema", "0.9", "--progress", "plain", "--out"),
]


def start(out: Path) -> subprocess.Popen[str]:
    environment = {**clean_environment(), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *WORDS, str(out)],
        cwd=out.parent, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def to_its_end(out: Path) -> str:
    """What the command prints."""
    with start(out) as process:
        printed, _ = process.communicate()
    assert process.returncode == 0, printed
    return printed


def weights(folder: Path) -> dict[str, bytes]:
    found = safetensors.numpy.load_file(folder / "model.safetensors")
    return {name: weight.tobytes() for name, weight in found.items()}


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    """Killed in the first seed, and again in the second one."""
    out = tmp_path / "killed"
    for at in ("seed 0: epoch 16/40", "seed 1: epoch 24/40"):
        seen = list[str]()
        with start(out) as process:
            assert process.stdout
            for line in process.stdout:
                seen.append(line)
                if at in line:
                    os.kill(process.pid, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL, "".join(seen)
    printed = to_its_end(out)
    assert "1 of 2 seeds done" in printed and "seed 1: goes on after epoch 2" in printed
    to_its_end(tmp_path / "whole")
    for folder in (".", "seed1"):
        assert weights(out / folder) == weights(tmp_path / "whole" / folder)
    left = {path.name for path in out.iterdir()}
    assert left == {path.name for path in (tmp_path / "whole").iterdir()}


SMALL: dict[str, Any] = {
    **{"data": "digits", "data.head": 40, "data.ratio": 5.0, "model.width": 4, "mix": "mamix"},
    **{"epochs": 30, "batch_size": 35, "precision": "float32"},
}


class KillingLog(list[str]):
    """Lines of progress; kills a worker once a seed has begun to train."""

    def __call__(self, line: str) -> None:
        self.append(line)
        workers = [p for p, name in descendants(os.getpid()).items() if "TrialActor" in name]
        if workers and "seed" in line and "killed a worker" not in self:
            os.kill(workers[0], signal.SIGKILL)
            self.append("killed a worker")


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a CPU for each of two seeds")
def test_seeds_side_by_side_are_those_of_one_process(tmp_path: Path) -> None:
    config, lines = TrainConfig.from_settings(SMALL), KillingLog()
    options: dict[str, Any] = {"seeds": 3, "calibrate": 0.2, "ema": 0.9}
    one = imbtune.train(config, out=tmp_path / "one", progress=None, **options)
    two = imbtune.train(config, out=tmp_path / "two", progress=lines, max_concurrent=2, **options)
    assert any("1 CPU for each of 2 seeds at a time" in line for line in lines)
    assert "killed a worker" in lines and any("worker" in line for line in lines[:-1])
    assert [run.seed for run in two.runs] == [0, 1, 2]
    for folder in (".", "seed1", "seed2"):
        wanted = safetensors.numpy.load_file(one.path / folder / "model.safetensors")
        found = safetensors.numpy.load_file(two.path / folder / "model.safetensors")
        for name, weight in wanted.items():
            np.testing.assert_allclose(found[name], weight, rtol=1e-3, atol=1e-4, err_msg=name)
    assert [run.metrics["accuracy"] for run in one.runs] == pytest.approx(
        [run.metrics["accuracy"] for run in two.runs]
    )
    assert sorted(p.name for p in two.path.iterdir()) == sorted(p.name for p in one.path.iterdir())
