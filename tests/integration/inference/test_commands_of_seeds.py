"""The commands on a model with several seeds: each seed has its own threshold and its own files."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command import invoke, refused, succeed
from data_files import raises_one_line
from PIL import Image
from small_model import threshold_at

import imbtune
from imbtune.config.train_config import TrainConfig
from imbtune.errors import ConfigError
from imbtune.inference.decisions.model_threshold import outdated_exports, store_threshold
from imbtune.inference.onnx_export import metadata_of
from imbtune.inference.trained_model import EnsembleNetwork

NO_GAIN = "{name: f_beta, beta: 100, of: fault}"  # which all images predicted as fault reach


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two classes and seeds 0 and 1 in `a model/`, and its data in `data/`."""
    folder, rng = tmp_path_factory.mktemp("seeds"), np.random.default_rng(0)
    for split, counts in (("train", {"ok": 40, "fault": 20}), ("test", {"ok": 20, "fault": 20})):
        for name, count in counts.items():
            (folder / "data" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 200, (8, 8)) + 40 * (name == "fault")
                image = Image.fromarray(pixels.astype(np.uint8))
                image.save(folder / "data" / split / name / f"{number}.png")
    config = TrainConfig.from_settings(
        {
            "model.width": 4,
            "batch_size": 30,
            "precision": "float32",
            "epochs": 1,
            "data": "folder",
            "data.profile": "as_is",
        }
    )
    imbtune.train(
        config, out=folder / "a model", data=folder / "data", seeds=2, calibrate=0.3, progress=None
    )
    return folder


@pytest.fixture
def data(trained: Path) -> Path:
    return trained / "data"


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained / "a model", tmp_path / "a model")


def store(model: Path, seed: int, log_odds: float = 0.3) -> None:
    """A threshold that somebody chose for a seed."""
    found = replace(threshold_at(log_odds, "fault"), counts={"fault": 5, "ok": 4})
    store_threshold(imbtune.load_model(model, seed), found)


def test_the_advice_is_for_the_seed_that_was_given(model: Path, data: Path) -> None:
    """It removes the threshold of that seed, and makes the export of that seed again."""
    store(model, 0)
    store(model, 1, -0.5)
    others = ("--metric", NO_GAIN, "--data", data, "--split", "test")
    said = succeed("threshold", model, *others, "--seed", 1)
    assert "Not stored, since it gains nothing" in said
    assert f"threshold '{model}' --seed 1 --remove removes it" in said
    assert f"threshold '{model}' --remove removes it" in succeed("threshold", model, *others)
    succeed("threshold", model, "--seed", 1, "--remove")
    assert imbtune.load_model(model).threshold is not None
    assert imbtune.load_model(model, 1).threshold is None


def export(model: Path, seed: int, file: Path) -> Path:
    """An ONNX file with the metadata that an export of this seed would have now."""
    proto = onnx.ModelProto()
    for key, value in metadata_of(imbtune.load_model(model, seed)).items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    file.write_bytes(proto.SerializeToString())
    return file


def test_an_export_of_another_seed_is_out_of_date(model: Path, data: Path) -> None:
    """`export --seed 1` writes into the training's folder, where seed 0's are not meant."""
    named, inside = model / "model-seed1.onnx", model / "seed1/mine.onnx"
    for file in (named, inside):
        export(model, 1, file)
    export(model, 0, model / "model.onnx")
    assert outdated_exports(imbtune.load_model(model, 1)) == []
    store(model, 1)
    for first in (imbtune.load_model(model, 1), imbtune.load_model(model / "seed1")):
        assert outdated_exports(first) == [inside, named]
    assert outdated_exports(imbtune.load_model(model)) == []
    said = succeed("threshold", model, "--seed", 1, "--remove")
    assert "out of date" not in said  # they have none, as the model again
    store(model, 1)
    export(model, 1, named)
    said = succeed("threshold", model, "--seed", 1, "--remove")
    assert f"{named} is out of date" in said
    assert f"export '{model}' --seed 1 --out '{named}'" in said
    assert f"{inside} is" not in said and "model.onnx is" not in said


def test_an_export_replaces_no_file(model: Path) -> None:
    """Whatever it is, the advice is the same, and no plugin of the model is run to give it."""
    file = export(model, 1, model / "model-seed1.onnx")
    (model / "seed1/model.safetensors").unlink()  # it is not loaded
    for place in (model, model.as_uri()):
        code, _, err = invoke("export", str(place), "--seed", "1")
        assert code == 2
        assert err == f"error: --out {file} exists: give another file, or delete it\n"


def test_the_folder_above_is_not_another_models(model: Path, tmp_path: Path) -> None:
    """A seed's folder that was moved has no training's folder above it."""
    moved = shutil.copytree(model / "seed1", tmp_path / "seed1")
    export(model, 1, tmp_path / "model.onnx")
    store(model, 1)
    shutil.copy(model / "seed1/threshold.json", moved)
    shutil.copy(model / "seed1/manifest.json", moved)
    assert outdated_exports(imbtune.load_model(moved)) == []


