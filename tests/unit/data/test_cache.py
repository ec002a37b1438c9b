"""Decoded data sets on disk: the same data as read anew, and never in the way."""

from __future__ import annotations

import functools
import os
import pickle
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import (
    encode,
    open_folder,
    raises_one_line,
    same,
    save_to_disk,
    unreadable,
    write_cifar,
    write_split,
)
from published_files import write_cinic, write_fashion, write_svhn, write_tiny
from small_data import make_images
from torchvision.datasets import CIFAR10, CIFAR100

from imbtune.data import cache, cache_file
from imbtune.data.images import EncodedPixels
from imbtune.data.imbalance import Imbalance
from imbtune.data.load import DataSource, datasets, load
from imbtune.data.splits import Dataset, search_splits

SMALL = "1KB"
FILES = ("cinic10", "tiny_imagenet", "folder", "parquet")  # of encoded images
NEVER_READ = ("valid", "wnids.txt")


def write_folder(root: Path) -> None:
    for split, seed in (("train", 0), ("test", 1)):
        images = make_images([6, 4], 16, 3, seed)
        for i, (pixels, k) in enumerate(zip(images.array(), images.labels, strict=True)):
            path = root / split / f"class{k}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(pixels))


def write_parquet(root: Path) -> None:
    for split, seed in (("train", 0), ("test", 1)):
        write_split(root, split, make_images([6, 4], 16, 3, seed))


def write_npz(root: Path) -> None:
    images = make_images([6, 4], 8, 3)
    np.savez(root / "data.npz", images=images.array(), labels=images.labels)


def write_cifars(kind: Any, classes: int) -> Callable[[Path, pytest.MonkeyPatch], None]:
    def write(root: Path, patch: pytest.MonkeyPatch) -> None:
        train, test = make_images([2] * classes, 32, 3), make_images([1] * classes, 32, 3, seed=1)
        write_cifar(root, kind, train, test, [f"class{k}" for k in range(classes)], patch)

    return write


