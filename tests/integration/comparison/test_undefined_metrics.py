"""Metrics that have no value on the test images: refused by `compare`, named by the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from command import invoke
from PIL import Image

OF_B = "{name: f_beta, of: b}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of three classes, of which b has no test image, and a space of it."""
    rng = np.random.default_rng(0)
    for split, counts in (("train", {"a": 30, "b": 12, "c": 6}), ("test", {"a": 9, "c": 5})):
        for name, count in counts.items():
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 255, (8, 8)).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{number}.png")
    space = {
        "data": {"name": "folder"},
        "train": {"epochs": 1, "model.width": 4},
        "presets": ["erm"],
        "knobs": {"optimizer.lr": None},
    }
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(space))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (OF_B, "the objective f_beta (beta 2, of 'b') is undefined, as class 'b' has no test imag"),
        ("{name: auroc, of: 1}", "class 'b' has no test images: give another objective"),
        ("top_k", "the objective top_k (k 5) tells nothing on the test images"),
    ],
)
def test_a_comparison_by_it_is_refused_before_anything_is_written(
    home: Path, objective: str, message: str
) -> None:
    code, _, error = invoke("compare", "s.yaml", "--data", "data", "--objective", objective)
    assert code == 2 and message in error and error.count("\n") == 1
    assert not (home / "runs").exists()


def test_a_training_and_an_evaluation_name_it(home: Path) -> None:
    train = ("train", "--preset", "erm", "--space", "s.yaml", "--data", "data", "--out", "model")
    code, _, error = invoke(*train, "--objective", "top_k")
    assert code == 2 and "it is 1 for every model of 3 classes: give a k of at most 2" in error
    code, said, _ = invoke(*train, "--objective", OF_B)
    line = "undefined, as class 'b' has no test images: f_beta (beta 2, of 'b')"
    assert code == 0 and line in said.splitlines()
    assert f"Metrics that are {line}." in (home / "model/README.md").read_text()
    code, said, _ = invoke("evaluate", "model", "--metric", "{name: auroc, of: b}")
    line = "undefined, as class 'b' has no images: f_beta (beta 2, of 'b'), auroc (of 'b')"
    assert code == 0 and line in said.splitlines()
