"""`imbtune.evaluate`: which images, classes by name, files, and what is refused."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from data_files import encode, raises_one_line
from numpy.typing import NDArray
from PIL import Image
from small_model import small_model, threshold_at

from imbtune.errors import ConfigError, DataError, DivergenceError
from imbtune.inference.evaluating.labelled_data import labelled_images, with_channels
from imbtune.inference.use_model import evaluate
from imbtune.inference.use_threshold import change_threshold

Bytes = NDArray[np.uint8]

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMBTUNE_DATA", raising=False)
    monkeypatch.setenv("IMBTUNE_CACHE", str(tmp_path / "cache"))


def write(folder: Path, counts: dict[str, int], shape: tuple[int, ...] = (1, 8, 8)) -> Path:
    """Images in a folder per class."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
            (folder / name / f"{number}.png").write_bytes(encode(pixels))
    return folder


def test_every_image_of_a_folder(tmp_path: Path) -> None:
    data = write(tmp_path / "data", {"dog": 7, "cat": 12})
    model = small_model(temperature=0.2)
    result = evaluate(model, data, split="all", resamples=20)
    predicted = {
        name: model.predict(
            np.stack([np.asarray(Image.open(path)) for path in sorted((data / name).iterdir())])
        )
        for name in ("cat", "dog")
    }
    expected = [[(predicted[a] == b).sum() for b in ("cat", "dog")] for a in ("cat", "dog")]
    assert result.confusion_KK.tolist() == expected
    right = expected[0][0] + expected[1][1]
    assert result.metrics.loc["accuracy", "value"] == pytest.approx(right / 19)
    assert result.table["images"].tolist() == [12, 7]
    assert result.count == 19


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    """Their order in the data is another one, and one is missing."""
    data = write(tmp_path / "data", {"dog": 3, "ant": 4})
    images = labelled_images(small_model(["dog", "cat", "ant"]), data, split="all")
    assert sorted(images.labels_N.tolist()) == [0, 0, 0, 2, 2, 2, 2]
    assert "no image of 1 of the model's 3 classes ('cat')" in images.notes[-1]


def test_classes_that_the_model_does_not_have(tmp_path: Path) -> None:
    data = write(tmp_path / "data", {"dog": 3, "emu": 4})
    says = ("4 of 7 have classes", "does not have, 'emu'", "its classes are 'cat', 'dog'")
    with raises_one_line(*says):
        evaluate(small_model(), data, split="all")


def test_classes_in_another_spelling(tmp_path: Path) -> None:
    """As macOS writes the names of folders, in two characters for é; and in another case."""
    nfc, nfd = (unicodedata.normalize(form, "Übergang") for form in ("NFC", "NFD"))
    model = small_model([nfc, "cat"])
    images = labelled_images(model, write(tmp_path / "a", {nfd: 3, "CAT": 4}), split="all")
    assert sorted(images.labels_N.tolist()) == [0, 0, 0, 1, 1, 1, 1]
    assert "the class 'CAT' is taken for the model's class 'cat'" in images.notes[0]
    assert "where the other one has U+0055 LATIN CAPITAL LETTER U)" in images.notes[1]
    other = write(tmp_path / "b", {nfc: 3, "c\u0430t": 4})  # a letter of the Cyrillic alphabet
    says = "'cat' (which has U+0061 LATIN SMALL LETTER A, where the other one has U+0430 CYRILLIC"
    with raises_one_line("4 of 7 have classes", says):
        evaluate(model, other, split="all")


