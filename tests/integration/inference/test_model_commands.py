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
from command import in_new_process, invoke, refused, succeed
from PIL import Image

import imbtune
from imbtune.config.train_config import TrainConfig
from imbtune.data.load import load
from imbtune.inference.decisions.model_threshold import store_threshold
from imbtune.inference.model_folder import change_files
from imbtune.storage import Store

COST_OF: Any = {"name": "expected_cost", "costs": {"fault": {"ok": 4}}}
COST = "{name: expected_cost, costs: {fault: {ok: 4}}}"
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
    with pytest.MonkeyPatch.context() as patch:  # a relative path, as one types it
        patch.chdir(folder)
        imbtune.train(config, out="model", data="data", calibrate=0.3, progress=None)
    return folder


@pytest.fixture
def model(two: Path, tmp_path: Path) -> Path:
    return shutil.copytree(two / "model", tmp_path / "model")


def no_path_in(export: Path, folder: Path) -> dict[str, str]:
    """The metadata of an export, which is handed on, without the maker's folder in it."""
    session = onnxruntime.InferenceSession(export, providers=["CPUExecutionProvider"])
    metadata: dict[str, str] = session.get_modelmeta().custom_metadata_map
    assert str(folder) not in str(metadata)
    return metadata


def test_a_metric_is_evaluated_once(digits: Path) -> None:
    both = ("--metric", "{name: auroc, of: 0}", "--metric", "{name: auroc, of: 1}")
    said = refused("evaluate", digits / "model", *both)
    assert said == "error: --metric: 'auroc' is given twice: give each metric once\n"


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


def test_images_of_which_none_can_be_read_are_rows_and_an_error(
    digits: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"x")
    (tmp_path / "list.txt").write_bytes("broken.png\r\nC:\\gone.png\r\n".encode("utf-16"))
    out = tmp_path / "p.csv"
    code, said, err = invoke(
        "predict", str(digits / "model"), str(tmp_path / "list.txt"), "--out", str(out)
    )
    assert (code, said) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith("error: of 2 images none could be read: broken.png (not an image")
    assert line.endswith(f"C:\\gone.png (No such file or directory); {out} has the errors")
    found = pd.read_csv(out)
    assert found["path"].tolist() == ["broken.png", "C:\\gone.png"]
    assert found["error"].notna().all() and found["label"].isna().all()


def test_metrics_of_the_test_set_are_those_of_the_training(digits: Path, tmp_path: Path) -> None:
    said = succeed("evaluate", digits / "model", "--out", tmp_path / "e.json")
    assert "over other images, as many of each class" in said
    recorded = json.loads((digits / "model/metrics.json").read_text())["test"]
    found = json.loads((tmp_path / "e.json").read_text())["metrics"]
    temperature = json.loads((digits / "model/calibration.json").read_text())["temperature"]
    assert temperature != 1
    for name, value in recorded.items():
        assert found[name]["value"] == pytest.approx(value["mean"], abs=1e-6), name
    card = (digits / "model/README.md").read_text()
    for one in found.values():  # the card has the same table
        row = f"| {one['title']} | {one['value']:.4f} | [{one['low']:.4f}, {one['high']:.4f}] |"
        assert row in card
    assert "top_k (k 5)" in card
    for words in ("pip install .", "imbtune predict model IMAGES", "--to onnx", "load_model"):
        assert words in card
    files = succeed(
        *("evaluate", digits / "model", "--data", digits / "digits", "--split", "all"),
        *("--out", tmp_path / "f.json"),
    )
    assert "400 images" in files
    again = json.loads((tmp_path / "f.json").read_text())["metrics"]
    assert again["accuracy"]["value"] == found["accuracy"]["value"]


def test_images_of_one_class_and_of_another_size_are_evaluated(
    digits: Path, tmp_path: Path
) -> None:
    """The only folder is a class, though its name, a digit, has no word."""
    (tmp_path / "data/3").mkdir(parents=True)
    for number in range(3):
        image = Image.new("L", (32, 32), 60 * number)
        image.save(tmp_path / "data/3" / f"{number}.png")
    data = ("evaluate", digits / "model", "--data", tmp_path / "data", "--split", "all")
    said = refused(*data)
    assert "the image is 32×32, not 8×8: give others, or --resize" in said
    assert "3 images" in succeed(*data, "--resize")


