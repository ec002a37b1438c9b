"""A trained model in use: its file, the images that it takes, and what it says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from data_files import raises_one_line
from numpy.typing import NDArray

import imbtune
from imbtune.config.train_config import TrainConfig
from imbtune.data.load import DataSource, load
from imbtune.data.splits import final_splits
from imbtune.errors import ConfigError
from imbtune.inference.loading import load_model
from imbtune.inference.trained_model import TrainedModel
from imbtune.spaces.presets import PRESETS

Bytes = NDArray[np.uint8]

SMALL: dict[str, Any] = {
    **{"data.head": 60, "data.ratio": 10, "data.val_per_class": 9},
    **{"model.width": 4, "batch_size": 30, "precision": "float32", "epochs": 2},
}
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> imbtune.TrainResult:
    """Two seeds of LDAM, whose softmax multiplies logits by 30, on digits."""
    out = tmp_path_factory.mktemp("trained") / "ldam"
    config = TrainConfig.from_settings({**SMALL, "loss": "ldam", "seed": 3})
    return imbtune.train(config, seeds=2, out=out, progress=None)


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """A model of colour images of 6×8 pixels in the classes cat, dog and emu."""
    folder = tmp_path_factory.mktemp("colour")
    labels = np.repeat(["cat", "dog", "emu"], [9, 6, 4])
    pixels = RNG.integers(0, 256, (19, 6, 8, 3), dtype=np.uint8)
    np.savez(folder / "mine.npz", images=pixels, labels=labels)
    config = TrainConfig.from_settings({**SMALL, "data": "npz", "data.profile": "as_is"})
    options: dict[str, Any] = {"data": folder / "mine.npz", "progress": None}
    return load_model(imbtune.train(config, out=folder / "out", **options).path)


def images(*shape: int) -> Bytes:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


# ---- what it says


def test_probabilities_are_the_softmax_that_the_loss_trained(trained: imbtune.TrainResult) -> None:
    """LDAM's: of 30 times the cosine."""
    model, pixels = load_model(trained.path), images(7, 8, 8)
    found = model.predict_proba(pixels)
    assert found.shape == (7, 10)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    with torch.no_grad():
        normal = (torch.from_numpy(pixels)[:, None] / 255 - model._mean_C[0]) / model._std_C[0]
        cosine_NK = model.network(normal)
    assert cosine_NK.abs().max() <= 1.001
    np.testing.assert_allclose(found, (30 * cosine_NK).softmax(1).numpy(), rtol=1e-3)


@pytest.mark.parametrize("preset", ["erm", "ldam_drw", "vs", "logit_adjustment", "tau_norm", "crt"])
def test_it_agrees_with_the_margins_of_its_training(preset: str, tmp_path: Path) -> None:
    """For every example: the same class, and the same lead of its own class's probability."""
    if preset not in PRESETS:
        pytest.fail(f"choose from {sorted(PRESETS)}")
    small = {key: value for key, value in SMALL.items() if key != "epochs"}
    result = imbtune.train(
        preset=preset, space="digits-lt", settings=small, epochs=3, out=tmp_path / "out",
        progress=None,
    )  # fmt: skip
    model = load_model(result.path)
    margins = pq.read_table(result.path / "margins.parquet").to_pandas()
    dataset = load("digits", result.config.data.knobs, DataSource(None, False))
    splits = final_splits(dataset, result.config.data.shared)
    for split, part in (("train", splits.train), ("test", splits.held_out)):
        rows = margins[margins["split"] == split]
        pixels, labels = part.array(), part.labels
        assert rows["label"].tolist() == labels.tolist()
        assert rows["image"].tolist() == part.names_in("")
        names = model.predict(pixels)
        assert names.tolist() == [model.classes[k] for k in rows["predicted"]]
        others = model.predict_proba(pixels)
        own = others[np.arange(len(labels)), labels].copy()
        others[np.arange(len(labels)), labels] = -np.inf
        np.testing.assert_allclose(own - others.max(1), rows["probability_margin"], atol=1e-5)
    test = margins[margins["split"] == "test"]
    accuracy = (test["label"] == test["predicted"]).mean()
    assert result.runs[0].metrics["accuracy"] == pytest.approx(accuracy)