def test_a_threshold_of_most_test_images_is_told(model: Path, data: Path, tmp_path: Path) -> None:
    """One image less is no other set: `evaluate` and the card count those that are the same."""
    part = shutil.copytree(data / "test", tmp_path / "part")
    (part / "ok/7.png").unlink()
    card = model / "README.md"
    before = card.read_text()
    costs = {"name": "expected_cost", "costs": {"fault": {"ok": 9}}}
    loaded = imbtune.load_model(model)
    found = imbtune.choose_threshold(loaded, costs, part, split="all", store=False)
    store_threshold(loaded, found)
    told = "Then a threshold was chosen on {} (`threshold.json`)"
    assert told.format("39 of them") in card.read_text()
    said = succeed("evaluate", model, "--data", data)
    assert "the model's threshold was chosen on 39 of these 40 images" in " ".join(said.split())
    whole = imbtune.choose_threshold(loaded, costs, data, split="test", store=False)
    store_threshold(loaded, whole)
    assert told.format("them") in card.read_text()
    said = succeed("evaluate", model, "--data", part, "--split", "all")
    assert "the model's threshold was chosen on these images" in " ".join(said.split())
    assert imbtune.load_model(model).threshold == whole
    assert "image_hashes" not in metadata_of(imbtune.load_model(model))["threshold"]
    succeed("threshold", model, "--remove")
    assert card.read_text() == before
    others = shutil.copytree(part, tmp_path / "others")
    for file in others.rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(file)) // 2 + 3).save(file)
    store_threshold(
        loaded, imbtune.choose_threshold(loaded, costs, others, split="all", store=False)
    )
    assert card.read_text() == before
    assert "was chosen on these" not in succeed("evaluate", model, "--data", data)


def test_a_seed_s_folder_with_another_model_is_refused(
    model: Path, data: Path, tmp_path: Path
) -> None:
    """One that was renamed, and one of another training with the same seed."""
    out = ("--out", tmp_path / "p.csv")
    images = data / "test"
    succeed("predict", model, images, "--seed", 1, *out)
    other = shutil.copytree(model, tmp_path / "other")
    for path in (other / "seed1").iterdir():  # it becomes the model of seed 0
        path.unlink()
    for path in model.iterdir():
        if path.is_file():
            shutil.copy(path, other / "seed1")
    again = imbtune.load_model(model, 1).config.replace(epochs=2)
    imbtune.train(again, out=tmp_path / "again", data=data, progress=None)
    strange = shutil.copytree(model, tmp_path / "strange")
    shutil.rmtree(strange / "seed1")
    shutil.copytree(tmp_path / "again", strange / "seed1")
    for wrong in (other, strange):
        for which in (("--seed", 1), ("--ensemble",)):
            said = refused("predict", wrong, images, *which, "--out", tmp_path / "q.csv")
            assert f"{wrong / 'seed1'} has another model than that of seed 1" in said
    assert imbtune.load_model(other).config.seed == 0  # the first one needs no other
    shutil.copytree(model / "seed1", model / "seed2")  # of no run of this training
    assert "does not have a model of seed 2: it has seeds 0, 1" in refused(
        *("predict", model, images, "--seed", 2, "--out", tmp_path / "q.csv")
    )
    network = imbtune.load_model(model, ensemble=True).network
    assert isinstance(network, EnsembleNetwork) and len(network.networks) == 2


def test_an_ensemble_stores_no_threshold(model: Path, data: Path) -> None:
    """That in its folder is of the first seed, whose margins are not those of the mean of all."""
    store(model, 0)
    before = {path: path.read_bytes() for path in sorted(model.rglob("*")) if path.is_file()}
    ensemble = imbtune.load_model(model, ensemble=True)
    test: dict[str, Any] = {"data": data / "test", "split": "all"}
    line = "an ensemble stores no threshold, since that in"
    with raises_one_line(line, "choose one with store=False", kind=ConfigError):
        imbtune.choose_threshold(ensemble, "f_beta", **test)
    with raises_one_line(line, kind=ConfigError):
        imbtune.remove_threshold(ensemble)
    with raises_one_line("an ensemble has no margins of the images", "--data", kind=ConfigError):
        imbtune.choose_threshold(ensemble, "f_beta", store=False)
    found = imbtune.choose_threshold(ensemble, "f_beta", store=False, **test)
    assert found.chosen_on == "40 images (all images)"
    after = {path: path.read_bytes() for path in sorted(model.rglob("*")) if path.is_file()}
    assert before == after and ensemble.threshold is None


@pytest.mark.parametrize("seed", ["1", 1.0, True, -1])
def test_a_seed_is_a_whole_number(model: Path, seed: Any) -> None:
    with raises_one_line("--seed ", "give a whole number from 0 on", kind=ConfigError):
        imbtune.load_model(model, seed)