def test_the_test_set_is_the_default(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write(data / "train", {"cat": 9, "dog": 9})
    write(data / "test", {"cat": 3, "dog": 2})
    model = small_model(data="folder")
    assert evaluate(model, data, resamples=0).count == 5
    assert evaluate(model, data, resamples=0, split="all").count == 23
    trained = evaluate(model, data, resamples=0, split="train")
    assert trained.count == 18
    assert "may have been trained on these images" in trained.notes[0]
    with raises_one_line("unknown split 'validation'", kind=ConfigError):
        evaluate(model, data, split="validation")


def test_without_a_test_set_it_is_that_of_the_training(tmp_path: Path) -> None:
    data = write(tmp_path / "data", {"cat": 10, "dog": 10})
    result = evaluate(small_model(data="folder"), data, resamples=0)
    assert result.count == 4
    assert any("--split all evaluates all images" in note for note in result.notes)


@pytest.mark.parametrize("split", ["test", "train"])
@pytest.mark.parametrize("counts", [{"cat": 5}, {"cat": 5, "dog": 1}])
def test_images_that_are_too_few_to_train_on(
    tmp_path: Path, counts: dict[str, int], split: str
) -> None:
    data, n = write(tmp_path / "data", counts), sum(counts.values())
    for model in (small_model(), small_model(data="folder")):
        with raises_one_line(f"--split {split} reads", f"--split all evaluates all {n} images"):
            evaluate(model, data, split=split)
        assert evaluate(model, data, split="all", resamples=0).count == n


def test_one_class_in_two_splits(tmp_path: Path) -> None:
    data = tmp_path / "data.npz"
    x, y = RNG.integers(0, 256, (8, 8, 8), dtype=np.uint8), np.array(["cat"] * 8)
    np.savez(data, x_train=x[:5], y_train=y[:5], x_test=x[5:], y_test=y[5:])
    with raises_one_line("only one class, 'cat'", "all 8 images (5 for training, 3 for testing)"):
        evaluate(small_model(), data)


@pytest.mark.parametrize("split", ["test", "all"])
@pytest.mark.parametrize("name", ["test", "val"])
def test_a_labelled_test_set_alone(tmp_path: Path, name: str, split: str) -> None:
    data, shards, arrays = tmp_path / "data", tmp_path / "shards", tmp_path / "data.npz"
    write(data / name, {"cat": 3, "dog": 2})
    shards.mkdir()
    files = [path.read_bytes() for path in sorted(data.rglob("*.png"))]
    labels = ["cat"] * 3 + ["dog"] * 2
    pd.DataFrame({"image": files, "label": labels}).to_parquet(shards / f"{name}.parquet")
    x = RNG.integers(0, 256, (5, 8, 8), dtype=np.uint8)
    columns: dict[str, Any] = {f"x_{name}": x, f"y_{name}": labels}
    np.savez(arrays, **columns)
    listed = write(tmp_path / "listed", {"images": 5})
    rows = [f"images/{k}.png,{label},{name}" for k, label in enumerate(labels)]
    (listed / "labels.csv").write_text("\n".join(["file,label,split", *rows]))
    for model in (small_model(), small_model(data="folder")):
        for place in (data, shards, arrays, listed):
            dataset = {shards: "parquet", arrays: "npz"}.get(place, "folder")
            result = evaluate(model, place, split=split, dataset=dataset, resamples=0)
            assert (result.count, result.table["images"].tolist()) == (5, [3, 2])
            changed = change_threshold(model, "f_beta", place, dataset=dataset, store=False)
            assert changed.chosen.chosen_on == "5 images (all images)"
    with raises_one_line("no training set", "--split all evaluates all 5 images"):
        evaluate(small_model(), data, split="train")
    found = labelled_images(small_model(), arrays, split=split).images
    assert found.names_in("x")[0] == "test 0"  # not an image that a training may have had


def test_a_class_that_only_the_test_set_has(tmp_path: Path) -> None:
    data = tmp_path / "my data"
    write(data / "train", {"cat": 4})
    write(data / "test", {"cat": 2, "dog": 2})
    with raises_one_line("without training images", f"--data '{data / 'test'}' or --data"):
        evaluate(small_model(), data, split="all")
    assert evaluate(small_model(), data / "test", split="all", resamples=0).count == 4


def test_npz_and_parquet(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (12, 8, 8), dtype=np.uint8)
    labels = np.repeat(["cat", "dog"], 6)
    np.savez(tmp_path / "mine.npz", images=pixels, labels=labels)
    (tmp_path / "hf").mkdir()
    files = [encode(one[None]) for one in pixels]
    frame = pd.DataFrame({"image": files, "label": labels})
    frame.to_parquet(tmp_path / "hf/train.parquet")
    model = small_model()
    results = [
        evaluate(model, tmp_path / name, split="all", resamples=0) for name in ("mine.npz", "hf")
    ]
    assert results[0].confusion_KK.tolist() == results[1].confusion_KK.tolist()
    assert results[0].count == 12
    with raises_one_line("unknown data set 'folders'", kind=ConfigError):
        evaluate(model, tmp_path / "hf", dataset="folders")


def test_sizes_and_channels(tmp_path: Path) -> None:
    large = write(tmp_path / "large", {"cat": 3, "dog": 3}, (3, 12, 16))
    with raises_one_line("16×12"):
        evaluate(small_model(), large, split="all")
    for model in (small_model(), small_model(shape=(3, 8, 8))):
        assert evaluate(model, large, split="all", resize=True, resamples=0).count == 6
    colour = RNG.integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)
    grey = with_channels(colour, 1)
    for one, expected in zip(grey, colour, strict=True):
        pillow = Image.fromarray(np.ascontiguousarray(expected.transpose(1, 2, 0))).convert("L")
        assert (one[0] == np.asarray(pillow)).all()
    assert (with_channels(grey, 3) == grey).all()
    assert with_channels(grey, 3).shape == (4, 3, 8, 8)


