"""torchvision's download against a real server on loopback: it works, and fails in one line."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from data_files import archive, md5, raises_one_line, read, same, write_cifar
from http_site import (
    Reply,
    Site,
    changed,
    circle,
    cut,
    cut_chunk,
    failing,
    foreign,
    not_found,
    serving,
    silent,
    whole,
)
from small_data import make_images
from torchvision.datasets import CIFAR10

from imbtune.progress.choose_view import reporting

pytestmark = [
    # tarfile's advice to torchvision, on Python 3.12 and 3.13
    pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning"),
    # torchvision leaves the responses of failed requests open
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

TEN = [f"thing {k}" for k in range(10)]
TRAIN, TEST = make_images([2] * 10, 32, 3), make_images([1] * 10, 32, 3, seed=4)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the download goes; no proxy stands before the loopback."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache" / "imbtune" / "cifar10"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server with a small CIFAR-10, which torchvision takes for the real one."""
    folder = write_cifar(tmp_path / "made", CIFAR10, TRAIN, TEST, TEN, monkeypatch)
    with serving() as site:
        site.archive, site.reply = archive(folder), whole
        monkeypatch.setattr(CIFAR10, "tgz_md5", md5(site.archive))
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{site.server_port}/cifar.tar.gz")
        yield site


def test_downloads_once(site: Site, cache: Path) -> None:
    dataset = read("cifar10")
    assert same(dataset.train, TRAIN)
    assert same(dataset.test, TEST)
    assert dataset.classes == tuple(TEN)
    assert (cache / "cifar-10-batches-py" / "data_batch_1").is_file()
    made = site.requests
    assert made > 0
    assert same(read("cifar10").train, TRAIN)
    assert site.requests == made


def test_a_download_is_progress_without_a_bar(
    site: Site, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of the work that needs the data; without a reporter, on standard error."""
    lines: list[str] = []
    with reporting(lines.append):
        read("cifar10")
    assert capfd.readouterr() == ("", "")
    size = len(site.archive) / 1e6
    assert lines[-1] == f"downloading cifar10: {size:.1f} of {size:.1f} MB (100%)"
    shutil.rmtree(cache)
    read("cifar10")
    said = capfd.readouterr()
    assert said.out == "" and "\r" not in said.err
    assert said.err.splitlines()[-1].endswith("Z  " + lines[-1])


FAILURES: dict[str, tuple[Reply, str]] = {
    "not found": (not_found, "404"),
    "failing": (failing, "503"),
    "another protocol": (foreign, "SSH-2.0-OpenSSH"),
    "hangs up": (silent, "closed connection"),
    "redirects in a circle": (circle, "302"),
    "cut within a chunk": (cut_chunk, "IncompleteRead"),
}


@pytest.mark.parametrize("what", FAILURES)
def test_server_that_fails(site: Site, cache: Path, what: str) -> None:
    site.reply, reason = FAILURES[what]
    with raises_one_line("could not download cifar10", cache, reason, "--data"):
        read("cifar10")
    assert site.requests > 0


@pytest.mark.parametrize("reply", [cut, changed])
def test_broken_download_has_a_fix_of_its_own(site: Site, cache: Path, reply: Reply) -> None:
    site.reply = reply
    with raises_one_line("download of cifar10", cache, "broken", "delete", "--data") as caught:
        read("cifar10")
    assert "parquet" not in str(caught.value)  # the fix of a wrong --data folder
    site.reply = whole
    assert same(read("cifar10").train, TRAIN)


def test_nothing_listens(site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:  # bound and not listening: nobody else gets the port
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{port}/cifar.tar.gz")
        with raises_one_line("could not download cifar10", cache, "refused", "--data"):
            read("cifar10")
    assert site.requests == 0
    assert not cache.exists()


def test_cache_that_cannot_be_made(site: Site, cache: Path) -> None:
    cache.parent.parent.write_text("a file in the way")
    with raises_one_line("could not download cifar10", cache, "--data"):
        read("cifar10")
    assert site.requests == 0