def test_onnxruntime_alone_gives_the_same_classes(digits: Path, tmp_path: Path) -> None:
    said = succeed("export", digits / "model", "--to", "onnx", "--out", tmp_path / "m.onnx")
    assert "256 of the 400 test images of digits" in said
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
    said = succeed("evaluate", model)  # where the training found them
    assert f"test images in {two / 'data'}" in " ".join(said.split())
    cost = "{name: expected_cost, costs: [[0, 4], [1, 0]]}"  # classes are fault, ok
    said = succeed("threshold", model, "--metric", cost)
    assert "Costs: an image of 'fault' that is predicted as 'ok' costs 4;" in said
    assert "predicted as 'fault' if its probability is at least" in said
    assert "Until now: 0.5 (the more probable class)" in said
    assert "images of the calibration" in said
    stored = json.loads((model / "threshold.json").read_text())
    low, high = stored["probability_interval"]
    assert low <= stored["probability"] <= high
    loaded = imbtune.load_model(model)
    assert loaded.threshold is not None
    assert loaded.threshold.to_dict() == stored
    after = succeed("evaluate", model, "--data", two / "data", "--out", tmp_path / "after.json")
    assert "threshold was chosen for expected_cost (costs 'fault' as 'ok' 4)" in after
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
    assert "Compared with the model in onnxruntime on" in exported
    assert f"'label' is 'fault' from a probability of {stored['probability']:.4g} on" in exported
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    files = [Path(name) for name in found["path"]]
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])[:, None]
    label_N = session.run(["label"], {"images": pixels})[0]
    assert [loaded.classes[k] for k in label_N] == found["label"].tolist()


def test_a_threshold_needs_images_that_training_did_not_see(two: Path, model: Path) -> None:
    assert "has a training and a test set: give --split, too" in refused(
        "threshold", model, "--metric", "f_beta", "--data", two / "data"
    )
    assert "go with --data" in refused("threshold", model, "--metric", "f_beta", "--split", "all")
    assert "same at every threshold" in refused("threshold", model, "--metric", "auroc")
    assert "give --metric" in refused("threshold", model)
    said = succeed("threshold", model, "--metric", COST, "--data", two / "data/test")
    assert "40 images (all images)" in said
    trained = ("--data", two / "data", "--split", "train")
    told = refused("threshold", model, "--metric", COST, *trained)
    assert "was trained on 80 of these 114 images, and a threshold needs images that" in told
    assert str(two) not in (model / "threshold.json").read_text()
    assert len(json.loads((model / "threshold.json").read_text())["counts"]) == 2


def test_a_threshold_of_the_test_images_is_told_where_they_are_evaluated(
    two: Path, model: Path, tmp_path: Path
) -> None:
    """By `evaluate`, also of a copy, and in the card; not where it was chosen on others."""
    words, card = "threshold was chosen on these images", model / "README.md"
    before = card.read_text()
    succeed("threshold", model, "--metric", COST)
    assert words not in succeed("evaluate", model)
    assert card.read_text() == before
    copied = shutil.copytree(two / "data/test", tmp_path / "copied")
    on_test = ("--data", copied, "--split", "all")
    assert "Stored" in succeed("threshold", model, "--metric", COST, *on_test)
    for data in (("--data", two / "data"), on_test):
        assert words in succeed("evaluate", model, *data)
        assert words not in succeed("evaluate", model, *data, "--threshold", 0.5)
    told = "used once, when the training had ended. Then a threshold was chosen on them"
    assert told in card.read_text()
    succeed("threshold", model, "--remove")
    assert card.read_text() == before


def test_the_threshold_of_the_other_class_is_told_in_the_same_unit(model: Path) -> None:
    succeed("threshold", model, "--metric", COST)
    stored = imbtune.load_model(model).threshold
    assert stored is not None and stored.positive == "fault"
    metric = "{name: precision_at_recall, recall: 0.5, of: ok}"
    said = succeed("threshold", model, "--metric", metric)
    old = stored.probability
    assert f"Until now: {1 - old:.4g}, that is 'fault' from {old:.4g} on (chosen for" in said


def test_a_threshold_is_of_one_seed(two: Path, tmp_path: Path) -> None:
    """An ensemble, and a seed without one, do not leave it out without a word."""
    config = TrainConfig.from_settings(
        {**SMALL, "epochs": 1, "data": "folder", "data.profile": "as_is"}
    )
    model, images = tmp_path / "model", two / "data/test"
    options: dict[str, Any] = {"calibrate": 0.3, "progress": None, "ensemble": True}
    imbtune.train(config, out=model, data=two / "data", seeds=2, **options)
    ensemble = ("predict", model, images, "--ensemble", "--out")
    succeed(*ensemble, tmp_path / "before.csv")
    data = ("--data", images, "--split", "all")
    folder = imbtune.load_model(model)
    store_threshold(
        folder, imbtune.choose_threshold(model, COST_OF, images, split="all", store=False)
    )
    for other in ("--ensemble", "--seed=1"):
        for command in (("predict", f"file://{model}", images), ("evaluate", model, *data)):
            told = refused(*command, other, "--out", tmp_path / "p.parquet")
            assert "chosen for the model of its first seed alone: give --threshold, too" in told
    succeed(*ensemble, tmp_path / "after.csv", "--threshold", 0.5)
    assert (tmp_path / "after.csv").read_text() == (tmp_path / "before.csv").read_text()
    said = succeed("export", model, "--data", images, "--ensemble", "--out", tmp_path / "m.onnx")
    assert "'label' is the more probable class: the threshold in" in said
    succeed("export", model, "--data", images)  # with the threshold
    said = succeed("export", model, "--data", images, "--ensemble")
    assert "ensemble.onnx" in said and "out of date" not in said


