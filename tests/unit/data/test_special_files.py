"""Named pipes, sockets and devices among a user's files: told or refused, and never opened.

A pipe without a writer would make the process wait for ever, so a fault here is a test that hangs.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from data_files import encode, raises_one_line, read, save_to_disk, write_split
from small_data import make_images

from imbtune.data.cache import source_files
from imbtune.data.decoding import open_image
from imbtune.data.file_walk import files_below, files_in, is_special
from imbtune.inference.predicting.image_inputs import images_at

IMAGES = make_images([4, 4], 8, 3)
FILE = encode(IMAGES.array()[0])


@contextmanager
def listening(path: Path) -> Iterator[None]:
    """A socket at the path, whose length has a narrow limit."""
    here = Path.cwd()
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)
        yield


def classes(root: Path) -> Path:
    """Two classes of four images."""
    for name in ("ape", "bee"):
        (root / name).mkdir(parents=True)
        for i in range(4):
            (root / name / f"{i}.png").write_bytes(FILE)
    return root


def test_special_files_in_a_class_are_counted_and_named(tmp_path: Path) -> None:
    ape = classes(tmp_path) / "ape"
    (ape / "readme.txt").write_text("")
    os.mkfifo(ape / "pipe.png")
    os.mkfifo(ape / "pipe")
    (ape / "link.png").symlink_to("pipe")
    (ape / "zero.png").symlink_to("/dev/zero")
    (ape / "gone.gif.txt").symlink_to("nowhere")
    with listening(ape / "socket.jpg"):
        dataset = read("folder", tmp_path)
    assert dataset.train.counts(2).tolist() == [3, 3]
    endings, special, _ = dataset.notes
    assert "such an ending: 2 files, " in endings and "readme.txt" in endings
    assert special.startswith("not read, since no regular file (a named pipe, a socket or a device")
    assert (
        f": 5 files, {ape / 'link.png'}, {ape / 'pipe'}, {ape / 'pipe.png'} and 2 more" in special
    )


def test_special_files_beside_the_classes_are_named(tmp_path: Path) -> None:
    os.mkfifo(classes(tmp_path) / "pipe.png")
    (note, *_) = read("folder", tmp_path).notes
    assert note == f"not used, since not in the folder of a class: 1 image, {tmp_path / 'pipe.png'}"


def test_a_class_of_pipes_has_no_images(tmp_path: Path) -> None:
    (classes(tmp_path) / "cat").mkdir()
    os.mkfifo(tmp_path / "cat" / "0.png")
    with raises_one_line("cat is a class without images (1 file that no image can be: ", "0.png"):
        read("folder", tmp_path)


def test_a_pipe_that_appears_is_seen_by_the_cache(tmp_path: Path) -> None:
    """A note must be there at the next start, too."""
    classes(tmp_path)
    assert not any("named pipe" in note for note in read("folder", tmp_path).notes)
    os.mkfifo(tmp_path / "ape" / "pipe.png")
    for _ in range(2):
        assert any("named pipe" in note for note in read("folder", tmp_path).notes)
    assert tmp_path / "ape" / "pipe.png" in list(source_files(tmp_path, ["*"]))


def test_a_broken_link_that_appears_is_seen_by_the_cache(tmp_path: Path) -> None:
    """A class that is a link to a disk that is not there must not be left out."""
    assert len(read("folder", classes(tmp_path)).classes) == 2
    (tmp_path / "cat").symlink_to(tmp_path / "gone")
    with raises_one_line("cat is a link to", "gone, which is not there"):
        read("folder", tmp_path)


def test_an_image_in_a_row_that_is_a_pipe_cannot_be_read(tmp_path: Path) -> None:
    rows = [f"{name}/{i}.png,{name}" for name in ("ape", "bee") for i in range(4)]
    os.mkfifo(classes(tmp_path) / "ape" / "pipe.png")
    os.mkfifo(tmp_path / "tube")
    for name in ("ape/pipe.png", "tube"):
        table = "\n".join(["filename,label", *rows, f"{name},ape", ""])
        (tmp_path / "labels.csv").write_text(table)
        with raises_one_line("1 of 9 images cannot be read", f"{name} (no regular file)"):
            read("folder", tmp_path)
        assert len(read("folder", tmp_path, skip_corrupt=True).train) == 6


def as_csv(root: Path) -> Path:
    return classes(root) / "labels.csv"


def as_shard(root: Path) -> Path:
    write_split(root, "test", IMAGES)
    return root / "train.parquet"


def as_saved(name: str) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        save_to_disk(root, IMAGES, ["ape", "bee"])
        (path,) = root.glob(name)
        path.unlink()
        return path

    return make


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ("folder", as_csv),
        ("parquet", as_shard),
        ("parquet", as_saved("*.arrow")),
        ("parquet", as_saved("dataset_info.json")),
        ("npz", lambda root: root / "mine.npz"),
        ("cifar10", as_shard),
        ("svhn", lambda root: root / "train_32x32.mat"),
    ],
    ids=["csv", "shard", "arrow", "json", "npz", "published shard", "published"],
)
def test_a_pipe_in_place_of_a_file_is_refused(
    tmp_path: Path, data: str, place: Callable[[Path], Path]
) -> None:
    path = place(tmp_path)
    os.mkfifo(path)
    with raises_one_line(path, "is no regular file, but a named pipe, a socket or a device"):
        read(data, tmp_path)


def test_a_pipe_as_the_data_itself(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mine.npz")
    with raises_one_line("mine.npz", "no regular file"):
        read("npz", tmp_path / "mine.npz")


def test_what_is_special(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("")
    for name, target in (("gone", "nowhere"), ("round", "round"), ("to", "pipe"), ("ok", "file")):
        (tmp_path / name).symlink_to(target)
    assert {path.name for path in tmp_path.iterdir() if is_special(path)} == {"pipe", "to"}
    assert not is_special(tmp_path) and not is_special(tmp_path / "a\0b")
    assert [path.name for path in files_in(tmp_path)] == ["file", "ok", "pipe", "to"]
    found = [path.name for path in files_below(tmp_path)]
    assert found == ["file", "gone", "ok", "pipe", "round", "to"]
    with pytest.raises(OSError, match="no regular file"):
        open_image(str(tmp_path / "to"))


def test_predicting_passes_over_a_pipe_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(FILE)
    os.mkfifo(tmp_path / "1.png")
    os.mkfifo(tmp_path / "2")
    (tmp_path / "3.png").symlink_to("2")
    given = images_at(tmp_path)
    assert given.count == 1 == len(list(given.items()))
    (note,) = given.notes
    assert note.endswith("a socket or a device): 1.png, 2, 3.png")
