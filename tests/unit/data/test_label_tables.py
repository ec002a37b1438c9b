"""Labels in CSV files beside images: what a row can look like, and what is told or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_files import encode, raises_one_line, read
from small_data import make_images

from imbtune.data.splits import Dataset, Images

WORDS = ["ape", "bee", "cat", "ape", "bee", "cat", "ape", "bee", "cat", "ape", "ape", "bee"]
IMAGES = make_images([12], 6, 3)


def write_images(folder: Path, name: str = "{}.png", first: int = 0) -> Path:
    """Twelve images, of which each has other pixels."""
    for i, pixels in enumerate(IMAGES.array()[first:], first):
        path = folder / name.format(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(pixels))
    return folder


def write_csv(path: Path, header: str, row: str, words: list[str] = WORDS) -> None:
    """A row per image, from its number, `{i}`, and its class, `{word}`."""
    rows = [row.format(i=i, word=word) for i, word in enumerate(words)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows] if header else rows) + "\n")


def found(*parts: Images, classes: tuple[str, ...]) -> dict[int, str]:
    """The class of each image, by the image's number."""
    number = {pixels.tobytes(): i for i, pixels in enumerate(IMAGES.array())}
    return {
        number[pixels.tobytes()]: classes[k]
        for images in parts
        for pixels, k in zip(images.array(), images.labels, strict=True)
    }


def all_found(dataset: Dataset) -> dict[int, str]:
    return found(dataset.train, dataset.test, classes=dataset.classes)


EXPECTED = dict(enumerate(WORDS))


@pytest.mark.parametrize(
    ("images", "csv", "header", "row"),
    [
        ("images/{}.png", "labels.csv", "filename,label", "{i}.png,{word}"),
        ("{}.png", "labels.csv", "filename,label", "{i}.png,{word}"),
        ("images/{}.png", "labels.csv", "file_name,class", "images/{i}.png,{word}"),
        ("images/{}.PNG", "labels.csv", "Image ID;Target", "images\\{i}.png;{word}"),
        ("deep/er/{}.png", "Labels.TSV", "index\tPath\tlabel", "0\t./er/{i}.png\t{word}"),
        ("img/{}.png", "y.csv", "id,breed", "{i},{word}"),
        ("img/{}.png", "y.csv", "photo,label", "{i}.png,{word}"),
        ("img/{}.png", "y.csv", "", "{i}.png,{word}"),
        ("img/{}.png", "y.csv", '"image","label","by"', '"{i}.png","{word}","Ann, Bob"'),
        ("img/{}.png", "y.csv", "path,label", "/home/ann/data/img/{i}.png, {word} "),
        ("img/{}.png", "train.csv", "name,label", "{i}.png,{word}"),
        ("train/{}.png", "train/labels.csv", "filename,label", "{i}.png,{word}"),
        ("train/images/{}.png", "train/labels.csv", "filename,label", "{i}.png,{word}"),
    ],
)
def test_rows_name_images_in_many_ways(
    tmp_path: Path, images: str, csv: str, header: str, row: str
) -> None:
    write_images(tmp_path, images)
    write_csv(tmp_path / csv, header, row)
    dataset = read("folder", tmp_path)
    assert dataset.classes == ("ape", "bee", "cat") and all_found(dataset) == EXPECTED
    assert dataset.notes[0] == f"labels come from {tmp_path / csv}"
    assert "the data has no test set" in dataset.notes[1] and len(dataset.notes) == 2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_of_windows(tmp_path: Path, encoding: str) -> None:
    write_images(tmp_path / "images", "é{}.png")
    text = "filename,label\r\n" + "".join(f"e\u0301{i}.png,{w}\r\n" for i, w in EXPECTED.items())
    (tmp_path / "labels.csv").write_bytes(text.encode(encoding))
    assert all_found(read("folder", tmp_path)) == EXPECTED


