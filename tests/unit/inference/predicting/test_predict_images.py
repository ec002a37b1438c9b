"""Predictions of files: the rows, what cannot be read, sizes, and bounded memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from data_files import raises_one_line
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_model import small_model, threshold_at, write_images

from imbtune.errors import ConfigError, DataError, DivergenceError
from imbtune.inference.predicting import predict_images as module
from imbtune.inference.predicting.image_inputs import ImageItem
from imbtune.inference.predicting.predict_images import decoded_blocks, decoder_of
from imbtune.inference.use_model import predict


def pixels_in(folder: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_rows_are_those_of_the_model(ending: str, tmp_path: Path) -> None:
    write_images(tmp_path / "images", 9)
    model = small_model(["a", "b", "c"], temperature=0.1)
    out = tmp_path / f"out.{ending}"
    found = predict(model, tmp_path / "images", out, top=2)
    assert (found.count, found.failed, found.path) == (9, 0, out)
    p_NK = model.predict_proba(pixels_in(tmp_path / "images"))
    order = np.sort(p_NK)[:, ::-1]
    assert found.table.columns.tolist() == [
        *("path", "label", "probability", "margin"),
        *("label_1", "probability_1", "label_2", "probability_2", "error"),
    ]
    table = found.table.sort_values("path")
    assert table["path"].tolist() == [f"{tmp_path}/images/{i}.png" for i in range(9)]
    assert table["label"].tolist() == model.predict(pixels_in(tmp_path / "images")).tolist()
    assert table["label_1"].tolist() == table["label"].tolist()
    np.testing.assert_allclose(table["probability"], order[:, 0], rtol=1e-5)
    np.testing.assert_allclose(table["probability_2"], order[:, 1], rtol=1e-4)
    np.testing.assert_allclose(table["margin"], order[:, 0] - order[:, 1], atol=1e-6)
    assert table["error"].isna().all()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [out.name]


def test_one_image_and_a_threshold_that_is_none(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    assert repr(predict(small_model(), tmp_path)).startswith("PredictedImages(1 image)")
    for threshold in ("a", True, float("nan")):
        with raises_one_line("give a probability from 0 to 1", kind=ConfigError):
            predict(small_model(), tmp_path, threshold=threshold)  # type: ignore[arg-type]


def test_without_a_file_the_rows_are_in_memory(tmp_path: Path) -> None:
    write_images(tmp_path, 3)
    model = small_model()
    found = predict(model, tmp_path)
    written = predict(model, tmp_path, tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(found.table, written.table)
    assert found.table.columns.tolist() == ["path", "label", "probability", "margin", "error"]


@pytest.mark.parametrize(
    ("top", "says"),
    [
        (3, "--top 3: the model has 2 classes: give at most 2"),
        (0, "--top 0: give a whole number from 1 on"),
        (-1, "--top -1: give a whole number from 1 on"),
        (True, "--top True: give a whole number from 1 on"),
    ],
)
def test_more_classes_than_there_are(tmp_path: Path, top: int, says: str) -> None:
    write_images(tmp_path / "images", 1)
    with raises_one_line(says, kind=ConfigError):
        predict(small_model(), tmp_path / "images", tmp_path / "out.csv", top=top)
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("given", [None, 5, b"photos"])
def test_what_is_no_path_of_images(given: Any) -> None:
    with raises_one_line(f"images {given!r}: give a path, or a list of paths", kind=ConfigError):
        predict(small_model(), given)


def test_a_threshold_may_choose_the_less_probable_class(tmp_path: Path) -> None:
    write_images(tmp_path, 8)
    model = small_model(threshold=threshold_at(-30.0))
    found = predict(model, tmp_path).table
    assert set(found["label"]) == {"dog"}
    p = found["probability"]
    np.testing.assert_allclose(found["margin"], 2 * p - 1, atol=1e-6)
    assert (found["margin"] < 0).any()


def test_each_image_that_cannot_be_read_is_a_row(tmp_path: Path) -> None:
    write_images(tmp_path, 2)
    (tmp_path / "cut.png").write_bytes((tmp_path / "0.png").read_bytes()[:90])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no image")
    Image.new("F", (8, 8)).save(tmp_path / "float.tiff")
    Image.new("1", (10_000, 9_000)).save(tmp_path / "bomb.png")
    Image.new("L", (9, 8)).save(tmp_path / "large.png")
    found = predict(small_model(), tmp_path, tmp_path / "out.csv")
    errors = found.table.set_index(found.table["path"].map(lambda p: Path(p).name))["error"]
    assert pd.isna(errors["0.png"])
    assert errors["cut.png"] == "image file is truncated"
    assert errors["empty.png"] == "the file is empty"
    assert errors["text.jpg"] == "not an image of a known format"
    assert errors["float.tiff"] == "pixels are floating-point numbers"
    assert "more than 89,478,485 pixels" in errors["bomb.png"]
    assert errors["large.png"].startswith("it is 9×8 pixels, and the model's images are 8×8")
    assert (found.count, found.failed, len(found.first_failures)) == (8, 6, 3)


@pytest.mark.parametrize("classes", [("007", "NA"), ("1", "0"), ("a\nb", "None"), ("x", "1.50")])
@pytest.mark.parametrize("top", [1, 2])
def test_the_table_of_a_csv_file_is_the_same(
    classes: tuple[str, str], top: int, tmp_path: Path
) -> None:
    """Names of classes that look like numbers or like nothing stay texts."""
    write_images(tmp_path / "images", 12)
    (tmp_path / "images/cut.png").write_bytes(b"x")
    model, images = small_model(classes), tmp_path / "images"
    kept = predict(model, images, top=top).table
    assert set(kept["label"][:12]) <= set(classes) and pd.isna(kept["label"][12])
    for name in ("p.csv", "p.parquet"):
        read = predict(model, images, tmp_path / name, top=top).table
        pd.testing.assert_frame_equal(read, kept, rtol=1e-5)


def test_sizes_are_those_of_the_training_unless_it_cropped(tmp_path: Path) -> None:
    write_images(tmp_path, 4, size=(20, 16))
    strict, cropping = small_model(), small_model(crop=True)
    assert predict(strict, tmp_path).failed == 4
    resized = predict(strict, tmp_path, resize=True)
    assert resized.failed == 0
    pd.testing.assert_frame_equal(resized.table, predict(cropping, tmp_path).table)
    pixels = np.stack([decoder_of(cropping)(str(tmp_path / f"{i}.png")) for i in range(4)])
    np.testing.assert_allclose(
        resized.table["probability"], cropping.predict_proba(pixels).max(1), rtol=1e-5
    )


def test_colour_and_grey_files(tmp_path: Path) -> None:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"):
        ending = "tiff" if mode in ("CMYK", "YCbCr") else "png"
        Image.new(mode, (8, 8)).save(tmp_path / f"{mode.replace(';', '')}.{ending}")
    for shape in ((1, 8, 8), (3, 8, 8)):
        assert predict(small_model(shape=shape), tmp_path).failed == 0


def test_images_of_16_bits_that_use_12(tmp_path: Path) -> None:
    """A note where they are darker than the training images; they are predicted all the same."""
    for number in range(5):
        pixels = np.full((8, 8), 4095 if number else 70, np.uint16)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    Image.new("L", (8, 8), 200).save(tmp_path / "8bits.png")
    found = predict(small_model(), tmp_path)
    assert (found.count, found.failed, len(found.notes)) == (6, 0, 1)
    assert found.notes[0].startswith(
        "5 images have 16 bits and no value above 4,095 of 65,535, so they are read as 0 to 16 of "
        "255; the mean of the training images is 128"
    )
    assert "by 16" in found.notes[0] and found.notes[0].endswith("and 2 more")
    pixels = np.stack([decoder_of(small_model())(str(tmp_path / f"{i}.png")) for i in range(5)])
    assert pixels.max(axis=(1, 2, 3)).tolist() == [0, 16, 16, 16, 16]
    as_dark = small_model()
    as_dark.preprocess = replace(as_dark.preprocess, mean=(8 / 255,))
    assert not predict(as_dark, tmp_path).notes
    Image.fromarray(np.full((8, 8), 60_000, np.uint16)).save(tmp_path / "bright.png")
    assert not predict(small_model(), tmp_path).notes


def test_an_output_that_is_not_finite_is_a_row(tmp_path: Path) -> None:
    """The weights are finite, and the logits of an image overflow."""
    write_images(tmp_path, 2)
    model = small_model(scale=3e38)
    with torch.no_grad():
        model.network.head.weight.mul_(1e6)  # type: ignore[union-attr, operator]
    found = predict(model, tmp_path).table
    assert found["error"].tolist() == ["the model's output is not finite"] * 2


def test_weights_that_are_nan(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 1)
    model = small_model()
    with torch.no_grad():
        model.network.head.weight.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with raises_one_line("weights are not finite", kind=DivergenceError):
        predict(model, tmp_path / "images", tmp_path / "out.csv")
    assert not list(tmp_path.glob("*.csv"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("there.csv", "exists: give another file"),
        ("link.csv", "exists: give another file"),
        ("no/out.csv", "there is no folder"),
        ("out.txt", "ends in .parquet or .csv"),
        ("out", "ends in .parquet or .csv"),
    ],
)
def test_files_that_are_refused(name: str, says: str, tmp_path: Path) -> None:
    write_images(tmp_path / "images", 1)
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "link.csv").symlink_to("nowhere")
    with raises_one_line(says, kind=ConfigError):
        predict(small_model(), tmp_path / "images", tmp_path / name)
    assert (tmp_path / "there.csv").read_text() == "mine"


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_nothing_is_left_where_it_fails(ending: str, tmp_path: Path) -> None:
    """A list whose end cannot be read: known after rows are written."""
    write_images(tmp_path, 1)
    (tmp_path / "l.txt").write_text("0.png\n" * 300)
    out = tmp_path / f"out.{ending}"

    def progress(done: int, _: int | None) -> None:
        (tmp_path / "l.txt").unlink(missing_ok=True)
        raise DataError("the disk is gone")

    before = {path.name for path in tmp_path.iterdir()}
    with raises_one_line("the disk is gone"):
        predict(small_model(), tmp_path / "l.txt", out, progress=progress)
    assert {path.name for path in tmp_path.iterdir()} == before - {"l.txt"}


def test_a_file_that_has_come_to_exist_is_not_replaced(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 1)
    out = tmp_path / "out.csv"

    def progress(done: int, total: int | None) -> None:
        out.write_text("mine")

    with raises_one_line(f"--out {out}: File exists", kind=ConfigError):
        predict(small_model(), tmp_path / "images", out, progress=progress)
    assert out.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["out.csv"]


def test_any_number_of_images_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an endless input no more than two blocks are read ahead."""
    monkeypatch.setattr(module, "BLOCK", 8)
    read = 0

    def endless() -> object:
        nonlocal read
        while True:
            read += 1
            yield ImageItem("x", b"", "none")

    blocks = decoded_blocks(endless(), decoder_of(small_model()))  # type: ignore[arg-type]
    for number in range(1, 50):
        block, found = next(blocks)
        assert (len(block), len(found)) == (8, 8)
        assert read <= 8 * (number + 2)


def test_large_contents_are_read_in_smaller_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 1000)
    items = [ImageItem(str(i), b"x" * 400) for i in range(7)]
    blocks = decoded_blocks(iter(items), decoder_of(small_model()))
    assert [len(block) for block, _ in blocks] == [3, 3, 1]


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 200), st.binary(min_size=1, max_size=8))
def test_damaged_files_are_rows(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, at: int, change: bytes
) -> None:
    """Any bytes, and an image with some of its bytes changed."""
    folder = tmp_path_factory.mktemp("fuzz")
    write_images(folder, 1)
    whole = (folder / "0.png").read_bytes()
    (folder / "any.jpg").write_bytes(content)
    (folder / "changed.png").write_bytes(whole[:at] + change + whole[at + len(change) :])
    found = predict(small_model(), folder, resize=True)
    assert found.count == 3
    rows = found.table
    assert (rows["label"].isna() == rows["error"].notna()).all()
