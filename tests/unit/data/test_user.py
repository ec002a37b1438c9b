"""The user's own data: folders, Parquet and .npz of every shape, and a line for each fault."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from data_files import encode, encode_all, raises_one_line, read, same, write_shard, write_split
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_data import make_images

from imbtune.config.train_config import TrainConfig
from imbtune.data.decoding import Decoder
from imbtune.data.imbalance import Imbalance, SubsetSeed
from imbtune.data.load import DataSource, datasets, load
from imbtune.data.readers.user import split_off_test
from imbtune.data.splits import Dataset, Images, final_splits, search_splits, share_counts
from imbtune.registry import Knob

NAMES = ("ape", "bee", "cat")
TRAIN, TEST = make_images([6, 4, 3], 16, 3), make_images([2, 2, 2], 16, 3, seed=5)


def write_folder(root: Path, images: Images, names: tuple[str, ...] = NAMES) -> list[Path]:
    """PNG files in the order of the images, each in the folder of its class."""
    paths = []
    for i, (file, label) in enumerate(zip(encode_all(images), images.labels, strict=True)):
        path = root / names[label] / f"{i:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file)
        paths.append(path)
    return paths


def test_folder_with_a_test_set(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", TRAIN)
    write_folder(tmp_path / "test", TEST)
    (tmp_path / "train" / "bee" / "Thumbs.db").write_text("no image")
    (tmp_path / "train" / "bee" / "._0001.png").write_text("what macOS leaves")
    dataset = read("folder", tmp_path)
    assert same(dataset.train, TRAIN) and same(dataset.test, TEST)
    assert dataset.classes == NAMES and dataset.notes == ()
    assert (dataset.preprocessing.pad, dataset.preprocessing.flip) == (2, True)
    pixels = TRAIN.array() / 255
    assert np.allclose(dataset.preprocessing.mean, pixels.mean(axis=(0, 2, 3)))
    assert np.allclose(dataset.preprocessing.std, pixels.std(axis=(0, 2, 3)))


def test_folder_of_classes_alone_is_split(tmp_path: Path) -> None:
    write_folder(tmp_path, TRAIN)
    dataset = read("folder", tmp_path, test_share=0.5)
    assert dataset.test.counts(3).tolist() == [3, 2, 1]  # two remain, one to validate on
    assert dataset.train.counts(3).tolist() == [3, 2, 2]
    every = {p.tobytes() for part in (dataset.train, dataset.test) for p in part.array()}
    assert every == {p.tobytes() for p in TRAIN.array()}
    assert "6 images, 0.5 of each class, are used as one" in dataset.notes[0]
    again, other = (read("folder", tmp_path, test_share=0.5, subset_seed=s) for s in (0, 1))
    assert same(again.test, dataset.test) and not same(other.test, dataset.test)


def test_folders_of_images_in_any_depth_and_a_class_named_train(tmp_path: Path) -> None:
    paths = write_folder(tmp_path, TRAIN, ("car", "plane", "train"))
    (tmp_path / "car" / "deep" / "er").mkdir(parents=True)
    paths[0].rename(tmp_path / "car" / "deep" / "er" / "0000.JPG")
    dataset = read("folder", tmp_path)
    assert dataset.classes == ("car", "plane", "train")
    assert (dataset.train.counts(3) + dataset.test.counts(3)).tolist() == [6, 4, 3]


def test_validation_folder_stands_in_for_a_test_set(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", TRAIN)
    write_folder(tmp_path / "val", TEST)
    assert same(read("folder", tmp_path).test, TEST)
    write_folder(tmp_path / "test", TRAIN)
    dataset = read("folder", tmp_path)
    assert same(dataset.test, TRAIN)
    assert dataset.notes[0].startswith(f"{tmp_path / 'val'} is not used")


def test_own_data_is_taken_as_it_is_and_a_profile_can_be_asked_for(tmp_path: Path) -> None:
    write_folder(tmp_path, make_images([20, 10, 10], 4, 3))
    for name in ("folder", "parquet", "npz"):
        assert TrainConfig.from_settings({"data": name}).data.shared.profile == "as_is"
    assert TrainConfig.from_settings({"data": "cifar10"}).data.shared.profile == "exp"
    config = TrainConfig.from_settings({"data": "folder", "data.test_share": 0.5})
    dataset = load("folder", config.data.knobs, DataSource(tmp_path))
    splits = search_splits(dataset, config.data.shared)
    assert splits.counts().tolist() == [8, 4, 4]
    assert splits.held_out.counts(3).tolist() == [2, 1, 1]
    assert splits.notes == dataset.notes
    for profile, expected in (("exp", [5, 2, 1]), ("step", [5, 1, 1])):
        imbalance = Imbalance(profile, ratio=5, val_per_class=1)
        assert final_splits(dataset, imbalance).counts().tolist() == expected


def test_class_too_small_to_validate_on_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", make_images([5, 1, 3], 4, 3))
    write_folder(tmp_path / "test", TEST.take(np.arange(6)))
    write_folder(tmp_path / "test", make_images([1, 1, 1], 4, 3))
    with raises_one_line("16×16", "4×4", "data.size=4"):
        read("folder", tmp_path)
    with raises_one_line("class 'bee' has 1 image in", "train, but needs 2", "add images"):
        read("folder", tmp_path, size=4)


@given(
    st.lists(st.integers(2, 40), min_size=2, max_size=6), st.floats(0.01, 0.9), st.integers(0, 9)
)
def test_set_aside_is_a_stratified_partition(sizes: list[int], share: float, seed: int) -> None:
    whole = Images(
        np.arange(sum(sizes) * 4, dtype=np.uint8).reshape(-1, 1, 2, 2),
        np.repeat(np.arange(len(sizes)), sizes),
    )
    names = tuple(f"class{k}" for k in range(len(sizes)))
    train, test = split_off_test(whole, names, share, seed)
    wanted = [
        min(n, max(size - 2, 1))
        for n, size in zip(share_counts(share, np.array(sizes)), sizes, strict=True)
    ]
    assert test.counts(len(sizes)).tolist() == wanted
    assert (train.counts(len(sizes)) + wanted).tolist() == sizes
    for n, k in zip(sizes, wanted, strict=True):
        assert 1 <= k <= n - 1
        assert abs(k - share * n) <= 0.5 or k in (1, n - 2)
    if sum(sizes) <= 60:  # the images are distinct then
        parts = [{p.tobytes() for p in part.array()} for part in (train, test)]
        assert not parts[0] & parts[1]


def test_grey_stays_grey_and_one_colour_makes_all_rgb(tmp_path: Path) -> None:
    grey = make_images([3, 3, 3], 8, 1)
    paths = write_folder(tmp_path, grey)
    dataset = read("folder", tmp_path)
    assert dataset.train.pixels.shape[1:] == (1, 8, 8) and len(dataset.preprocessing.mean) == 1
    paths[4].write_bytes(encode(make_images([1], 8, 3).array()[0]))
    assert read("folder", tmp_path).train.pixels.shape[1:] == (3, 8, 8)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 257, 65535], [32768, 300, 128]], dtype=np.uint16)
    for ending in ("png", "tif", "pgm"):
        path = tmp_path / f"deep.{ending}"
        Image.fromarray(values).save(path)
        pixels = Decoder(1, 2, 3)(str(path))[0]
        assert pixels.tolist() == [[0, 1, 255], [128, 1, 0]], ending


def test_camera_orientation_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((16, 32, 3), dtype=np.uint8)
    pixels[:, :16] = 255  # white on the left
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was turned: left of the file is the top of the scene
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    turned = Decoder(3, 32, 16)(str(tmp_path / "turned.jpg"))
    assert turned[:, :14].min() > 240 and turned[:, 18:].max() < 15


def test_images_are_scaled_and_cropped_to_a_square() -> None:
    pixels = np.zeros((3, 40, 80), dtype=np.uint8)
    pixels[:, :, 20:60] = 200  # the centred square
    for format in ("PNG", "JPEG"):
        cut = Decoder(3, 10, 10, crop=True)(encode(pixels, format))
        assert cut.shape == (3, 10, 10)
        assert abs(int(cut[:, 2:8, 2:8].min()) - 200) <= 2 and cut.max() <= 203
    up = Decoder(3, 100, 100, crop=True)(encode(pixels))
    assert up.shape == (3, 100, 100) and up[:, 2:98, 2:98].min() == 200


def test_formats_that_start_programs_are_no_images(tmp_path: Path) -> None:
    write_folder(tmp_path, TRAIN)
    (tmp_path / "ape" / "z.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with raises_one_line("z.png", "not an image of a known format"):
        read("folder", tmp_path)


@pytest.mark.parametrize("shards", [1, 3])
def test_parquet_with_and_without_a_test_set(tmp_path: Path, shards: int) -> None:
    write_split(tmp_path, "train", TRAIN, shards, names=list(NAMES))
    dataset = read("parquet", tmp_path)
    assert dataset.classes == NAMES
    assert dataset.test.counts(3).tolist() == [1, 1, 1]
    write_split(tmp_path, "validation", TEST)
    dataset = read("parquet", tmp_path)
    assert same(dataset.train, TRAIN) and same(dataset.test, TEST)


def test_parquet_without_names_has_numbers(tmp_path: Path) -> None:
    write_split(tmp_path, "train", TRAIN)
    assert read("parquet", tmp_path).classes == ("0", "1", "2")
    write_shard(tmp_path / "test.parquet", encode_all(TEST), [0, 1, 2, 3, 0, 1])
    with raises_one_line("class '3'", "test.parquet", "'0', '1', '2', these", "'1', '2', '3'"):
        read("parquet", tmp_path)


def test_sizes_that_differ_name_two_and_the_fix(tmp_path: Path) -> None:
    files = [*encode_all(TRAIN), encode(TRAIN.array()[0][:, :, :9])]
    write_shard(tmp_path / "train.parquet", files, [*TRAIN.labels.tolist(), 0])
    with raises_one_line("train.parquet, row 13 is 9×16", "others are 16×16", "data.size=16"):
        read("parquet", tmp_path)
    assert read("parquet", tmp_path, size=8).train.pixels.shape[1:] == (3, 8, 8)


RGB = TRAIN.array()
ARRAYS: dict[str, tuple[dict[str, Any], Images]] = {
    "NCHW": ({"images": RGB, "labels": TRAIN.labels}, TRAIN),
    "NHWC": ({"x_train": RGB.transpose(0, 2, 3, 1), "y_train": TRAIN.labels}, TRAIN),
    "NHW": ({"images": RGB[:, 0], "labels": TRAIN.labels}, Images(RGB[:, :1], TRAIN.labels)),
    "floats": ({"images": RGB / 255, "labels": TRAIN.labels}, TRAIN),
    "float32": ({"images": (RGB / 255).astype(np.float32), "labels": TRAIN.labels}, TRAIN),
    "int64": ({"images": RGB.astype(int), "labels": TRAIN.labels.astype(np.uint8)}, TRAIN),
    "column": ({"train_images": RGB, "train_labels": TRAIN.labels[:, None]}, TRAIN),
    "words": ({"images": RGB, "labels": np.array(NAMES)[TRAIN.labels]}, TRAIN),
    "bytes": ({"images": RGB, "labels": np.array(NAMES).astype("S")[TRAIN.labels]}, TRAIN),
}


@pytest.mark.parametrize("what", ARRAYS)
def test_arrays(tmp_path: Path, what: str) -> None:
    arrays, expected = ARRAYS[what]
    labels = next(v for k, v in arrays.items() if k in ("labels", "y_train", "train_labels"))
    np.savez_compressed(
        tmp_path / "mine.npz", **arrays, x_test=TEST.array(), y_test=labels[[0, 6, 10]].repeat(2, 0)
    )
    if expected.pixels.shape[1] == 1:
        np.savez(tmp_path / "mine.npz", **arrays, x_test=TEST.array()[:, 0], y_test=TEST.labels)
    for place in (tmp_path / "mine.npz", tmp_path):
        dataset = read("npz", place)
        assert same(dataset.train, expected)
        assert dataset.test.labels.tolist() == TEST.labels.tolist()
        assert dataset.classes == (NAMES if what in ("words", "bytes") else ("0", "1", "2"))


def test_arrays_are_cropped_and_split(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", images=RGB, labels=TRAIN.labels)
    dataset = read("npz", tmp_path, size=8)
    assert dataset.train.pixels.shape == (10, 3, 8, 8) and len(dataset.test) == 3


def save(root: Path, **arrays: Any) -> Path:
    path = root / "mine.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (("X_train", "Y_train"), ("X_test", "Y_test")),
        (("train_images", "train_labels"), ("test_images", "test_labels")),
        (("images", "labels"), ("x_val", "y_val")),
        (("x", "y"), ("X_eval", "y_eval")),
        (("train_data", "train_targets"), ("test_data", "test_targets")),
    ],
)
def test_names_of_arrays(tmp_path: Path, train: tuple[str, str], test: tuple[str, str]) -> None:
    arrays = {train[0]: RGB, train[1]: TRAIN.labels, test[0]: TEST.array(), test[1]: TEST.labels}
    dataset = read("npz", save(tmp_path, **arrays))
    assert same(dataset.train, TRAIN) and same(dataset.test, TEST)
    told = [note for note in dataset.notes if "is the test set" in note]
    assert len(told) == (test[0] == "x_val")


def test_arrays_that_are_not_used_are_named(tmp_path: Path) -> None:
    """MedMNIST has validation arrays; a user may have more."""
    arrays = {
        f"{split}_{kind}": RGB if kind == "images" else TRAIN.labels
        for split in ("train", "val", "test")
        for kind in ("images", "labels")
    }
    path = save(tmp_path, **arrays, notes=np.zeros(3), class_labels=np.zeros(3))
    val, others = read("npz", path).notes
    assert val.startswith(f"'val_images' of {path} is not used")
    assert others == f"{path} has arrays that are not used: 'notes', 'class_labels'"


def test_labels_are_matched_by_name_in_arrays(tmp_path: Path) -> None:
    words = np.array(NAMES)[TRAIN.labels]
    path = save(tmp_path, x_train=RGB, y_train=words, x_test=RGB[:2], y_test=["cat", "bee"])
    dataset = read("npz", path)
    assert dataset.test.labels.tolist() == [2, 1] and "('ape')" in dataset.notes[0]
    path = save(tmp_path, x_train=RGB, y_train=words, x_test=RGB[:2], y_test=["cat", "dog"])
    with raises_one_line(f"class 'dog' of 'y_test' of {path}", "'ape', 'bee', 'cat', these"):
        read("npz", path)


@pytest.mark.parametrize("base", [1, 10**12])
def test_ids_are_the_names_of_classes(tmp_path: Path, base: int) -> None:
    path = save(tmp_path, images=RGB, labels=TRAIN.labels * base + 1)
    dataset = read("npz", path)
    assert dataset.classes == tuple(str(k * base + 1) for k in range(3))
    assert "not all whole numbers from 0 on" in dataset.notes[0] and str(path) in dataset.notes[0]


BAD: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "names": ({"a": RGB}, ("['a']", "x_train and y_train", "images and labels")),
    "signed floats": ({"images": RGB / 127.5 - 1}, ("'images'", "-", "floats in [0, 1]")),
    "large floats": ({"images": RGB.astype(float)}, ("float64", "uint8, 0 to 255")),
    "not a number": ({"images": np.full(RGB.shape, np.nan)}, ("nan", "floats in [0, 1]")),
    "16 bits": ({"images": RGB.astype(np.uint16) * 257}, ("uint16", "uint8")),
    "words": ({"images": np.full(RGB.shape, "a")}, ("<U1", "save uint8")),
    "channels": ({"images": RGB.repeat(2, 1)}, ("(13, 6, 16, 16)", "1 or 3 channels")),
    "flat": ({"images": RGB.reshape(13, -1)}, ("(13, 768)", "(N, H, W)")),
    "fewer": ({"images": RGB[:12]}, ("12 images in 'images' and 13 labels", "one label per image")),
    "objects": ({"labels": np.array(list("abcabcabcabca"), object)}, ("dtype=str",)),
    "real labels": ({"labels": TRAIN.labels + 0.5}, ("'labels'", "label 0.5", "whole numbers")),
    "negative": ({"labels": TRAIN.labels - 1}, ("6 images with the label -1", "from 0")),
    "one-hot": ({"labels": np.eye(3, dtype=int)[TRAIN.labels]}, ("(13, 3)", "one per image")),
    "unknown": (
        {"x_test": RGB[:1], "y_test": [7]},
        ("'y_test'", "class '7'", "a class without training images", "'0', '1', '2'"),
    ),
    "other shape": (
        {"x_test": RGB[:2, :, :9], "y_test": [0, 1]},
        ("'images' has images of the shape (3, 16, 16)", "'x_test'", "(3, 9, 16)"),
    ),
    "other channels": (
        {"x_test": RGB[:2, 0], "y_test": [0, 1]},
        ("'x_test' has images of the shape (1, 16, 16)", "save images of one shape"),
    ),
    **{
        name: ({name: RGB}, (f"has images in '{name}'", "rename the array, as in x_test"))
        for name in ("x_holdout", "images_unseen", "x_test_2nd", "xtest", "testX", "X_trainval")
    },
    "two arrays": ({"x_train": RGB}, ("'images' and 'x_train'", "keep one")),
    "no test labels": ({"X_test": RGB}, ("'X_test' without 'y_test'",)),
    "transparent": ({"images": RGB[:, [0, 0, 0, 0]]}, ("1 or 3 channels",)),
    "one class": ({"labels": TRAIN.labels * 0}, ("only one class, '0'",)),
}


@pytest.mark.parametrize("what", BAD)
def test_arrays_that_cannot_be_used(tmp_path: Path, what: str) -> None:
    change, parts = BAD[what]
    arrays = change if "a" in change else {"images": RGB, "labels": TRAIN.labels} | change
    np.savez(tmp_path / "mine.npz", **arrays)
    with raises_one_line(*parts):
        read("npz", tmp_path / "mine.npz")


def test_broken_npz_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, images=RGB, labels=TRAIN.labels)
    whole = path.read_bytes()
    for content in (b"", b"no zip", whole[:500], whole[:300] + bytes(50) + whole[350:]):
        path.write_bytes(content)
        with raises_one_line(path, "not a complete .npz", "numpy.savez"):
            read("npz", path)
    path.write_bytes(whole)
    monkeypatch.setenv("IMBTUNE_MEMORY", "1KB")
    with raises_one_line(path, "10.3 KB", "memory limit of 2 KB", "Parquet or image files"):
        read("npz", path)
    monkeypatch.delenv("IMBTUNE_MEMORY")
    (tmp_path / "other.npz").write_bytes(whole)
    with raises_one_line(tmp_path, "2 .npz files", "set --data to one file"):
        read("npz", tmp_path)


def no_images(root: Path) -> None:
    for name in NAMES:
        (root / name).mkdir()


FOLDERS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "empty": (Path.exists, ("has no folders", "for each class")),
    "no images": (no_images, ("without images",)),
    "one class": (lambda root: write_folder(root, make_images([4], 4)), ("only one class, 'ape'",)),
    "single": (
        lambda root: write_folder(root, make_images([4, 1], 4)),
        ("class 'bee' has 1 image", "training, validation and test", "add a test set"),
    ),
    "strange class": (
        lambda root: [
            write_folder(root / p, TRAIN, n)
            for p, n in (("train", NAMES), ("test", ("ape", "bee", "dog")))
        ],
        ("test/dog", "a class without training images"),
    ),
}


@pytest.mark.parametrize("what", FOLDERS)
def test_folders_that_cannot_be_used(tmp_path: Path, what: str) -> None:
    make, parts = FOLDERS[what]
    make(tmp_path)
    with raises_one_line(tmp_path, *parts):
        read("folder", tmp_path)


@pytest.mark.parametrize("name", ["folder", "parquet", "npz"])
def test_own_data_must_be_given(name: str, tmp_path: Path) -> None:
    with raises_one_line(f"'{name}' needs a path", "--data", "$IMBTUNE_DATA"):
        read(name)
    if name == "parquet":
        with raises_one_line(tmp_path, "no train-*.parquet"):
            read(name, tmp_path)


def test_augmentation_by_name(tmp_path: Path) -> None:
    write_folder(tmp_path, make_images([4, 4, 4], 24, 3))
    dataset = read("folder", tmp_path)
    looks = {}
    for augment in ("standard", "shift", "shift_flip", "none"):
        preprocessing = final_splits(dataset, Imbalance("as_is", augment=augment)).preprocessing
        assert (preprocessing.mean, preprocessing.std) == (
            dataset.preprocessing.mean,
            dataset.preprocessing.std,
        )
        looks[augment] = (preprocessing.pad, preprocessing.flip)
    assert looks == {
        "standard": (3, True),
        "shift": (3, False),
        "shift_flip": (3, True),
        "none": (0, False),
    }
    digits = final_splits(read("digits"), Imbalance(augment="shift_flip", ratio=10)).preprocessing
    assert (digits.pad, digits.flip) == (1, True)
    bare = dataclasses.replace(
        dataset, preprocessing=dataclasses.replace(dataset.preprocessing, pad=0)
    )
    assert final_splits(bare, Imbalance("as_is", augment="shift")).preprocessing.pad == 3


def test_data_set_of_the_users_own() -> None:
    """It gets the data_source, its own knobs, and a shared setting that it asks for; no others."""
    seen = []

    @datasets.register("mine", help="a test's")
    def mine(
        data_source: DataSource,
        *,
        side: Annotated[int, Knob("pixels", 1)] = 3,
        subset_seed: SubsetSeed = 0,
    ) -> Dataset:
        seen.append((data_source, side, subset_seed))
        return read("digits")

    try:
        config = TrainConfig.from_settings({"data": "mine", "data.side": 7, "data.subset_seed": 5})
        load("mine", config.data.knobs, DataSource(Path("there"), skip_corrupt=True))
        load("mine")
    finally:
        del datasets._parts["mine"]
    assert seen == [(DataSource(Path("there"), True), 7, 5), (DataSource(), 3, 0)]


def test_an_image_is_named_by_its_file_or_its_place(tmp_path: Path) -> None:
    """Also of a subset, from the cache, and while the images stay encoded."""
    folder = tmp_path / "photos"
    for split, kind in ((s, k) for s in ("train", "test") for k in ("cat", "dög")):
        (folder / split / kind).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (8, 8), 10 * i).save(folder / split / kind / f"{i}.png")
    for _ in range(2):  # read, and then from the cache
        dataset = load("folder", None, DataSource(folder))
        assert dataset.train.names_in("") == [
            f"train/{kind}/{i}.png" for kind in ("cat", "dög") for i in range(3)
        ]
        few = dataset.test.take(np.array([4, 1]))
        assert few.names_in("") == ["test/dög/1.png", "test/cat/1.png"]
    plain = load("digits").train.take(np.array([7]))
    assert plain.names_in("") == ["load_digits 7"]
