"""`imbtune train --max-concurrent`: what is refused, and a machine without Ray."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from command import invoke
from data_files import raises_one_line

import imbtune
from imbtune.comparison.seeds_side_by_side import SideBySide
from imbtune.config.train_config import TrainConfig
from imbtune.errors import ConfigError
from imbtune.tuning.cluster.resources import Node, Resources

TINY: dict[str, Any] = {
    **{"data": "digits", "data.head": 20, "data.ratio": 5.0, "model.width": 2},
    **{"epochs": 1, "batch_size": 100, "precision": "float32"},
}
CONFIG = TrainConfig.from_settings(TINY)


@pytest.mark.parametrize(
    ("node", "seeds", "wanted"),
    [
        (Node(8, 0), 2, Resources(4, 0.0, 2)),
        (Node(8, 0), 3, Resources(2, 0.0, 3)),
        (Node(16, 4), 4, Resources(4, 1.0, 4)),
        (Node(16, 4), 2, Resources(8, 1.0, 2)),
        (Node(2, 4), 4, Resources(1, 1.0, 2)),  # a CPU each
    ],
)
def test_what_each_seed_gets(node: Node, seeds: int, wanted: Resources) -> None:
    assert SideBySide(seeds)._resources(node) == wanted


def test_more_seeds_at_a_time_than_the_machine_has_room_for(tmp_path: Path) -> None:
    many = len(os.sched_getaffinity(0)) + 1
    with raises_one_line(f"--max-concurrent {many}: this machine has room for", kind=ConfigError):
        imbtune.train(CONFIG, seeds=many, max_concurrent=many, out=tmp_path / "o", progress=None)
    assert not (tmp_path / "o").exists()


def test_workers_train_one_seed_together(tmp_path: Path) -> None:
    line = "--max-concurrent 2 and --workers 2: give one of them"
    with raises_one_line(line, kind=ConfigError):
        imbtune.train(CONFIG, seeds=2, max_concurrent=2, workers=2, out=tmp_path, progress=None)
    for value in (0, -1, 1.5, True):
        with raises_one_line("--max-concurrent", "give a whole number", kind=ConfigError):
            imbtune.train(CONFIG, max_concurrent=value, progress=None)  # type: ignore[arg-type]


def test_without_ray_seeds_are_trained_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("imbtune.comparison.seeds")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "imbtune.tuning.execution.run_trials", None)  # needs Ray
    lines = list[str]()
    result = imbtune.train(
        CONFIG, seeds=2, max_concurrent=2, out=tmp_path / "o", progress=lines.append
    )
    assert "Ray cannot be used" in lines[0] and "one after another" in lines[0]
    assert [run.seed for run in result.runs] == [0, 1]


def test_one_seed_needs_no_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imbtune.comparison.seeds_side_by_side", None)
    lines = list[str]()
    imbtune.train(CONFIG, max_concurrent=2, out=tmp_path / "o", progress=lines.append)
    assert not any("Ray" in line for line in lines)


def test_the_command_line_takes_the_options(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG.yaml())
    out = ["--out", str(tmp_path / "o")]
    code, _, error = invoke("train", str(tmp_path / "c.yaml"), *out, "--ema", "2")
    assert (code, error) == (2, "error: --ema 2.0: give a number between 0 and 1\n")
    code, _, error = invoke("train", str(tmp_path / "c.yaml"), *out, "--ensemble")
    assert code == 2 and error.startswith("error: --ensemble needs several seeds")
    code, _, error = invoke("train", str(tmp_path / "c.yaml"), *out, "--calibrate", "abc")
    assert code == 2
    assert not (tmp_path / "o").exists()
