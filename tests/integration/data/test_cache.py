"""Decoded data sets on disk: processes that race, and real CIFAR-10."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from data_files import same, write_split
from small_data import make_images

from imbtune.data.data_source import cache_folder
from imbtune.data.imbalance import Imbalance
from imbtune.data.load import DataSource, datasets, load
from imbtune.data.splits import Dataset, search_splits

FINGERPRINT = "1d5ca990ca897a03638b5cb32acbbed7dff6fd9da87bd202400fec9843377372"
CHILD = """
import sys, time
from pathlib import Path
from imbtune.data.readers import user
from imbtune.data.load import DataSource, load
from imbtune.data.imbalance import Imbalance
from imbtune.data.splits import search_splits

def slowly(*args, read=user.decode_images):
    print("decoding", flush=True)
    time.sleep(0.5)
    return read(*args)

user.decode_images = slowly
print("ready", flush=True)
sys.stdin.readline()
dataset = load("parquet", {"size": 8}, DataSource(Path(sys.argv[1])))
print(search_splits(dataset, Imbalance("as_is")).fingerprint())
"""


def write_parquet(root: Path) -> None:
    for split, seed in (("train", 0), ("test", 1)):
        write_split(root, split, make_images([6, 4], 16, 3, seed))


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


def entries(place: Path) -> list[Path]:
    return sorted(place.glob("*.images*"))


def equal(one: Dataset, other: Dataset) -> bool:
    parts = [(one.train, other.train), (one.test, other.test)]
    rest = [(d.classes, d.preprocessing, d.notes) for d in (one, other)]
    digests = all(a.digest() == b.digest() for a, b in parts)
    return all(same(a, b) for a, b in parts) and digests and rest[0] == rest[1]


def test_two_processes_that_race_decode_once(root: Path, place: Path) -> None:
    write_parquet(root)
    script = [sys.executable, "-c", CHILD, str(root)]
    pipe = subprocess.PIPE
    racers = [subprocess.Popen(script, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    assert [racer.stdout.readline() for racer in racers if racer.stdout] == ["ready\n"] * 2
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = [racer.communicate(timeout=60)[0].splitlines() for racer in racers]
    expected = search_splits(datasets["parquet"].make(DataSource(root), size=8), Imbalance("as_is"))
    assert [lines[-1] for lines in said] == [expected.fingerprint()] * 2
    assert sorted(lines[:-1] for lines in said) == [[], ["decoding"]]
    assert [path.suffix for path in entries(place)] == [".images"]


@pytest.mark.slow
def test_real_cifar10_is_the_same(real_cifar10: Path) -> None:
    """As it was before there was a cache; the entry is that of all tests."""
    os.environ.pop("IMBTUNE_CACHE")
    first, second = (load("cifar10", data_source=DataSource(real_cifar10)) for _ in range(2))
    splits = search_splits(second, Imbalance("exp", ratio=100))
    assert equal(first, second)
    assert splits.fingerprint() == FINGERPRINT
    assert cache_folder("decoded").is_dir()