WRITE: dict[str, Callable[..., Any]] = {
    "cifar10": write_cifars(CIFAR10, 10),
    "cifar100": write_cifars(CIFAR100, 100),
    "cinic10": lambda root, _: write_cinic(root),
    "svhn": write_svhn,
    "fashion_mnist": write_fashion,
    "tiny_imagenet": lambda root, _: write_tiny(root),
    "folder": lambda root, _: write_folder(root),
    "parquet": lambda root, _: write_parquet(root),
    "npz": lambda root, _: write_npz(root),
}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's folder, of this test alone."""
    monkeypatch.setenv("IMBTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "decoded"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder for a data set."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the data sets that are read from their files, as they are."""
    names: list[str] = []

    def counting(make: Callable[..., Dataset]) -> Callable[..., Dataset]:
        @functools.wraps(make)
        def count(data_source: DataSource, **knobs: Any) -> Dataset:
            names.append(make.__name__)
            return make(data_source, **knobs)

        return count

    for name in WRITE:
        entry = datasets[name]
        monkeypatch.setitem(datasets._parts, name, replace(entry, make=counting(entry.make)))
    return names


def entries(place: Path) -> list[Path]:
    return sorted(place.glob("*.images*"))


def equal(one: Dataset, other: Dataset) -> bool:
    parts = [(one.train, other.train), (one.test, other.test)]
    rest = [(d.classes, d.preprocessing, d.notes) for d in (one, other)]
    digests = all(a.digest() == b.digest() for a, b in parts)
    return all(same(a, b) for a, b in parts) and digests and rest[0] == rest[1]


def test_every_data_set_of_files_is_kept() -> None:
    kept = {entry.name for entry in datasets if hasattr(entry.make, "files")}
    assert kept == set(WRITE)
    assert set(datasets.names()) - kept == {"digits"}  # made in an instant


@pytest.mark.parametrize("memory", ["1GB", SMALL])
@pytest.mark.parametrize("name", list(WRITE))
def test_the_second_time_nothing_is_read(
    name: str,
    memory: str,
    root: Path,
    place: Path,
    made: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same data, notes and digests, whether in memory or encoded."""
    if name == "npz" and memory == SMALL:
        pytest.skip("arrays are always in memory")
    WRITE[name](root, monkeypatch)
    monkeypatch.setenv("IMBTUNE_MEMORY", memory)
    plain = datasets[name].make(DataSource(root))
    first, second = (load(name, data_source=DataSource(root)) for _ in range(2))
    assert equal(first, second) and equal(replace(plain, notes=first.notes), second)
    encoded = isinstance(plain.train.pixels, EncodedPixels)
    assert encoded == (memory == SMALL and name in FILES)
    keeps = memory != SMALL or encoded  # what is in memory against the limit is not kept
    assert made == [name] * (2 if keeps else 3)
    assert len(entries(place)) == keeps
    if keeps:
        assert isinstance(second.train.pixels, EncodedPixels) == encoded
        assert not second.train.labels.flags.writeable


@pytest.mark.parametrize("name", list(WRITE))
def test_all_files_that_may_be_read_are_known(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of any of them makes an entry void."""
    WRITE[name](root, monkeypatch)
    written = {path for path in root.rglob("*") if path.is_file()}
    never_read = {path for path in written if path.relative_to(root).parts[0] in NEVER_READ}
    assert set(cache.source_files(root, vars(datasets[name].make)["files"])) == written - never_read


def write_csv(root: Path) -> None:
    write_folder(root)
    rows = [f"{path.relative_to(root)},{path.parts[-2]}" for path in sorted(root.rglob("*.png"))]
    (root / "labels.csv").write_text("\n".join(["path,label", *rows]))


def write_saved(root: Path) -> None:
    save_to_disk(root / "train", make_images([6, 4], 16, 3), ["a", "b"])
    (root / "dataset_dict.json").write_text('{"splits": ["train"]}')


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("folder", write_csv),
        ("parquet", write_saved),
        ("parquet", lambda root: save_to_disk(root, make_images([6, 4], 16, 3), ["a", "b"])),
    ],
)
def test_other_layouts_are_kept_too(
    name: str, write: Callable[[Path], object], root: Path, made: list[str]
) -> None:
    """Until a file changes that was read."""
    write(root)
    first, second = (load(name, data_source=DataSource(root)) for _ in range(2))
    assert equal(first, second) and made == [name]
    for path in root.rglob("*"):
        if path.is_file():
            count = len(made)
            os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**6))
            load(name, data_source=DataSource(root))
            assert len(made) == count + 1, path


def change_time(root: Path) -> None:
    path = next(root.glob("train*"))
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 10**6))


def change_content(root: Path) -> None:
    """Other images; the size may be the same."""
    write_split(root, "train", make_images([6, 4], 16, 3, seed=7))


def add_file(root: Path) -> None:
    write_split(root, "validation", make_images([6, 4], 16, 3, seed=7))


@pytest.mark.parametrize("change", [change_time, change_content, add_file])
def test_a_changed_source_is_read_anew(
    change: Callable[[Path], None], root: Path, place: Path, made: list[str]
) -> None:
    write_parquet(root)
    load("parquet", data_source=DataSource(root))
    change(root)
    dataset = load("parquet", data_source=DataSource(root))
    assert equal(dataset, datasets["parquet"].make(DataSource(root)))
    assert made == ["parquet"] * 3
    assert len(entries(place)) == 1  # in the old one's place
    load("parquet", data_source=DataSource(root))
    assert len(made) == 3


def test_a_source_that_changes_while_it_is_read_is_not_kept(
    root: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(root)
    make = datasets["parquet"].make

    @functools.wraps(make)
    def change_then_make(data_source: DataSource, **knobs: Any) -> Dataset:
        change_content(root)
        whole: Dataset = make(data_source, **knobs)
        return whole

    entry = replace(datasets["parquet"], make=change_then_make)
    monkeypatch.setitem(datasets._parts, "parquet", entry)
    load("parquet", data_source=DataSource(root))
    assert not entries(place)


def test_other_code_reads_anew(
    root: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(root)
    for version in ("0.1", "0.1", "0.2"):
        monkeypatch.setattr(cache, "pillow_version", version)
        load("parquet", data_source=DataSource(root))
    assert len(made) == 2


def test_knobs_and_roots_have_entries_of_their_own(
    root: Path, place: Path, made: list[str], tmp_path: Path
) -> None:
    write_parquet(root)
    other = shutil.copytree(root, tmp_path / "other")
    for where, knobs in [(root, {}), (root, {"size": 0}), (root, {"size": 8}), (other, {})]:
        load("parquet", knobs, DataSource(where))
    assert len(entries(place)) == len(made) == 3  # 0 is the default


def rewrite(path: Path, content: bytes | bytearray) -> None:
    """Another file: one that is mapped must not shrink."""
    path.unlink()
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    rewrite(path, path.read_bytes()[:-100])


def cut_to_nothing(path: Path) -> None:
    rewrite(path, b"")


def cut_in_the_header(path: Path) -> None:
    rewrite(path, path.read_bytes()[:40])


def flip(at: float) -> Callable[[Path], None]:
    def flip_a_bit(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(at * (len(content) - 1))] ^= 1
        rewrite(path, content)

    return flip_a_bit


def with_holes(path: Path) -> None:
    """As a crash of the machine leaves a file that was renamed before it was on the disk."""
    rewrite(path, bytes(len(path.read_bytes())))


@pytest.mark.parametrize("memory", ["1GB", SMALL])
@pytest.mark.parametrize(
    "spoil",
    [cut_short, cut_to_nothing, cut_in_the_header, flip(0), flip(0.01), flip(1), with_holes],
)
def test_a_spoilt_entry_is_made_anew(
    spoil: Callable[[Path], None],
    memory: str,
    root: Path,
    place: Path,
    made: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IMBTUNE_MEMORY", memory)
    write_folder(root)
    whole = load("folder", {"size": 8}, DataSource(root))
    (path,) = entries(place)
    spoil(path)
    for _ in range(2):
        assert equal(load("folder", {"size": 8}, DataSource(root)), whole)
    assert len(made) == 2 and entries(place) == [path]


def test_every_flipped_bit_of_the_arrays_is_noticed(root: Path, place: Path) -> None:
    write_folder(root)
    load("folder", data_source=DataSource(root))
    (path,) = entries(place)
    content = path.read_bytes()
    dataset = cache_file.read_dataset(path, lambda _: True)
    assert dataset
    for array in (dataset.train.labels, dataset.test.array()):
        start = content.index(array.tobytes())
        for at in (start, start + array.nbytes - 1):
            spoilt = bytearray(content)
            spoilt[at] ^= 128
            rewrite(path, spoilt)
            assert cache_file.read_dataset(path, lambda _: True) is None


def test_memory_decides_anew_what_stays_encoded(
    root: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(root)
    for memory, encoded in (("1GB", False), (SMALL, True), (SMALL, True), ("1GB", False)):
        monkeypatch.setenv("IMBTUNE_MEMORY", memory)
        dataset = load("parquet", data_source=DataSource(root))
        assert isinstance(dataset.train.pixels, EncodedPixels) == encoded
        assert any("stay encoded" in note for note in dataset.notes) == encoded
    assert len(made) == 3


def test_what_was_left_out_is_still_said_and_still_asked_for(root: Path, made: list[str]) -> None:
    write_folder(root)
    next(root.glob("train/class0/*.png")).write_bytes(b"broken")
    for _ in range(2):
        with raises_one_line("1 of 20 images", "--skip-corrupt"):
            load("folder", data_source=DataSource(root))
    first, second = (
        load("folder", data_source=DataSource(root, skip_corrupt=True)) for _ in range(2)
    )
    assert "1 of 20 images" in first.notes[0] and equal(first, second)
    assert len(made) == 3
    with raises_one_line("1 of 20 images", "--skip-corrupt"):
        load("folder", data_source=DataSource(root))


def test_leave_to_skip_makes_no_second_entry_of_whole_data(
    root: Path, place: Path, made: list[str]
) -> None:
    write_folder(root)
    for skip_corrupt in (False, True):
        load("folder", data_source=DataSource(root, skip_corrupt))
    assert len(made) == len(entries(place)) == 1


def test_a_place_that_cannot_be_written_is_said_once_a_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with open_folder() as home:
        (home / "data").mkdir()
        write_parquet(home / "data")
        (home / "cache").mkdir()
        monkeypatch.setenv("IMBTUNE_CACHE", str(home / "cache"))
        with unreadable(home / "cache"):
            for _ in range(2):
                (note,) = load("parquet", data_source=DataSource(home / "data")).notes
                assert "Permission denied" in note and "$IMBTUNE_CACHE" in note
                assert len(note.splitlines()) == 1


def test_a_place_below_a_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(root)
    monkeypatch.setenv("IMBTUNE_CACHE", str(next(root.glob("*.parquet"))))
    (note,) = load("parquet", data_source=DataSource(root)).notes
    assert "Not a directory" in note


def test_a_disk_that_is_full_or_nearly(
    root: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on the size of files stands for a disk that fills up meanwhile."""
    write_parquet(root)
    usage = shutil._ntuple_diskusage(10**6, 10**6 - 100, 100)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage)
        (note,) = load("parquet", data_source=DataSource(root)).notes
    assert "half of the free disk space" in note and not entries(place)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        (note,) = load("parquet", data_source=DataSource(root)).notes
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert "File too large" in note and not entries(place)
    assert not load("parquet", data_source=DataSource(root)).notes


def test_no_home_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(root)
    for name in ("IMBTUNE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "")
    monkeypatch.setattr(Path, "home", lambda: Path("~nobody at all").expanduser())
    assert load("parquet", data_source=DataSource(root)).notes == ()


def test_old_entries_go_when_one_is_written(root: Path, place: Path, tmp_path: Path) -> None:
    write_parquet(root)
    load("parquet", data_source=DataSource(root))
    (used,) = entries(place)
    old, cut_off = place / "gone-0.images", place / "gone-1.images.part"
    past = time.time() - (cache.UNUSED_DAYS + 1) * 86400
    for path in (old, cut_off, used):
        path.touch()
        os.utime(path, (past, past))
    load("parquet", data_source=DataSource(root))  # uses it
    load("parquet", {"size": 8}, DataSource(root))
    assert used in entries(place) and len(entries(place)) == 2


def test_mapped_splits_survive_a_pickle_and_an_entry_that_goes(root: Path, place: Path) -> None:
    write_parquet(root)
    load("parquet", data_source=DataSource(root))
    dataset = load("parquet", data_source=DataSource(root))
    splits = search_splits(dataset, Imbalance("as_is"))
    (path,) = entries(place)
    path.unlink()
    assert pickle.loads(pickle.dumps(splits)).fingerprint() == splits.fingerprint()
    assert equal(dataset, datasets["parquet"].make(DataSource(root)))
