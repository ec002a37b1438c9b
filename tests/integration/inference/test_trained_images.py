"""Images of the training are known wherever a copy of them is, in any layout."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from data_files import encode, raises_one_line
from PIL import Image

import imbtune
from imbtune.config.train_config import TrainConfig


def write(folder: Path) -> Path:
    """30 images of each of two classes, and 10 for the test."""
    rng = np.random.default_rng(3)
    for split, count in (("train", 30), ("test", 10)):
        for label in ("cat", "dog"):
            (folder / split / label).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (3, 8, 8), dtype=np.uint8)
                (folder / split / label / f"{number}.png").write_bytes(encode(pixels))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model, and its data, which then were moved."""
    root = tmp_path_factory.mktemp("trained")
    data = write(root / "data")
    settings = {"data": "folder", "epochs": 1, "model.width": 4}
    config = TrainConfig.from_settings(settings)
    imbtune.train(config, data=data, calibrate=0.2, out=root / "model", progress=None)
    data.rename(root / "moved")
    return root / "model", root / "moved"


def as_npz(moved: Path, place: Path) -> Path:
    """All images as arrays, as `--split all` takes them."""
    files = sorted(moved.rglob("*.png"))
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])
    np.savez(place, images=pixels, labels=np.array([file.parent.name for file in files]))
    return place


def test_a_moved_folder(trained: tuple[Path, Path]) -> None:
    model, moved = trained
    note = "was trained on 48 of these 80 images: the metrics say nothing of other images"
    result = imbtune.evaluate(model, moved, split="all", resamples=0)
    assert note in result.notes[0]
    with raises_one_line("was trained on 48 of these 80 images, and a threshold needs"):
        imbtune.choose_threshold(model, "f_beta", moved, split="all")
    inside = imbtune.evaluate(model, moved / "train", split="all", resamples=0)
    assert "was trained on 48 of these 60 images" in inside.notes[0]


def test_other_names_and_another_layout(trained: tuple[Path, Path], tmp_path: Path) -> None:
    model, moved = trained
    for label in ("cat", "dog"):
        (tmp_path / "some" / label).mkdir(parents=True)
        for file in (moved / "train" / label).iterdir():
            shutil.copy(file, tmp_path / "some" / label / f"{label}-{file.name}")
    for data in (tmp_path / "some", as_npz(moved, tmp_path / "all.npz")):
        result = imbtune.evaluate(model, data, split="all", resamples=0)
        assert "was trained on 48 of these" in result.notes[0]


def test_the_test_images_were_not_seen(trained: tuple[Path, Path]) -> None:
    model, moved = trained
    for data, split in ((moved, "test"), (moved / "test", "all")):
        result = imbtune.evaluate(model, data, split=split, resamples=0)
        assert result.count == 20
        assert not any("was trained on" in note for note in result.notes)
