"""torchvision's download against a real server on loopback: it works, and fails in one line."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import make_images
from data_files import archive, md5, raises_one_line, read, same, write_cifar
from torchvision.datasets import CIFAR10

pytestmark = [
    # tarfile's advice to torchvision, on Python 3.12 and 3.13
    pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning"),
    # torchvision leaves the responses of failed requests open
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

TEN = [f"thing {k}" for k in range(10)]
TRAIN, TEST = make_images([2] * 10, 32, 3), make_images([1] * 10, 32, 3, seed=4)

Reply = Callable[["Handler"], None]


class Site(ThreadingHTTPServer):
    """Answers every request with `reply`, and counts them."""

    daemon_threads = False  # server_close waits for them
    reply: Reply
    archive: bytes
    files: Mapping[str, bytes]  # by path, where there are several
    requests = 0

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is expected here."""


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.requests += 1
        self.server.reply(self)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def send(self, length: int, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)


def whole(handler: Handler) -> None:
    handler.send(len(handler.server.archive), handler.server.archive)


def by_path(handler: Handler) -> None:
    content = handler.server.files[handler.path]
    handler.send(len(content), content)


def not_found(handler: Handler) -> None:
    handler.send_error(404)


def failing(handler: Handler) -> None:
    handler.send_error(503)


def cut(handler: Handler) -> None:
    handler.send(len(handler.server.archive), handler.server.archive[:1000])


def changed(handler: Handler) -> None:
    handler.send(1000, bytes(1000))


def cut_chunk(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n1234")


def foreign(handler: Handler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH\r\n")


def silent(handler: Handler) -> None:
    handler.close_connection = True


def circle(handler: Handler) -> None:
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.end_headers()


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


@contextmanager
def serving() -> Iterator[Site]:
    """A server on loopback that answers with its `files`."""
    site = Site(("127.0.0.1", 0), Handler)
    site.reply = by_path
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        site.shutdown()
        site.server_close()
        thread.join()
        gc.collect()  # the sockets that torchvision left: now, not in another test


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
def test_broken_download_has_a_mend_of_its_own(site: Site, cache: Path, reply: Reply) -> None:
    site.reply = reply
    with raises_one_line("download of cifar10", cache, "broken", "delete", "--data") as caught:
        read("cifar10")
    assert "parquet" not in str(caught.value)  # the mend of a wrong --data folder
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
