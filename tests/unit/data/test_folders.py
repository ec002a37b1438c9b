"""Folders of splits and classes: what each name means, and what is told or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_files import encode, open_folder, raises_one_line, read, unreadable
from small_data import make_images

from imbtune.data.file_walk import files_below
from imbtune.data.readers.split_names import TEST, TRAIN, VALIDATION, split_of
from imbtune.data.splits import Dataset

FILE = encode(make_images([1], 4).array()[0])


def write(folder: Path, *files: str) -> Path:
    """Image files, or of another ending any file."""
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(FILE)
    return folder


def write_classes(folder: Path, **sizes: int) -> Path:
    for name, size in sizes.items():
        write(folder / name, *(f"{i}.png" for i in range(size)))
    return folder


def link(path: Path, target: str) -> Path:
    path.symlink_to(target)
    return path


def sizes(dataset: Dataset) -> tuple[list[int], list[int]]:
    """Images of each class, for training and for testing."""
    classes = len(dataset.classes)
    return dataset.train.counts(classes).tolist(), dataset.test.counts(classes).tolist()


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (TRAIN, "train Train TRAIN training training_set trainset train-images Train_Data"),
        (TEST, "test Testing eval Evaluation test_set TESTSET test-images seg_test test2017"),
        (VALIDATION, "val Valid validation dev development val_images Validation-Set"),
        (None, "trains extra train_extra testament station dataset images unlabeled 2017 valley"),
    ],
)
def test_names_of_splits(kind: str | None, names: str) -> None:
    assert {name: split_of(name) for name in names.split()} == dict.fromkeys(names.split(), kind)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        *(("Train", "Test"), ("train", "Test"), ("training", "testing"), ("TRAIN", "eval")),
        *(("train", "VAL"), ("training_set", "test_set"), ("Training", "dev")),
    ],
)
def test_splits_are_recognised_in_any_spelling(tmp_path: Path, train: str, test: str) -> None:
    write_classes(tmp_path / train, ape=4, bee=3)
    write_classes(tmp_path / test, ape=2, bee=1)
    dataset = read("folder", tmp_path)
    assert dataset.classes == ("ape", "bee") and sizes(dataset) == ([4, 3], [2, 1])
    says_so = any(f"{tmp_path / test} is the test set" in note for note in dataset.notes)
    assert says_so == (split_of(test) == VALIDATION)


def test_validation_folder_beside_a_test_set_is_not_used_and_named(tmp_path: Path) -> None:
    for name, size in (("train", 4), ("Valid", 3), ("dev", 3), ("eval", 2)):
        write_classes(tmp_path / name, ape=size, bee=size)
    dataset = read("folder", tmp_path)
    assert sizes(dataset) == ([4, 4], [2, 2])
    assert [note.partition(" is not used")[0] for note in dataset.notes] == [
        str(tmp_path / "Valid"),
        str(tmp_path / "dev"),
    ]


Make = Callable[[Path], object]


def both(root: Path, *names: str) -> Path:
    for name in names:
        write_classes(root / name, ape=3, bee=3)
    return root


@pytest.mark.parametrize(
    "names",
    [
        *("trn tst", "TrainA TestA", "x_train x_test", "mydata_train mydata_test", "fold1 fold2"),
        *("pets-train pets-test", "train_real test_real", "trainval holdout", "a_train a_val b"),
    ],
)
def test_folders_that_look_like_splits_are_no_classes(tmp_path: Path, names: str) -> None:
    first, *_ = both(tmp_path, *names.split()).iterdir()
    with raises_one_line(tmp_path, f"'{first.name}'", "look like splits", "train and test"):
        read("folder", tmp_path)


def test_images_in_folders_named_like_splits_are_no_classes(tmp_path: Path) -> None:
    with raises_one_line("'x_test', 'x_train', which look like splits"):
        read("folder", write_classes(tmp_path, x_train=4, x_test=4))


def test_classes_may_have_words_of_splits_in_their_names(tmp_path: Path) -> None:
    write_classes(tmp_path, bullet_train=3, test_tube=3, ape=3)
    assert read("folder", tmp_path).classes == ("ape", "bullet_train", "test_tube")


def test_classes_with_the_same_folders_are_read_in_train(tmp_path: Path) -> None:
    for name in ("left", "right"):
        write_classes(tmp_path / "train" / "ape", **{name: 3})
        write_classes(tmp_path / "train" / "bee", **{name: 3})
    assert read("folder", tmp_path).classes == ("ape", "bee")


UNCLEAR: dict[str, tuple[Make, tuple[str, ...]]] = {
    "another folder": (
        lambda root: both(root, "train", "test", "extra"),
        ("/extra is beside", "train, test, val", "rename it, or move it away"),
    ),
    "classes beside a test set": (
        lambda root: (write_classes(root, ape=3, bee=3), both(root, "test")),
        ("/ape is beside",),
    ),
    "two test sets": (
        lambda root: both(root, "train", "test", "Eval"),
        ("several test sets, 'Eval', 'test'", "move one away"),
    ),
    "two training sets": (
        lambda root: both(root, "train", "Training"),
        ("several training sets",),
    ),
    "two validation sets": (
        lambda root: both(root, "train", "val", "dev"),
        ("several validation sets",),
    ),
    "no training set": (lambda root: both(root, "test", "val"), ("'test', 'val'", "no training")),
    "flat test set": (
        lambda root: (both(root, "train"), write(root / "test", "1.png", "2.png")),
        ("/test has 2 images, but no folders", "for each class", "move it away"),
    ),
    "empty test set": (
        lambda root: (both(root, "train"), write(root / "test" / "ape", "notes.txt")),
        ("/test is a split without images",),
    ),
    "flat splits": (
        lambda root: [write(root / name, "1.png", "2.png") for name in ("Train", "Val")],
        ("/Val has 2 images, but no folders",),
    ),
    "flat splits and masks": (
        lambda root: [write(root / name, "1.png", "2.png") for name in ("train", "test", "masks")],
        ("/masks is beside folders of splits",),
    ),
    "flat training set": (lambda root: write(root / "train", "1.png"), ("/train has no folders",)),
    "flat": (lambda root: write(root, "1.png", "2.png"), ("has no folders, and 2 images",)),
    "a folder around": (
        lambda root: both(root / "pets", "train", "test"),
        ("only one folder, 'pets'", "/pets"),
    ),
    "a folder around classes": (
        lambda root: write_classes(root / "pets", ape=3, bee=3),
        ("only one folder, 'pets'", "'ape', 'bee'", "set --data to"),
    ),
    "classes in a folder of a split's folder": (
        lambda root: (both(root / "seg_train", "seg_train"), both(root / "seg_test", "seg_test")),
        ("/seg_train has only one folder, 'seg_train'", "'ape', 'bee'", "move these up, into"),
    ),
    "a folder in the test set's": (
        lambda root: (both(root, "train"), both(root / "test", "images")),
        ("/test has only one folder, 'images'", "'ape', 'bee'", "move these up, into"),
    ),
    "splits in classes": (
        lambda root: (both(root / "ape", "train", "test"), both(root / "bee", "train", "test")),
        ("/ape has the folders 'test', 'train'", "train/ape"),
    ),
    "empty class": (
        lambda root: (both(root, "train"), write(root / "train" / "cat", "1.heic", "2.heic")),
        ("train/cat is a class without images (2 files with other endings: ", "1.heic"),
    ),
    "one image": (
        lambda root: write_classes(root, ape=3, bee=1),
        ("class 'bee' has 1 image in", "needs 3", "add a test set, or leave the class out"),
    ),
    "two images": (
        lambda root: write_classes(root, ape=3, bee=2, cat=2),
        ("class 'bee' has 2 images in", "needs 3", "and so do 1 other"),
    ),
    "one image beside a test set": (
        lambda root: (both(root, "test"), write_classes(root / "train", ape=3, bee=1)),
        ("class 'bee' has 1 image in", "/train, but needs 2", "training and validation"),
    ),
    "case": (
        lambda root: write_classes(root / "train", Cat=3, cat=3, dog=3),
        ("/train has the classes 'Cat' and 'cat'", "only in case"),
    ),
    "links to one folder": (
        lambda root: (both(root, "train"), link(root / "train" / "kitty", "ape")),
        ("/train/ape and", "/train/kitty are the same folder"),
    ),
    "Parquet": (
        lambda root: write(root, "train-00000-of-00001.parquet"),
        ("Hugging Face files", "data.name=parquet"),
    ),
}


@pytest.mark.parametrize("what", UNCLEAR)
def test_unclear_folders_are_named(tmp_path: Path, what: str) -> None:
    make, parts = UNCLEAR[what]
    make(tmp_path)
    with raises_one_line(tmp_path, *parts):
        read("folder", tmp_path)


def test_folders_without_images_beside_splits_do_not_matter(tmp_path: Path) -> None:
    both(tmp_path, "train", "test")
    write(tmp_path / "runs" / "one", "metrics.json")
    assert read("folder", tmp_path).notes == ()


def test_hidden_folders_and_files_of_tools_are_no_images(tmp_path: Path) -> None:
    hidden = (".ipynb_checkpoints", "@eaDir", "__MACOSX", ".git", "$RECYCLE.BIN", "__pycache__")
    both(tmp_path, "train", "test")
    for folder in (tmp_path, tmp_path / "train", tmp_path / "train" / "ape"):
        for name in hidden:
            write(folder / name / "x", "1.png")
    write(tmp_path / "train" / "bee", "._0.png", "Thumbs.db", "desktop.ini", ".DS_Store")
    dataset = read("folder", tmp_path)
    assert sizes(dataset) == ([3, 3], [3, 3]) and dataset.notes == ()


def test_links_never_count_an_image_twice(tmp_path: Path) -> None:
    write_classes(tmp_path / "data", ape=4, bee=4)
    ape = tmp_path / "data" / "ape"
    write_classes(tmp_path, elsewhere=3)
    (ape / "up").symlink_to(tmp_path / "data")
    (ape / "self").symlink_to(ape)
    (ape / "sibling").symlink_to(tmp_path / "data" / "bee")
    (ape / "round.png").symlink_to("round.png")
    (ape / "one").symlink_to(tmp_path / "elsewhere")
    (ape / "two").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(ape)
    (ape / "link.png").symlink_to(tmp_path / "elsewhere" / "0.png")
    with raises_one_line(ape / "round.png", "1 of 12 images cannot be read"):
        read("folder", tmp_path / "data")
    (ape / "round.png").unlink()
    dataset = read("folder", tmp_path / "data")
    assert (np.array(sizes(dataset)).sum(0)).tolist() == [4 + 3, 4]
    assert len(list(files_below(tmp_path))) == 4 + 1 + 4 + 3


@pytest.mark.parametrize("hard", [False, True])
def test_an_image_has_one_class_and_one_split(tmp_path: Path, hard: bool) -> None:
    both(tmp_path, "train", "test")
    ape = tmp_path / "train" / "ape" / "0.png"
    same, other, test = (
        tmp_path / name / "x.png" for name in ("train/ape/more", "train/bee", "test/ape")
    )
    same.parent.mkdir()
    same.hardlink_to(ape) if hard else same.symlink_to(ape)
    assert sizes(read("folder", tmp_path)) == ([3, 3], [3, 3])
    test.hardlink_to(ape) if hard else test.symlink_to(ape)
    with raises_one_line(test, "is the training image", ape):
        read("folder", tmp_path)
    test.rename(other)
    with raises_one_line(ape, other, "same file, in two classes"):
        read("folder", tmp_path)


@pytest.mark.parametrize("inner", ["", "bee"])
def test_a_test_set_that_links_to_the_training_set_is_refused(tmp_path: Path, inner: str) -> None:
    both(tmp_path, "train")
    if inner:
        write_classes(tmp_path / "test", ape=2)
    (tmp_path / "test" / inner).symlink_to(tmp_path / "train" / inner)
    with raises_one_line(tmp_path / "test", "is the training image"):
        read("folder", tmp_path)


def test_a_class_may_be_a_link(tmp_path: Path) -> None:
    write_classes(tmp_path / "all", ape=3, bee=3, cat=3)
    (tmp_path / "some").mkdir()
    for name in ("ape", "cat"):
        (tmp_path / "some" / name).symlink_to(tmp_path / "all" / name)
    assert read("folder", tmp_path / "some").classes == ("ape", "cat")


def test_link_that_leads_nowhere_is_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    write_classes(tmp_path, ape=3, bee=3)
    (tmp_path / "ape" / "gone.png").symlink_to("nowhere.png")
    with raises_one_line("1 of 7 images", "ape/gone.png (No such file", "--skip-corrupt"):
        read("folder", tmp_path)


def test_files_that_are_passed_over_are_counted_and_named(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", ape=3, bee=3)
    write(tmp_path / "train" / "ape" / "deep", "1.heic", "notes.txt", "README")
    write(tmp_path / "train", "loose.PNG")
    (tmp_path / "train" / "sizes.csv").write_text("name,width\n0.png,4\n")
    write(tmp_path, "preview.jpg", "README.md")
    dataset = read("folder", tmp_path)
    assert sizes(dataset) == ([2, 2], [1, 1])
    endings, loose, _ = dataset.notes
    deep = tmp_path / "train" / "ape" / "deep"
    assert endings.endswith(f": 3 files, {deep / '1.heic'}, {deep / 'README'}, {deep}/notes.txt")
    assert loose.endswith(f": 2 images, {tmp_path}/preview.jpg, {tmp_path}/train/loose.PNG")


def test_test_set_without_a_rare_class_is_used_with_a_note(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", ape=3, bee=3, cat=3)
    write_classes(tmp_path / "test", cat=2, ape=1)
    (tmp_path / "test" / "bee").mkdir()
    dataset = read("folder", tmp_path)
    assert sizes(dataset) == ([3, 3, 3], [1, 0, 2])
    (note,) = dataset.notes
    assert "no test image of 1 of its 3 classes ('bee')" in note and "metrics leave" in note


def test_spellings_of_a_class_in_the_test_set(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", **{"Ape": 3, "caf\u00e9": 3})
    write_classes(tmp_path / "test", **{"ape": 2, "cafe\u0301": 1})
    dataset = read("folder", tmp_path)
    assert dataset.classes == ("Ape", "caf\u00e9") and sizes(dataset) == ([3, 3], [2, 1])
    assert dataset.notes[0] == f"{tmp_path}/test/ape is taken for the class 'Ape'"


def test_folder_that_cannot_be_read_is_named() -> None:
    with open_folder() as home:
        write_classes(home, ape=3, bee=3)
        (home / "ape" / "deep").mkdir()
        with unreadable(home / "ape" / "deep"), raises_one_line("/ape/deep (Permission denied)"):
            read("folder", home)


@pytest.mark.parametrize(
    "names", [("part1", "part2"), ("shard_0", "shard_1"), ("fold_a", "fold_b")]
)
@pytest.mark.parametrize("inside", ["", "train"])
def test_classes_that_are_called_as_parts_are_named(
    names: tuple[str, str], inside: str, tmp_path: Path
) -> None:
    for k, name in enumerate(names):
        for i in range(6):
            path = tmp_path / inside / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(np.full((3, 8, 8), 10 * k + i, dtype=np.uint8)))
    found = read("folder", tmp_path)
    assert found.classes == names
    assert any(f"the classes are the folders '{names[0]}'" in note for note in found.notes)
