"""`imbtune predict`, `evaluate`, `threshold` and `export`, on models that `imbtune train` wrote."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from command import in_new_process, invoke
from PIL import Image

import imbtune
from imbtune.config.train_config import TrainConfig
from imbtune.data.load import load

SMALL: dict[str, Any] = {"model.width": 4, "batch_size": 30, "precision": "float32", "epochs": 3}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of digits, and beside it their test images as files: `digits/`."""
    folder = tmp_path_factory.mktemp("digits")
    config = TrainConfig.from_settings({**SMALL, "data.head": 60, "data.ratio": 10})
    imbtune.train(config, out=folder / "model", calibrate=0.2, progress=None)
    test = load("digits").test
    for row, label in enumerate(test.labels.tolist()):
        (folder / f"digits/{label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(test.pixels[np.array(row)][0]).save(folder / f"digits/{label}/{row}.png")
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two classes, ok and fault, with a calibration, and its data: `data/`."""
    folder, rng = tmp_path_factory.mktemp("two"), np.random.default_rng(0)
    for split, counts in (("train", {"ok": 90, "fault": 24}), ("test", {"ok": 20, "fault": 20})):
        for name, count in counts.items():
            (folder / "data" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 200, (8, 8)) + 40 * (name == "fault")
                image = Image.fromarray(pixels.astype(np.uint8))
                image.save(folder / "data" / split / name / f"{number}.png")
    config = TrainConfig.from_settings({**SMALL, "data": "folder", "data.profile": "as_is"})
    imbtune.train(config, out=folder / "model", data=folder / "data", calibrate=0.3, progress=None)
    return folder


@pytest.fixture
def model(two: Path, tmp_path: Path) -> Path:
    return shutil.copytree(two / "model", tmp_path / "model")


def succeed(*args: object) -> str:
    code, out, err = invoke(*map(str, args))
    assert code == 0, err
    return out


def refused(*args: object) -> str:
    code, _, err = invoke(*map(str, args))
    assert (code, len(err.splitlines())) == (2, 1), err
    return err


def test_predictions_of_files_are_those_of_the_test(digits: Path, tmp_path: Path) -> None:
    """The same images as files: the same class and probabilities as predictions.parquet."""
    out = tmp_path / "p.parquet"
    (digits / "digits/0/broken.png").write_bytes(b"x")
    said = succeed("predict", digits / "model", digits / "digits", "--out", out, "--top", 10)
    (digits / "digits/0/broken.png").unlink()
    assert "400 images predicted" in said
    assert "1 image could not be read" in said
    assert "broken.png (not an image of a known format)" in said
    found = pd.read_parquet(out)
    assert found["error"].notna().sum() == 1
    found = found[found["error"].isna()]
    rows = found["path"].map(lambda path: int(Path(path).stem))
    recorded = pd.read_parquet(digits / "model/predictions.parquet").iloc[rows]
    assert found["label"].tolist() == recorded["predicted"].tolist()
    np.testing.assert_allclose(found["probability"], recorded["probability"], atol=1e-5)
    np.testing.assert_allclose(found["margin"] >= 0, True)
    np.testing.assert_allclose(found.filter(like="probability_").sum(axis=1), 1, atol=1e-5)
    assert "exists" in refused("predict", digits / "model", digits / "digits", "--out", out)


def test_metrics_of_the_test_set_are_those_of_the_training(digits: Path, tmp_path: Path) -> None:
    said = succeed("evaluate", digits / "model", "--out", tmp_path / "e.json")
    assert "stratified by class" in said
    recorded = json.loads((digits / "model/metrics.json").read_text())["test"]
    found = json.loads((tmp_path / "e.json").read_text())["metrics"]
    temperature = json.loads((digits / "model/calibration.json").read_text())["temperature"]
    assert temperature != 1
    for name, value in recorded.items():
        if name not in ("log_loss", "brier", "ece"):  # before the temperature or after it
            assert found[name]["value"] == pytest.approx(value["mean"], abs=1e-6), name
    files = succeed(
        *("evaluate", digits / "model", "--data", digits / "digits", "--split", "all"),
        *("--out", tmp_path / "f.json"),
    )
    assert "400 images" in files
    again = json.loads((tmp_path / "f.json").read_text())["metrics"]
    assert again["accuracy"]["value"] == found["accuracy"]["value"]


def test_onnxruntime_alone_gives_the_same_classes(digits: Path, tmp_path: Path) -> None:
    said = succeed("export", digits / "model", "--to", "onnx", "--out", tmp_path / "m.onnx")
    assert "256 of the test images of digits" in said
    assert "Resizing: not in the graph" in said
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    names = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    files = sorted((digits / "digits").rglob("*.png"), key=lambda path: int(path.stem))
    pixels = np.stack([np.asarray(Image.open(path)) for path in files])[:, None]
    p_NK, label_N = session.run(None, {"images": pixels})
    recorded = pd.read_parquet(digits / "model/predictions.parquet")
    assert [names[k] for k in label_N] == recorded["predicted"].tolist()
    np.testing.assert_allclose(p_NK.max(1), recorded["probability"], atol=1e-5)


def test_a_threshold_is_chosen_stored_and_used(two: Path, model: Path, tmp_path: Path) -> None:
    """On the images that the training kept, by a cost that makes a missed fault expensive."""
    before = succeed("evaluate", model, "--data", two / "data", "--out", tmp_path / "before.json")
    assert "threshold:" not in before
    cost = "{name: expected_cost, costs: [[0, 50], [1, 0]]}"  # classes are fault, ok
    said = succeed("threshold", model, "--metric", cost)
    assert "Costs: an image of 'fault' that is predicted as 'ok' costs 50;" in said
    assert "class 'fault' from a probability of" in said
    assert "images of the calibration" in said
    stored = json.loads((model / "threshold.json").read_text())
    low, high = stored["probability_interval"]
    assert low <= stored["probability"] <= high
    loaded = imbtune.load_model(model)
    assert loaded.threshold is not None
    assert loaded.threshold.to_dict() == stored
    after = succeed("evaluate", model, "--data", two / "data", "--out", tmp_path / "after.json")
    assert "chosen for expected_cost on" in after
    recalls = [
        json.loads((tmp_path / name).read_text())["classes"][0]["recall"]
        for name in ("before.json", "after.json")
    ]
    assert recalls[1] > recalls[0]
    images = two / "data/test"
    succeed("predict", model, images, "--out", tmp_path / "p.csv", "--top", 2)
    found = pd.read_csv(tmp_path / "p.csv")
    p = found["probability"].where(found["label"] == "fault", 1 - found["probability"])
    assert found["label"].tolist() == np.where(p >= stored["probability"], "fault", "ok").tolist()
    assert (found["label"] == "fault").mean() > 0.5
    assert "give --threshold, too" in refused(
        "predict", model, images, "--out", tmp_path / "q.csv", "--prior", "balanced"
    )
    succeed(
        *("predict", model, images, "--out", tmp_path / "q.csv"),
        *("--prior", "balanced", "--threshold", 0.5),
    )
    path = tmp_path / "m.onnx"
    exported = succeed("export", model, "--data", two / "data", "--out", path)
    assert "folder" in exported
    assert f"'label' is 'fault' from a probability of {stored['probability']:.4g} on" in exported
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    files = [Path(name) for name in found["path"]]
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])[:, None]
    label_N = session.run(["label"], {"images": pixels})[0]
    assert [loaded.classes[k] for k in label_N] == found["label"].tolist()


def test_a_threshold_needs_images_that_training_did_not_see(two: Path, model: Path) -> None:
    assert "give --split, too" in refused(
        "threshold", model, "--metric", "f_beta", "--data", two / "data"
    )
    assert "go with --data" in refused("threshold", model, "--metric", "f_beta", "--split", "all")
    assert "same at every threshold" in refused("threshold", model, "--metric", "auroc")
    said = succeed(
        "threshold", model, "--metric", "f_beta", "--data", two / "data/test", "--split", "all"
    )
    assert "40 images (all images of folder" in said
    assert len(json.loads((model / "threshold.json").read_text())["counts"]) == 2


def test_a_threshold_that_was_lost_or_changed_is_chosen_again(
    two: Path, model: Path, tmp_path: Path
) -> None:
    succeed("threshold", model, "--metric", "f_beta")
    stored = (model / "threshold.json").read_text()
    for content in (None, "{}"):
        (model / "threshold.json").unlink()
        if content:
            (model / "threshold.json").write_text(content)
        told = refused("predict", model, two / "data/test", "--out", tmp_path / "p.csv")
        assert "threshold.json" in told and "again with imbtune threshold" in told
        succeed("threshold", model, "--metric", "f_beta")
        assert (model / "threshold.json").read_text() == stored
        assert imbtune.load_model(model).threshold is not None


def test_more_classes_have_no_threshold(digits: Path) -> None:
    assert "this model has 10: thresholds per class" in refused(
        "threshold", digits / "model", "--metric", "f_beta"
    )


@pytest.mark.parametrize("command", ["predict", "evaluate", "threshold", "export"])
def test_what_is_no_model(command: str, model: Path, tmp_path: Path) -> None:
    """Nothing, an empty folder, another file, and a model with a file missing or changed."""
    (tmp_path / "none").mkdir()
    (tmp_path / "other.txt").write_text("x")
    (model / "labels.json").write_text("{}")
    Image.new("L", (8, 8)).save(tmp_path / "i.png")
    more = {
        "predict": (tmp_path / "i.png", "--out", tmp_path / "p.csv"),
        "threshold": ("--metric", "f_beta"),
        "export": ("--out", tmp_path / "m.onnx"),
    }.get(command, ())
    before = set(tmp_path.rglob("*"))
    for place, says in {
        "nothere": "there is no model at",
        "none": "does not have a model",
        "other.txt": "is not a model",
        "model": "labels.json is not what imbtune wrote",
    }.items():
        assert says in refused(command, tmp_path / place, *more)
    (model / "labels.json").unlink()
    assert "labels.json is missing" in refused(command, model, *more)
    assert set(tmp_path.rglob("*")) == before - {model / "labels.json"}


def test_it_all_works_without_ray_optuna_and_wandb(two: Path, tmp_path: Path) -> None:
    """Also the commands, on a machine that has none of them."""
    code = f"""
import sys
for name in ("ray", "optuna", "wandb", "duckdb", "altair", "mlflow"):
    sys.modules[name] = None  # importing it raises ImportError
import contextlib, io, json
import imbtune
model = imbtune.load_model({str(two / "model")!r})
data, out = {str(two / "data")!r}, {str(tmp_path)!r}
rows = imbtune.predict(model, data + "/test", top=2).table
names = sorted(set(rows["label_1"]))
result = imbtune.evaluate(model, data, resamples=5)
imbtune.choose_threshold(model, "f_beta", store=False)
from imbtune.cli.main import app
codes = []
for words in (
    ["predict", {str(two / "model")!r}, data + "/test", "--out", out + "/p.csv"],
    ["evaluate", {str(two / "model")!r}, "--data", data],
    ["export", {str(two / "model")!r}, "--out", out + "/m.onnx"],
):
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            app(words)
        except SystemExit as end:
            codes.append(end.code)
print(json.dumps([len(rows), result.count, codes]))
"""
    assert in_new_process(code, tmp_path) == [40, 40, [0, 0, 0]]
    assert {path.name for path in tmp_path.iterdir()} == {"p.csv", "m.onnx"}