def test_numbers_are_in_their_order_and_match_in_all_files(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    write_csv(tmp_path / "train.csv", "filename,label", "{i}.png,{word}", ["10", "9", "0"] * 3)
    (tmp_path / "test.csv").write_text("filename,label\n9.png,9.0\n10.png,10.0\n11.png,0.0\n")
    dataset = read("folder", tmp_path)
    assert dataset.classes == ("0", "9", "10")
    assert dataset.test.labels.tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("train", "test", "says"),
    [
        (["a", "b"], ["a", "b"], ""),
        ([" a", " b"], [" a", " b "], "' b ' in {test} and ' b' in {train} are taken for one"),
        ([" a", "a", "b"], ["a", "b"], "'a' in {test} and ' a' in {train} are taken for one"),
        (["a", "b"], ["a ", " b"], "one class; 1 more class is spelled in several ways, too"),
        (["1.0", "0"], ["1", "0"], "'1' in {test} and '1.0' in {train} are taken for one class"),
        (["1.0", "x"], ["1.0", "x"], ""),
        (["01", "1"], ["01", "1"], ""),
    ],
)
def test_two_spellings_of_a_class_are_noted(
    tmp_path: Path, train: list[str], test: list[str], says: str
) -> None:
    write_images(tmp_path)
    paths = {name: tmp_path / f"{name}.csv" for name in ("train", "test")}
    for name, words in {"train": train, "test": test}.items():
        numbers = range(8) if name == "train" else range(8, 12)
        rows = [f"{i}.png,{words[i % len(words)]}" for i in numbers]
        paths[name].write_text("\n".join(["filename,label", *rows]) + "\n")
    dataset = read("folder", tmp_path)
    assert len(dataset.classes) == 2
    notes = [note for note in dataset.notes if "taken for" in note]
    assert len(notes) == bool(says)
    assert says.format(**paths) in "".join(notes)


def test_two_spellings_in_one_file(tmp_path: Path) -> None:
    write_images(tmp_path)
    write_csv(tmp_path / "labels.csv", "filename,label", "{i}.png,{word}", [" a", "a", "b"] * 4)
    notes, path = read("folder", tmp_path).notes, tmp_path / "labels.csv"
    assert f"' a' in {path} and 'a' in {path} are taken for one class" in notes


def test_a_file_for_each_split(tmp_path: Path) -> None:
    """Files of the same name in both folders: each CSV file means its own."""
    for split, first in (("Train", 0), ("Test", 6)):
        write_images(tmp_path / split, first=first)
        names = "".join(f"{i}.png,{WORDS[i]}\n" for i in range(first, 12 if first else 9))
        (tmp_path / f"{split.lower()}_labels.csv").write_text(f"filename,label\n{names}")
    dataset = read("folder", tmp_path)
    train = found(dataset.train, classes=dataset.classes)
    test = found(dataset.test, classes=dataset.classes)
    assert train == {i: WORDS[i] for i in range(9)}
    assert test == {i: WORDS[i] for i in range(6, 12)}
    assert dataset.notes[0].endswith("train_labels.csv, " + str(tmp_path / "test_labels.csv"))
    assert "not used, since no CSV file has their label: 3 images" in dataset.notes[1]