def test_corrupt_images(tmp_path: Path) -> None:
    data = write(tmp_path / "data", {"cat": 3, "dog": 3})
    (data / "cat/0.png").write_bytes(b"")
    with raises_one_line("--skip-corrupt"):
        evaluate(small_model(), data, split="all")
    result = evaluate(small_model(), data, split="all", skip_corrupt=True, resamples=0)
    assert result.count == 5
    assert any("cannot be read and are left out" in note for note in result.notes)


def test_the_files(tmp_path: Path) -> None:
    data = write(tmp_path / "data", {"cat": 6, "dog": 5})
    model = small_model(threshold=threshold_at(-0.1))
    for name in ("out.json", "out.parquet"):
        result = evaluate(model, data, split="all", resamples=30, out=tmp_path / name)
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["images"] == 11
    assert content["confusion"] == result.confusion_KK.tolist()
    assert "standard errors over other images" in content["intervals"]["method"]
    assert content["intervals"]["resamples"] == 30
    table = pd.read_parquet(tmp_path / "out.parquet")
    overall = table[table["class"].isna()].set_index("metric")
    for metric, value in result.metrics["value"].to_dict().items():
        assert content["metrics"][metric]["value"] == value == overall["value"].to_dict()[metric]
    recall = table[(table["class"] == "dog") & (table["metric"] == "recall")].iloc[0]
    assert recall["value"] == content["classes"][1]["recall"]
    assert recall["low"] < recall["value"] or recall["value"] == 0
    assert any("threshold: class 'dog'" in note for note in content["notes"])
    for name, says in (("out.json", "exists"), ("a.txt", "ends in"), ("no/a.json", "no folder")):
        with raises_one_line(says, kind=ConfigError):
            evaluate(model, data, split="all", out=tmp_path / name)


def test_no_data(tmp_path: Path) -> None:
    with raises_one_line("needs a path: set --data"):
        evaluate(small_model(data="folder"))
    with raises_one_line("no data folder"):
        evaluate(small_model(), tmp_path / "nothere")
    (tmp_path / "empty").mkdir()
    with raises_one_line("has no folders", kind=DataError):
        evaluate(small_model(), tmp_path / "empty")