def test_predictions_do_not_depend_on_the_images_beside(trained: imbtune.TrainResult) -> None:
    """Also beyond one block of images."""
    model, pixels = load_model(trained.path), images(300, 8, 8)
    whole = model.predict_proba(pixels)
    np.testing.assert_allclose(model.predict_proba(pixels[290:]), whole[290:], atol=1e-6)
    assert model.predict(pixels).tolist() == [model.classes[k] for k in whole.argmax(1)]


def test_names_of_classes(colour: TrainedModel) -> None:
    assert colour.classes == ["cat", "dog", "emu"]
    assert set(colour.predict(images(50, 6, 8, 3))) <= {"cat", "dog", "emu"}
    assert repr(colour) == "TrainedModel(small_cnn, 3 classes, images 3×6×8)"


# ---- the images that it takes


def test_channels_may_be_first_or_last(colour: TrainedModel) -> None:
    last = images(5, 6, 8, 3)
    found = colour.predict_proba(last)
    np.testing.assert_array_equal(colour.predict_proba(last.transpose(0, 3, 1, 2)), found)


def test_grey_images_need_no_channel(trained: imbtune.TrainResult) -> None:
    model, pixels = load_model(trained.path), images(5, 8, 8)
    found = model.predict_proba(pixels)
    for shaped in (pixels[:, None], pixels[..., None], list(pixels), torch.from_numpy(pixels)):
        np.testing.assert_array_equal(model.predict_proba(shaped), found)


def test_arrays_that_torch_does_not_take_as_they_are(trained: imbtune.TrainResult) -> None:
    """Read-only ones, and those with negative strides."""
    model, pixels = load_model(trained.path), images(5, 8, 8)
    found = model.predict_proba(pixels)
    np.testing.assert_array_equal(model.predict_proba(pixels[::-1]), found[::-1])
    pixels.flags.writeable = False
    np.testing.assert_array_equal(model.predict_proba(pixels), found)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "images of shape (0,): give (N, 3, "),
        ([[1], [1, 2]], "images have different shapes: give one array"),
        (None, "images are object: give uint8 pixels"),
    ],
)
def test_what_are_no_images(given: Any, says: str, colour: TrainedModel) -> None:
    with raises_one_line(says, kind=ConfigError):
        colour.predict(given)


def test_no_images(colour: TrainedModel) -> None:
    assert colour.predict(images(0, 6, 8, 3)).shape == (0,)
    assert colour.predict_proba(images(0, 6, 8, 3)).shape == (0, 3)


@pytest.mark.parametrize(
    "shape", [(2, 3, 8, 6), (2, 12, 16, 3), (2, 6, 8), (6, 8, 3), (2, 6, 8, 1), (2, 2, 6, 8, 3)]
)
def test_images_of_another_shape_are_refused(shape: tuple[int, ...], colour: TrainedModel) -> None:
    """Also 64×64 pixels for a model of 32×32, which the network itself would take."""
    with raises_one_line(
        f"images of shape {shape}: give (N, 3, 6, 8), or the same with channels last",
        kind=ConfigError,
    ):
        colour.predict(images(*shape))


def test_one_image_is_told_how_to_be_given(
    colour: TrainedModel, trained: imbtune.TrainResult
) -> None:
    """Its shape is that of one of N: the message says what to add."""
    grey = load_model(trained.path)
    for model, shape in ((colour, (3, 6, 8)), (colour, (6, 8, 3)), (grey, (8, 8))):
        one = images(*shape)
        with raises_one_line("channels last; one image is images[None]", kind=ConfigError):
            model.predict(one)
        assert model.predict(one[None]).shape == (1,)


def test_twice_the_size_is_refused(trained: imbtune.TrainResult) -> None:
    with raises_one_line("images of shape (2, 16, 16)", "(N, 1, 8, 8)", kind=ConfigError):
        load_model(trained.path).predict(images(2, 16, 16))


@pytest.mark.parametrize("kind", ["float32", "int64", "bool", "str"])
def test_images_of_another_type_are_refused(kind: str, colour: TrainedModel) -> None:
    array = images(2, 6, 8, 3).astype(kind)
    with raises_one_line(f"images are {array.dtype}: give uint8 pixels", kind=ConfigError):
        colour.predict(array)
