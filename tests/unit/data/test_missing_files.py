"""Links that lead nowhere, files in place of folders, and data that was not fetched or unpacked."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_files import encode, raises_one_line, read, save_to_disk, write_split
from small_data import make_images

IMAGES = make_images([4, 4], 8, 3)
FILE = encode(IMAGES.array()[0])
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"


def classes(root: Path, *names: str, size: int = 4) -> Path:
    """Folders of classes with `size` images each."""
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(size):
            (root / name / f"{i}.png").write_bytes(FILE)
    return root


@pytest.mark.parametrize("link", ["test", "val", "c", "train/c", "labels.csv"])
def test_link_that_leads_nowhere_may_be_a_class_or_a_split(tmp_path: Path, link: str) -> None:
    classes(tmp_path, "train/a", "train/b")
    path = tmp_path / link
    path.symlink_to("/gone/away")
    with raises_one_line(path, "is a link to /gone/away, which is not there", "remove the link"):
        read("folder", tmp_path)


def test_link_of_a_class_beside_others_leads_nowhere_or_to_itself(tmp_path: Path) -> None:
    classes(tmp_path, "a", "b")
    (tmp_path / "c").symlink_to("c")
    with raises_one_line(tmp_path / "c", "is a link to c, which is not there"):
        read("folder", tmp_path)
    (tmp_path / "c").unlink()
    (tmp_path / ".c").symlink_to("/gone")  # hidden
    (tmp_path / "c.png").symlink_to("/gone.png")  # an image outside of all classes
    assert read("folder", tmp_path).classes == ("a", "b")


@pytest.mark.parametrize("name", ["c", "test"])
def test_link_to_a_file_in_place_of_a_folder(tmp_path: Path, name: str) -> None:
    classes(tmp_path, "data/a", "data/b")
    (tmp_path / "file").write_text("x")
    (tmp_path / "data" / name).symlink_to("../file")
    with raises_one_line(tmp_path / "data" / name, "is a link to the file ../file", "folder"):
        read("folder", tmp_path / "data")


def test_links_of_shards_and_of_their_folders_that_lead_nowhere(tmp_path: Path) -> None:
    write_split(tmp_path, "train", IMAGES)
    for path in (tmp_path / "test-00000-of-00001.parquet", tmp_path / "data"):
        path.symlink_to("/gone/x")
        with raises_one_line(path, "is a link to /gone/x, which is not there"):
            read("parquet", tmp_path)
        path.unlink()
    (tmp_path / "a.npz").symlink_to("/gone/a.npz")
    with raises_one_line(tmp_path / "a.npz", "/gone/a.npz, which is not there"):
        read("npz", tmp_path)


def test_missing_file_of_a_saved_data_set(tmp_path: Path) -> None:
    save_to_disk(tmp_path, IMAGES, ["ape", "bee"], files=2)
    path = tmp_path / "data-00001-of-00002.arrow"
    path.unlink()
    with raises_one_line(path, "is missing"):
        read("parquet", tmp_path)
    path.symlink_to("/gone")
    with raises_one_line(path, "is a link to /gone, which is not there"):
        read("parquet", tmp_path)


def test_pointers_of_git_lfs(tmp_path: Path) -> None:
    for name, file in (("parquet", "train.parquet"), ("npz", "x.npz"), ("folder", "labels.csv")):
        (tmp_path / name).mkdir()
        path = tmp_path / name / file
        path.write_text(POINTER)
        with raises_one_line(path, "git lfs pull"):
            read(name, tmp_path / name)
    (classes(tmp_path / "images", "a", "b") / "a" / "0.png").write_text(POINTER)
    with raises_one_line("1 of 8 images", "git lfs pull"):
        read("folder", tmp_path / "images")


@pytest.mark.parametrize("other", ["1.0", "+1"])
def test_spellings_of_one_number_are_refused_and_zeros_in_front_kept(
    tmp_path: Path, other: str
) -> None:
    def write(*labels: str) -> None:
        rows = [f"{i}.png,{labels[i % len(labels)]}" for i in range(12)]
        (tmp_path / "labels.csv").write_text("\n".join(["filename,label", *rows]))

    for i in range(12):
        (tmp_path / f"{i}.png").write_bytes(FILE)
    write("01", "1", "2")
    assert read("folder", tmp_path).classes == ("01", "1", "2")
    write("1", other, "2")
    with raises_one_line("'1'", f"'{other}'", "the same number"):
        read("folder", tmp_path)
    (tmp_path / "labels.csv").write_text("filename,label,Label\n0.png,a,b\n")
    with raises_one_line("several columns 'label'"):
        read("folder", tmp_path)


def test_one_folder_of_a_split_in_several_folders_is_enough(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        classes(tmp_path / name / "train", "a", "b")
    with raises_one_line("'images', 'masks'", "folders of splits in them"):
        read("folder", tmp_path)


@pytest.mark.parametrize("name", ["test", "test.zip", "val.tar.gz"])
@pytest.mark.parametrize("split", ["", "train"])
def test_file_in_place_of_a_test_set(tmp_path: Path, name: str, split: str) -> None:
    classes(tmp_path / split, "a", "b")
    (tmp_path / name).write_text("x")
    with raises_one_line(tmp_path / name, "is a file", "unpack it, or move it away"):
        read("folder", tmp_path)


def test_file_in_place_of_a_test_set_beside_validation_images(tmp_path: Path) -> None:
    for split in ("train", "val"):
        classes(tmp_path / split, "a", "b")
    (tmp_path / "test.zip").write_text("x")
    with raises_one_line(tmp_path / "test.zip", "is a file", "unpack it, or move it away"):
        read("folder", tmp_path)
    (tmp_path / "test.zip").rename(tmp_path / "val.zip")  # what val/ was unpacked from
    assert read("folder", tmp_path).classes == ("a", "b")


def test_file_in_place_of_a_test_set_beside_a_table(tmp_path: Path) -> None:
    classes(tmp_path / "train", "a", "b")
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    rows = [f"{name},{name.split('/')[1]}" for name in names]
    (tmp_path / "labels.csv").write_text("\n".join(["filename,label", *rows]))
    (tmp_path / "test.zip").write_text("x")
    with raises_one_line(tmp_path / "test.zip", "is a file", "unpack it, or move it away"):
        read("folder", tmp_path)


@pytest.mark.parametrize(
    "name", ["labels.xlsx", "labels.csv.gz", "metadata.jsonl", "labels.json", "y.npy", "y.parquet"]
)
def test_a_list_of_labels_that_is_not_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "0.png").write_bytes(FILE)
    (tmp_path / name).write_text("x")
    with raises_one_line("has no folders, and 1 image", tmp_path / name, "save them as CSV"):
        read("folder", tmp_path)
    (tmp_path / name).rename(tmp_path / "images.tar.gz")  # no list
    with raises_one_line("or list their labels in a CSV file beside it") as caught:
        read("folder", tmp_path)
    assert "images.tar.gz" not in str(caught.value)


@pytest.mark.parametrize(
    ("images", "name", "says"),
    [
        ("images", "labels.xlsx", "images is the only folder, and has 1 image: sort"),
        ("images", "images/metadata.jsonl", "images is the only folder, and has 1 image: sort"),
        ("train", "labels.csv.gz", "train has no folders, and 1 image: sort"),
        ("train", "train/metadata.jsonl", "train has no folders, and 1 image: sort"),
        ("test", "test.json", "test has 1 image, but no folders"),
    ],
)
def test_such_a_list_may_be_beside_the_folder_of_the_images(
    tmp_path: Path, images: str, name: str, says: str
) -> None:
    if images == "test":
        classes(tmp_path / "train", "a", "b")
    (tmp_path / images).mkdir()
    (tmp_path / images / "0.png").write_bytes(FILE)
    (tmp_path / name).write_text("x")
    with raises_one_line(says, f"(not read: {tmp_path / name}; ", "save them as CSV"):
        read("folder", tmp_path)


def test_empty_test_folder_and_empty_table_are_told_as_empty(tmp_path: Path) -> None:
    classes(tmp_path / "folders" / "train", "a", "b")
    (tmp_path / "folders" / "test").mkdir()
    with raises_one_line(tmp_path / "folders" / "test", "is empty"):
        read("folder", tmp_path / "folders")
    (tmp_path / "labels.csv").write_text("filename,label\n")
    (tmp_path / "folders").rename(tmp_path / ".folders")
    with raises_one_line(tmp_path / "labels.csv", "is empty but for its header"):
        read("folder", tmp_path)
