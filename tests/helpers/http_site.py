"""A web server on loopback that answers well, badly or not at all."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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
