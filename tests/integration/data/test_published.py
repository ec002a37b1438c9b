"""SVHN, Fashion-MNIST, CINIC-10 and Tiny-ImageNet: downloads from a real server on loopback."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from data_files import md5, raises_one_line, read, same
from http_site import Site, changed, not_found, serving
from published_files import (
    GREY,
    GREY_TEST,
    RGB,
    RGB_TEST,
    TINY,
    TINY_TEST,
    in_order,
    write_cinic,
    write_fashion,
    write_svhn,
    write_tiny,
)
from torchvision.datasets import SVHN, FashionMNIST

from imbtune.data.readers import published
from imbtune.data.splits import Images

pytestmark = [
    pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache" / "imbtune"


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


def tar(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for part in sorted(folder.iterdir()):
            packed.add(part, arcname=part.name)
    return buffer.getvalue()


def zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            packed.write(path, f"tiny-imagenet-200/{path.relative_to(folder)}")
    return buffer.getvalue()


def offer(name: str, root: Path, site: Site, patch: pytest.MonkeyPatch) -> tuple[Images, Images]:
    """The data set on the server, where its makers' constants point to from now on."""
    root.mkdir()
    address = f"http://127.0.0.1:{site.server_port}"
    if name == "svhn":
        site.files = write_svhn(root, patch)
        lists = {s: [f"{address}/{e[1]}", *e[1:]] for s, e in SVHN.split_list.items()}
        patch.setattr(SVHN, "split_list", lists)
        return RGB, RGB_TEST
    if name == "fashion_mnist":
        site.files = write_fashion(root, patch)
        patch.setattr(FashionMNIST, "mirrors", [f"{address}/"])
        return GREY, GREY_TEST
    made = tar(write_cinic(root)) if name == "cinic10" else zipped(write_tiny(root))
    path, constant = (
        ("/c.tar.gz", "CINIC_ARCHIVE") if name == "cinic10" else ("/t.zip", "TINY_ARCHIVE")
    )
    site.files = {path: made}
    patch.setattr(published, constant, (address + path, md5(made)))
    return (RGB, RGB_TEST) if name == "cinic10" else (TINY, TINY_TEST)


DOWNLOADED = ["svhn", "fashion_mnist", "cinic10", "tiny_imagenet"]


@pytest.mark.parametrize("name", DOWNLOADED)
def test_downloads_once(
    name: str, tmp_path: Path, site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = offer(name, tmp_path / "made", site, monkeypatch)
    dataset = read(name)
    assert same(dataset.train, train) and same(in_order(dataset.test), test)
    made = site.requests
    assert made > 0
    assert same(read(name).train, train)
    assert site.requests == made
    assert sorted(path.name for path in cache.iterdir()) == sorted([name, "decoded"])


@pytest.mark.parametrize("name", DOWNLOADED)
def test_downloads_that_fail_and_break(
    name: str, tmp_path: Path, site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, _ = offer(name, tmp_path / "made", site, monkeypatch)
    reply: Any = site.reply
    site.reply = not_found
    with raises_one_line(f"could not download {name}", cache, "404", "--data"):
        read(name)
    assert [path.name for path in cache.iterdir()] == ["decoded"]
    site.reply = changed
    with raises_one_line(f"the download of {name}", cache, "is broken", "delete that folder"):
        read(name)
    site.reply = reply
    assert same(read(name).train, train)
