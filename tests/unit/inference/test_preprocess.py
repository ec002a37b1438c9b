"""What a model's folder says of the preparation of an image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import imbtune
from imbtune.config.train_config import TrainConfig
from imbtune.data.data_source import DataSource
from imbtune.data.dataset_registry import datasets
from imbtune.data.decoding import WrongSizeError
from imbtune.data.splits import Dataset
from imbtune.inference.preprocess import Preprocess
from imbtune.registry import Knob

SMALL: dict[str, Any] = {"data": "folder", "model.width": 2, "epochs": 1, "batch_size": 10}
RNG = np.random.default_rng(0)


def write_images(folder: Path, *sizes: tuple[int, int]) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            place = folder / split / name
            place.mkdir(parents=True)
            for i in range(4):
                height, width = sizes[i % len(sizes)]
                pixels = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.png")


@pytest.mark.parametrize("size", [0, 6])
def test_files_are_prepared_as_in_the_training(size: int, tmp_path: Path) -> None:
    """The same pixels, and so the same predictions, by the names of the files."""
    write_images(tmp_path / "data", (8, 8), *([(10, 7)] if size else []))
    config = TrainConfig.from_settings(SMALL | {"data.size": size})
    result = imbtune.train(config, data=tmp_path / "data", out=tmp_path / "out", progress=None)
    model = imbtune.load_model(result.path)
    side = size or 8
    assert model.preprocess.image_shape == model.image_shape == (3, side, side)
    decoder = model.preprocess.decoder()
    names = model.example_names
    assert names[0] == "test/cat/0.png"
    pixels = np.stack([decoder(str(tmp_path / "data" / name)) for name in names])
    table = pd.read_parquet(result.path / "predictions.parquet")
    assert model.predict(pixels).tolist() == table["predicted"].tolist()
    content = json.loads((result.path / "preprocess.json").read_text())
    assert content["channel_order"] == "RGB" and (content["resize"] is None) == (size == 0)
    assert Preprocess.from_json(content) == model.preprocess
    Image.new("RGB", (20, 30)).save(tmp_path / "other.png")
    if size:
        assert decoder(str(tmp_path / "other.png")).shape == (3, 6, 6)
    else:
        with pytest.raises(WrongSizeError, match="20×30"):
            decoder(str(tmp_path / "other.png"))


@pytest.fixture
def own_data() -> Iterator[None]:
    """A user's data set with a knob `size` that does not crop."""

    @datasets.register("mine", help="for this test")
    def mine(
        data_source: DataSource, *, size: Annotated[int, Knob("how many images", 1)] = 9
    ) -> Dataset:
        raise NotImplementedError

    mine.__module__ = "my_data"
    yield
    datasets.remove("mine")


@pytest.mark.usefixtures("own_data")
def test_a_size_of_a_users_data_set_says_nothing() -> None:
    config = TrainConfig.from_settings({"data": "mine", "data.size": 5})
    assert not Preprocess.of(config, (1, 8, 8), (0.5,), (0.5,)).crop
    assert Preprocess.of(
        TrainConfig.from_settings({"data": "npz", "data.size": 5}), (1, 5, 5), (0.5,), (0.5,)
    ).crop