@pytest.mark.parametrize("split", ["all", "test"])
def test_a_link_that_leads_nowhere_may_be_a_class(tmp_path: Path, split: str) -> None:
    data = write(tmp_path / "data", {"dog": 7, "cat": 12})
    (data / "bird").symlink_to("/gone/away")
    with raises_one_line("bird is a link to /gone/away, which is not there", kind=DataError):
        evaluate(small_model(), data, split=split, resamples=20)


@pytest.mark.parametrize("layout", ["folder", "npz", "parquet"])
def test_without_data_it_is_where_the_training_found_it(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    write(data / "train", {"cat": 9, "dog": 9})
    write(data / "test", {"cat": 3, "dog": 2})
    frames = {}
    for split in ("train", "test"):
        files = sorted((data / split).rglob("*.png"))
        frames[split] = pd.DataFrame(
            {
                "image": [file.read_bytes() for file in files],
                "label": [f.parent.name for f in files],
            }
        )
    if layout == "parquet":
        data = tmp_path / "parquet"
        data.mkdir()
        for split, frame in frames.items():
            frame.to_parquet(data / f"{split}.parquet")
    if layout == "npz":
        data = tmp_path / "mine.npz"
        pixels = RNG.integers(0, 256, (5, 8, 8), dtype=np.uint8)
        labels = frames["test"]["label"].to_numpy(str)
        np.savez(
            data,
            images_test=pixels,
            labels_test=labels,
            images_train=np.tile(pixels, (4, 1, 1)),
            labels_train=np.tile(labels, 4),
        )
    model = small_model(data=layout)
    model.data = str(data)
    monkeypatch.chdir(tmp_path.parent)
    found = evaluate(model, resamples=0)
    assert (found.count, found.what) == (5, f"test images in {data}")
    assert evaluate(model, data, resamples=0).confusion_KK.tolist() == found.confusion_KK.tolist()
    other = write(tmp_path / "other", {"cat": 3, "dog": 3})
    monkeypatch.setenv("IMBTUNE_DATA", str(other))
    assert evaluate(model, split="all", resamples=0).count == 6
    monkeypatch.delenv("IMBTUNE_DATA")
    data.rename(tmp_path / "elsewhere")
    with raises_one_line(f"in {data}, which cannot be read now: give --data", kind=DataError):
        evaluate(model)
    with raises_one_line("needs a path: set --data"):  # the path is that of another data set
        evaluate(model, dataset="npz" if layout == "folder" else "folder")


def test_digits_need_no_path() -> None:
    """Also where the training had one, as of the variable."""
    model = small_model([str(k) for k in range(10)], data="digits")
    model.data = "/nothere"
    assert evaluate(model, resamples=0).count == 400


@pytest.mark.parametrize("split", ["train", "test", "all"])
def test_a_threshold_has_the_notes_of_an_evaluation(tmp_path: Path, split: str) -> None:
    """On which images it was chosen, and which could not be read, in the same order."""
    data = write(tmp_path / "data", {"cat": 9, "dog": 9})
    (data / "cat/broken.png").write_bytes(b"x")
    model = small_model(data="folder")
    notes = evaluate(model, data, split=split, skip_corrupt=True, resamples=0).notes
    assert any("broken.png" in note for note in notes)
    assert ("trained on these images" in notes[0]) == (split == "train")
    changed = change_threshold(model, "f_beta", data, split=split, skip_corrupt=True, store=False)
    assert changed.notes == notes


def test_files_are_never_passed_over_for_digits(tmp_path: Path) -> None:
    """Neither with the layout of digits, nor where a training was given them in vain."""
    data = write(tmp_path / "data", {"3": 3, "4": 3})
    model = small_model([str(k) for k in range(10)], data="digits")
    with raises_one_line(f"--dataset digits and --data {data}: that data", kind=ConfigError):
        evaluate(model, data, dataset="digits")
    model.data = str(data)
    result = evaluate(model, data, split="all", resamples=0)
    assert (result.count, result.what) == (6, f"all images in {data}")


@pytest.mark.parametrize("metric", ["top_k", {"name": "top_k", "k": 2}])
def test_a_metric_that_says_nothing_of_so_few_classes(metric: Any) -> None:
    with raises_one_line("1 for every model of 2 classes", "at most 1", kind=ConfigError):
        evaluate(small_model(), metrics=[metric])
    digits = small_model([str(k) for k in range(10)], data="digits")
    found = evaluate(digits, metrics=[metric], resamples=0)
    assert "top_k" in found.metrics.index


def test_weights_that_are_nan(tmp_path: Path) -> None:
    data = write(tmp_path / "data", {"cat": 3, "dog": 3})
    model = small_model()
    with torch.no_grad():
        next(model.network.parameters()).fill_(float("nan"))
    with raises_one_line("weights are not finite", kind=DivergenceError):
        evaluate(model, data, split="all")


def test_the_variable_with_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read for a model of files, and not for one of digits, which needs none."""
    data = write(tmp_path / "data", {"cat": 3, "dog": 3})
    monkeypatch.setenv("IMBTUNE_DATA", str(data))
    assert evaluate(small_model(data="folder"), split="all", resamples=0).count == 6
    digits = small_model([str(k) for k in range(10)], data="digits")
    assert evaluate(digits, resamples=0).count == 400
    assert evaluate(digits, split="train", resamples=0).count < 1397


def test_a_prior_changes_the_metrics_of_probabilities(tmp_path: Path) -> None:
    data = write(tmp_path / "data", {"cat": 8, "dog": 8})
    model = small_model(temperature=1.0, prior_K=[0.9, 0.1])
    priors: list[Any] = [None, "balanced", {"cat": 0, "dog": 1}]
    plain, shifted, none = (
        evaluate(model, data, split="all", prior=prior, resamples=0) for prior in priors
    )
    before, after = (result.metrics["value"].to_dict() for result in (plain, shifted))
    assert before["auroc"] == after["auroc"]
    assert before["log_loss"] != after["log_loss"]
    assert none.confusion_KK.tolist() == [[0, 8], [0, 8]]


def test_metrics_and_resamples_that_can_be_given(tmp_path: Path) -> None:
    data = write(tmp_path / "data", {"cat": 4, "dog": 4})
    given: list[Any] = ["f_beta", {"name": "f_beta", "beta": 3.0}, [{"name": "f_beta", "beta": 3}]]
    titles = [
        evaluate(small_model(), data, split="all", metrics=one, resamples=0).metrics["title"]
        for one in given
    ]
    assert [title["f_beta"] for title in titles] == [
        *("f_beta (beta 2)", "f_beta (beta 3)", "f_beta (beta 3)")
    ]
    with raises_one_line("--resamples 1: one has no spread: give at least 2", kind=ConfigError):
        evaluate(small_model(), data, resamples=1)
    wrong: Any = None
    with raises_one_line("metrics None: give a metric, or a list of metrics", kind=ConfigError):
        evaluate(small_model(), data, metrics=wrong)


def test_the_log_loss_of_a_class_that_is_given_the_share_0_is_infinite(tmp_path: Path) -> None:
    """If there are images of it; the other metrics are those of probabilities of 0 and 1."""
    data = write(tmp_path / "data", {"cat": 8, "dog": 24})
    prior: Any = {"cat": 0, "dog": 1}
    for resamples in (0, 20):
        found = evaluate(small_model(), data, split="all", prior=prior, resamples=resamples)
        assert "log_loss" not in found.metrics.index
        line = "infinite, as there are images of 'cat', to which --prior gives the share 0: "
        assert f"{line}log_loss" in found.notes
        values = found.metrics["value"]
        assert (values["brier"], values["ece"], values["auroc"]) == (0.25, 0.25, 0.5)
    only = write(tmp_path / "only", {"dog": 5})
    result = evaluate(small_model(), only, split="all", prior=prior, resamples=0)
    assert result.metrics.loc["log_loss", "value"] == 0