def test_column_of_splits(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    splits = ["Train"] * 7 + ["val"] * 2 + ["TEST"] * 3
    rows = [f"{i}.png,{WORDS[i]},{split}\n" for i, split in enumerate(splits)]
    (tmp_path / "all.csv").write_text(
        "filename,label,Split\n" + "".join(rows).replace("6.png,ape", "6.png,cat")
    )
    dataset = read("folder", tmp_path)
    assert sorted(found(dataset.train, classes=dataset.classes)) == list(range(7))
    assert sorted(found(dataset.test, classes=dataset.classes)) == [9, 10, 11]
    _, val, missing = dataset.notes
    assert val.startswith(f"the split 'val' of {tmp_path}/all.csv is not used")
    assert "no test image of 1 of its 3 classes ('cat')" in missing


def test_images_without_a_row_are_counted_and_named(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    write_csv(tmp_path / "labels.csv", "filename,label", "{i}.png,{word}", WORDS[:10])
    dataset = read("folder", tmp_path)
    assert sorted(all_found(dataset)) == list(range(10))
    assert dataset.notes[1].endswith(
        f": 2 images, {tmp_path}/images/10.png, {tmp_path}/images/11.png"
    )


@pytest.mark.parametrize("header", ["filename,label", "filename,label,,", "filename,label,", ""])
def test_empty_columns_of_spreadsheets_are_left_out(tmp_path: Path, header: str) -> None:
    write_images(tmp_path)
    write_csv(tmp_path / "labels.csv", header, '{i}.png,"{word}, small",,')
    expected = {i: f"{word}, small" for i, word in EXPECTED.items()}
    assert all_found(read("folder", tmp_path)) == expected


def test_a_caption_may_have_several_lines(tmp_path: Path) -> None:
    write_images(tmp_path)
    write_csv(tmp_path / "labels.csv", "filename,label,caption", '{i}.png,{word},"one\ntwo, three"')
    assert all_found(read("folder", tmp_path)) == EXPECTED


def test_a_repeated_row_counts_once(tmp_path: Path) -> None:
    write_images(tmp_path)
    write_csv(tmp_path / "labels.csv", "filename,label", "{i}.png,{word}\n{i}.png,{word}")
    dataset = read("folder", tmp_path)
    assert len(dataset.train) + len(dataset.test) == 12


def test_missing_images_are_counted_and_can_be_skipped(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    (tmp_path / "images" / "4.png").unlink()
    write_csv(tmp_path / "labels.csv", "filename,label", "images/{i}.png,{word}")
    with raises_one_line("1 of 12 images", "images/4.png (No such file", "--skip-corrupt"):
        read("folder", tmp_path)
    dataset = read("folder", tmp_path, skip_corrupt=True)
    assert all_found(dataset) == {i: word for i, word in EXPECTED.items() if i != 4}


def test_a_row_with_folders_names_no_file_in_other_folders(tmp_path: Path) -> None:
    write_images(tmp_path / "other")
    write_csv(tmp_path / "labels.csv", "filename,label", "cats/{i}.png,{word}")
    with raises_one_line("labels.csv lists 12 images, and none is below"):
        read("folder", tmp_path)


def test_a_missing_test_image_is_not_taken_from_the_training_images(tmp_path: Path) -> None:
    write_images(tmp_path / "train")
    write_csv(tmp_path / "train.csv", "filename,label", "train/{i}.png,{word}", WORDS[:8])
    (tmp_path / "test.csv").write_text("filename,label\ntest/8.png,cat\n")
    with raises_one_line("1 of 9 images", "test/8.png (No such file"):
        read("folder", tmp_path)


@pytest.mark.parametrize("row", ["{i},{word}", "img\\{i},{word}", "C:\\x\\img\\{i}.png,{word}"])
def test_folders_decide_between_files_of_one_name(tmp_path: Path, row: str) -> None:
    write_images(tmp_path / "img")
    if "\\" in row:
        write_images(tmp_path / "more")
    write_csv(tmp_path / "y.csv", "id,label", row)
    assert all_found(read("folder", tmp_path)) == EXPECTED


@pytest.mark.parametrize("header", ["lesion,image_id,dx", "image,diag"])
@pytest.mark.parametrize("part", ["HAM10000_images_part_{}", "part_{}", "batch{}", "images_00{}"])
def test_folders_that_are_parts_are_no_classes(tmp_path: Path, header: str, part: str) -> None:
    for k, name in enumerate((part.format(1), part.format(2))):
        for i in range(6 * k, 6 * k + 6):
            path = tmp_path / name / f"{i}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(encode(IMAGES.array()[i]))
    row = "x,{i},{word}" if "lesion" in header else "{i},{word}"
    write_csv(tmp_path / "metadata.csv", header, row)
    assert all_found(read("folder", tmp_path)) == EXPECTED
    write_csv(tmp_path / "metadata.csv", "x,image_id,what", "x,{i},{word}")
    with raises_one_line("metadata.csv has the columns", "it needs 'filename' and 'label'"):
        read("folder", tmp_path)


def test_other_csv_files_beside_folders_of_classes(tmp_path: Path) -> None:
    for word in ("ape", "bee"):
        write_images(tmp_path / word)
    write_csv(tmp_path / "sizes.csv", "filename,width", "ape/{i}.png,6")
    write_csv(tmp_path / "words.csv", "word,label", "{word},x")
    dataset = read("folder", tmp_path)
    assert dataset.classes == ("ape", "bee")
    write_csv(tmp_path / "sizes.csv", "filename,label", "ape/{i}.png,{word}")
    (tmp_path / "words.csv").unlink()
    assert read("folder", tmp_path).classes == ("ape", "bee", "cat")


def one(root: Path, text: str, name: str = "labels.csv") -> Path:
    write_images(root / "images")
    (root / name).write_text(text)
    return root


ROWS = "".join(f"{i}.png,{word}\n" for i, word in EXPECTED.items())


def link_to_an_image(root: Path) -> None:
    """A row of its own for a link to an image."""
    one(root, f"filename,label\n{ROWS}x.png,bee\n")
    (root / "x.png").symlink_to("images/3.png")


WRONG: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "columns": (
        lambda root: one(root, "a,b,c\n1,2,3\n"),
        ("labels.csv has the columns 'a', 'b', 'c'", "'filename' and 'label'", "each class"),
    ),
    "one-hot": (
        lambda root: one(root, "image,ape,bee\n0,0,1\n"),
        ("has the columns 'image', 'ape', 'bee'",),
    ),
    "no file": (
        lambda root: one(root, "filename,label\nx.png,ape\n"),
        ("lists 1 image, and none is below", "column of file names"),
    ),
    "empty": (lambda root: one(root, "\n"), ("labels.csv is empty", "'filename' and 'label'")),
    "a folder around": (
        lambda root: one(root, f"filename,label\n{ROWS}", "images/labels.csv"),
        ("only one folder, 'images', with the CSV file 'labels.csv': set --data to", "/images"),
    ),
    "no text": (
        lambda root: (one(root, ""), (root / "labels.csv").write_bytes(b"filename,label\n1,\xe9")),
        ("cannot read", "labels.csv", "UTF-8"),
    ),
    "no label": (
        lambda root: one(root, f"filename,label\n{ROWS}3.png,\n"),
        ("labels.csv, line 14: '3.png' has no label",),
    ),
    "two labels": (
        lambda root: one(root, f"filename,label\n{ROWS}3.png,bee\n"),
        ("line 14: '3.png' has the labels 'ape' and 'bee'", "exactly one"),
    ),
    "short row": (
        lambda root: one(root, f"x,filename,label\n0,{ROWS}"),
        ("line 3 has 2 columns, and the header has 3",),
    ),
    "comma in a label": (
        lambda root: one(root, f"filename,label\n{ROWS}3.png,ape, small\n"),
        ("labels.csv, line 14 has 3 columns, and the header has 2: put text with ',' in quotes",),
    ),
    "semicolon in a label": (
        lambda root: one(root, "filename;label;\n0.png;ape;\n1.png;bee; small\n"),
        ("line 3 has 3 columns, and the header has 2: put text with ';' in quotes",),
    ),
    "comma in a split": (
        lambda root: one(root, "filename,label,split\n0.png,ape, small,train\n"),
        ("line 2 has 4 columns, and the header has 3",),
    ),
    "comma in a label without a header": (
        lambda root: one(root, f"{ROWS}3.png,ape, small\n"),
        ("line 13 has 3 columns, and the first row has 2",),
    ),
    "unclosed quote": (
        lambda root: one(root, f'filename,label\n0.png,"Käse\n{ROWS}'),
        ("labels.csv, line 2 has a quote that is not closed on the line: close it",),
    ),
    "unclosed quote in the last line": (
        lambda root: one(root, f'filename,label\n{ROWS}0.png,"ape'),
        ("labels.csv, line 14 has a quote that is not closed",),
    ),
    "quotes that close each other": (
        lambda root: one(root, f'filename,label\n\n0.png,"ape\n{ROWS}1.png,"\n'),
        ("labels.csv, line 3 has a quote that is not closed",),
    ),
    "a quote that the next row's ends": (
        lambda root: one(root, 'filename,label\n0.png,"ape\n1.png,"bee"\n'),
        ("labels.csv, line 2 has a quote that is not closed",),
    ),
    "unclosed quote in a caption": (
        lambda root: one(root, 'filename,label,caption\n0.png,ape,"an\n1.png,bee,a\n'),
        ("labels.csv, line 2 has a quote that is not closed",),
    ),
    "unclosed quote in a long file": (
        lambda root: one(root, 'filename,label\n0.png,"ape\n' + ROWS * 1000),
        ("labels.csv, line 2 has a quote that is not closed",),
    ),
    "unclosed quote in the header": (
        lambda root: one(root, f'filename,"label\n{ROWS}1.png,"\n'),
        ("labels.csv, line 1 has a quote that is not closed",),
    ),
    "text after a quote": (
        lambda root: one(root, 'filename,label\n0.png,"ape" small\n1.png,bee\n'),
        ("labels.csv, line 2 cannot be read (", "correct its quotes"),
    ),
    "unlabelled": (
        lambda root: one(root, "filename,label\n0.png,-1\n1.png,0\n"),
        ("labels.csv has 1 image with the label -1",),
    ),
    "unknown split": (
        lambda root: one(root, "filename,label,split\n0.png,ape,train\n1.png,ape,fold1\n"),
        ("line 3: the split 'fold1' is none of train, test, val",),
    ),
    "two of one name": (
        lambda root: (one(root, f"filename,label\n{ROWS}"), write_images(root / "more")),
        ("'0.png' of", "several files", "images/0.png", "more/0.png", "write their paths"),
    ),
    "test without labels": (
        lambda root: (
            one(root, f"filename,label\n{ROWS}", "train.csv"),
            (root / "test.csv").write_text("filename\n3.png\n"),
        ),
        ("test.csv has the columns 'filename', but no labels", "move the file away"),
    ),
    "another file": (
        lambda root: (
            one(root, f"filename,label\n{ROWS}"),
            (root / "sample_submission.csv").write_text("filename,label\n1.png,x"),
        ),
        ("labels.csv is one of 2 CSV files", "rename it, or move it away"),
    ),
    "a link with another label": (
        link_to_an_image,
        ("line 14: 'x.png' has the labels 'ape' and 'bee'",),
    ),
    "in both splits": (
        lambda root: (
            one(root, f"filename,label\n{ROWS}", "train.csv"),
            (root / "test.csv").write_text("filename,label\n3.png,ape\n"),
        ),
        ("test.csv, line 2: '3.png' is in the training and in the test set",),
    ),
    "test class": (
        lambda root: (
            one(root, f"filename,label\n{ROWS[:-11]}", "train.csv"),
            (root / "test.csv").write_text("filename,label\n11.png,dog\n"),
        ),
        ("class 'dog' of", "test.csv", "'ape', 'bee', 'cat', these have 'dog'"),
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_files_that_cannot_be_used(tmp_path: Path, what: str) -> None:
    make, parts = WRONG[what]
    make(tmp_path)
    with raises_one_line(tmp_path, *parts):
        read("folder", tmp_path)


def test_the_labels_are_those_of_the_same_images_in_folders(tmp_path: Path) -> None:
    write_images(tmp_path / "csv" / "images")
    write_csv(tmp_path / "csv" / "labels.csv", "filename,label", "{i}.png,{word}")
    for i, word in EXPECTED.items():
        path = tmp_path / "folders" / word / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(IMAGES.array()[i]))
    csv, folders = (read("folder", tmp_path / name) for name in ("csv", "folders"))
    assert all_found(csv) == all_found(folders) and csv.classes == folders.classes
    assert np.array_equal(
        csv.train.counts(3) + csv.test.counts(3), folders.train.counts(3) + folders.test.counts(3)
    )


def with_columns(tmp_path: Path, columns: str, cells: Callable[[int], str]) -> None:
    """18 images of three classes, and a label file with further columns."""
    lines = [f"filename,label,{columns}"]
    for i in range(18):
        (tmp_path / f"{i}.png").write_bytes(encode(np.full((3, 8, 8), i, dtype=np.uint8)))
        lines.append(f"{i}.png,class {i % 3},{cells(i)}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("columns", "cells"),
    [
        ("is_train", lambda i: str(int(i < 12))),
        ("Is Test", lambda i: "yes" if i >= 12 else "No"),
        ("isTraining,in_val", lambda i: f"{i < 12},{i >= 12}"),
        ("is_train,is_val,is_test", lambda i: "1,0,0" if i < 12 else "0,0,1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_columns_of_yes_and_no_tell_the_split(
    columns: str, cells: Callable[[int], str], tmp_path: Path
) -> None:
    with_columns(tmp_path, columns, cells)
    found = read("folder", tmp_path)
    assert (len(found.train), len(found.test)) == (12, 6)
    assert any(columns.split(",")[0] in note for note in found.notes)


@pytest.mark.parametrize(
    ("columns", "cells", "message"),
    [
        ("is_train", "maybe", "line 2: 'is_train' is 'maybe': give 1 or 0"),
        ("is_train,is_train", "1,0", "'is_train', 'is_train', of which two say the same: keep one"),
        ("is_train,InTrain", "1,0", "'is_train', 'InTrain', of which two say the same: keep one"),
        ("is_train,is_test", "1,1", "mark it for test and training: mark one"),
        ("split,is_train", "train,1", "has the columns 'split', 'is_train', which all tell"),
    ],
)
def test_columns_that_contradict_are_refused(
    columns: str, cells: str, message: str, tmp_path: Path
) -> None:
    with_columns(tmp_path, columns, lambda _: cells)
    with raises_one_line(message):
        read("folder", tmp_path)


def test_a_column_of_folds_is_named_in_a_note(tmp_path: Path) -> None:
    with_columns(tmp_path, "fold", lambda i: str(i % 5))
    notes = read("folder", tmp_path).notes
    assert any("not used: 'fold'" in note and "give a column 'split'" in note for note in notes)


def test_a_row_of_another_split_than_its_file_is_refused(tmp_path: Path) -> None:
    with_columns(tmp_path, "split", lambda i: "val" if i == 4 else "train")
    (tmp_path / "labels.csv").rename(tmp_path / "train.csv")
    (tmp_path / "test.csv").write_text("filename,label\n0.png,class 0\n")
    with raises_one_line("train.csv, line 6: the split is 'val', and the file is the training set"):
        read("folder", tmp_path)