def test_a_threshold_that_was_lost_or_changed_is_chosen_again(
    two: Path, model: Path, tmp_path: Path
) -> None:
    succeed("threshold", model, "--metric", COST)
    stored = (model / "threshold.json").read_text()
    for content in (None, "{}"):
        (model / "threshold.json").unlink()
        if content:
            (model / "threshold.json").write_text(content)
        told = refused("predict", model, two / "data/test", "--out", tmp_path / "p.csv")
        assert "threshold.json" in told and "again with imbtune threshold" in told
        succeed("threshold", model, "--metric", COST)
        assert (model / "threshold.json").read_text() == stored
        assert imbtune.load_model(model).threshold is not None


def test_a_threshold_that_gains_nothing_is_not_stored(model: Path, tmp_path: Path) -> None:
    """On images whose classes are those that the model predicts, nothing is better."""
    rng, loaded = np.random.default_rng(0), imbtune.load_model(model)
    bright_N = np.linspace(0, 200, 60)[:, None, None]
    pixels = (rng.integers(0, 56, (60, 8, 8)) + bright_N).astype(np.uint8)
    names = loaded.predict(pixels).tolist()
    assert set(names) == {"ok", "fault"}
    for number, name in enumerate(names):
        (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[number]).save(tmp_path / "data" / name / f"{number}.png")
    data = ("--data", tmp_path / "data", "--split", "all")
    given = ("threshold", model, "--metric", "accuracy", *data)
    files = sorted(model.iterdir())
    assert "Not stored, since it gains nothing" in succeed(*given)
    assert sorted(model.iterdir()) == files
    succeed("threshold", model, "--metric", COST)
    stored = (model / "threshold.json").read_text()
    said = succeed(*given)
    assert f"threshold {model} --remove removes it" in said
    assert "Until now: " in said and "(chosen for expected_cost)" in said
    assert (model / "threshold.json").read_text() == stored


@pytest.mark.slow
def test_a_threshold_is_removed_and_its_exports_are_out_of_date(
    two: Path, model: Path, tmp_path: Path
) -> None:
    assert "has no threshold" in refused("threshold", model, "--remove")
    data = ("--data", two / "data")
    succeed("export", model, *data)
    assert "out of date" not in succeed("export", model, *data, "--out", tmp_path / "other.onnx")
    changed = succeed("threshold", model, "--metric", COST)
    assert f"{model}/model.onnx is out of date" in changed
    assert "exists: give another file, or delete it" in refused("export", model, *data)
    told = succeed("export", model, *data, "--out", tmp_path / "new.onnx")
    assert f"{model}/model.onnx is out of date" in told
    (model / "model.onnx").unlink()
    assert "out of date" not in succeed("export", model, *data)
    assert "exists: give another file" in refused("export", model, *data)
    assert "leave --metric out" in refused("threshold", model, "--remove", "--metric", COST)
    removed = succeed("threshold", model, "--remove")
    assert f"{model}/model.onnx is out of date" in removed
    assert not (model / "threshold.json").exists()
    assert imbtune.load_model(model).threshold is None
    assert "threshold:" not in succeed("evaluate", model, *data)
    imbtune.choose_threshold(model, {"name": "expected_cost", "costs": {"fault": {"ok": 4}}})
    assert imbtune.remove_threshold(model) == (model / "model.onnx",)


def test_an_export_is_compared_where_an_image_cannot_be_read(
    two: Path, model: Path, tmp_path: Path
) -> None:
    """As that of a training with --skip-corrupt, whose data is where the model found it."""
    data = shutil.copytree(two / "data", tmp_path / "data")
    (data / "train/ok/broken.png").write_bytes(b"no image")
    (data / "test/ok/broken.png").write_bytes(b"no image")
    said = succeed("export", model, "--data", data, "--out", tmp_path / "m.onnx")
    assert "Compared with the model in onnxruntime on" in said


def test_an_export_is_compared_on_real_images(two: Path, model: Path, tmp_path: Path) -> None:
    """Those of the training, if they are where it found them; else others must be given."""
    out = tmp_path / "m.onnx"
    said = succeed("export", model, "--out", out)
    assert f"all 40 test images in {two / 'data'}" in said
    assert no_path_in(out, two)["checked_on"] == "all 40 test images"
    assert str(two) not in (model / "README.md").read_text()
    content = json.loads((model / "metrics.json").read_text())
    content["data"] = str(tmp_path / "gone")
    change_files(Store(str(model)), {"metrics.json": json.dumps(content).encode()})
    assert f"in {tmp_path / 'gone'}, which cannot be read" in refused("evaluate", model)
    told = refused("export", model, "--out", tmp_path / "n.onnx")
    assert "give --data IMAGES" in told and "--unchecked" in told
    assert not (tmp_path / "n.onnx").exists()
    said = succeed("export", model, "--unchecked", "--out", tmp_path / "n.onnx")
    assert "random pixels" in said
    images = two / "data/test/ok"
    said = succeed("export", model, "--data", images, "--out", tmp_path / "o.onnx")
    assert f"20 images in {images}" in said
    assert no_path_in(tmp_path / "o.onnx", two)["checked_on"] == "20 images"
    (tmp_path / "empty").mkdir()
    told = refused("export", model, "--data", tmp_path / "empty", "--out", tmp_path / "p.onnx")
    assert "has no images: give a folder of images, one image" in told
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/a.png").write_bytes(b"x")
    told = refused("export", model, "--data", tmp_path / "broken", "--out", tmp_path / "p.onnx")
    assert "none of the images of" in told and "a.png (not an image of a known format)" in told


@pytest.mark.parametrize(
    ("data", "split", "trained"),
    [
        ("data", "test", ""),
        ("data", "train", "80 of these 114"),
        ("data", "all", "80 of these 154"),
        ("data/train", "test", "of these 23"),
        ("data/train/../train", "all", "80 of these 114"),
        ("data/test", "all", ""),
    ],
)
def test_images_of_the_training_are_named_before_the_tables(
    two: Path, data: str, split: str, trained: str
) -> None:
    result = imbtune.evaluate(two / "model", two / data, split=split, resamples=0)
    said = [note for note in result.notes if "was trained on" in note]
    assert len(said) == bool(trained)
    assert trained in "".join(said)


def test_notes_come_before_the_tables(two: Path, digits: Path) -> None:
    said = succeed("evaluate", two / "model", "--data", two / "data/train")
    assert said.index("was trained on") < said.index("no test set") < said.index("23 images: test")
    result = imbtune.evaluate(digits / "model", split="train", resamples=0)
    labels = json.loads((digits / "model/labels.json").read_text())
    trained = sum(labels["training_images"])
    assert f"the model was trained on {trained} of these {result.count} images" in result.notes[0]


def test_a_study_is_no_model(tmp_path: Path) -> None:
    """And the message names the command that makes one."""
    study = tmp_path / "runs/mine"
    study.mkdir(parents=True)
    (study / "study.yaml").write_text("{}")
    (study / "best.yaml").write_text("{}")
    told = refused("evaluate", study)
    assert f"is a study, not a model: imbtune train {study} --out runs/mine-model" in told
    (study / "best").mkdir()
    (study / "best/manifest.json").write_text("{}")
    assert f"give a model in it, {study}/best" in refused("evaluate", study)


def test_predict_needs_a_file(model: Path, two: Path) -> None:
    told = refused("predict", model, two / "data/test")
    assert "--out predictions.parquet" in told


def test_results_are_short_in_python(model: Path, two: Path) -> None:
    data = two / "data"
    for result in (
        imbtune.predict(model, data / "test"),
        imbtune.evaluate(model, data, resamples=0),
        imbtune.choose_threshold(model, COST_OF, store=False),
        imbtune.load_model(model),
        imbtune.load_model(model).config,
    ):
        assert len(repr(result)) < 200, result
        assert "\n" not in repr(result)


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
with contextlib.redirect_stderr(io.StringIO()) as said:
    try:
        app(["search", "digits-lt", "--trials", "2"])
    except SystemExit as end:
        codes.append(end.code)
print(json.dumps([len(rows), result.count, codes, said.getvalue()]))
"""
    line = "error: imbtune search needs optuna, which is not installed: pip install optuna\n"
    assert in_new_process(code, tmp_path) == [40, 40, [0, 0, 0, 2], line]
    assert {path.name for path in tmp_path.iterdir()} == {"p.csv", "m.onnx"}
