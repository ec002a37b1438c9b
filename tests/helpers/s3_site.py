"""A small S3 server on loopback that can fail: enough of the protocol for pyarrow.

It has GET, HEAD, PUT, DELETE, listings and uploads in parts, all in memory.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest


class S3Site(ThreadingHTTPServer):
    """Objects by `/bucket/key`.

    Attributes:
        mode: `well`; or `busy`, which answers 503; `silent`, which hangs up; `slow`, which waits
            `delay` seconds before each answer.
    """

    daemon_threads = True
    mode, delay, requests = "well", 0.0, 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}

    @property
    def uri(self) -> str:
        """Of a prefix in a bucket."""
        endpoint = f"http://127.0.0.1:{self.server_port}"
        return f"s3://studies/prefix?endpoint_override={endpoint}&region=us-east-1"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is expected here."""


class _Handler(BaseHTTPRequestHandler):
    server: S3Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if not self._begin():
            return
        if "list-type" in self._query:
            self._list()
        elif self._path in self.server.objects:
            content, code = self.server.objects[self._path], 200
            if found := re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                end = int(found[2]) + 1 if found[2] else len(content)
                content, code = content[int(found[1]) : end], 206
            self._answer(code, content)
        else:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def do_HEAD(self) -> None:
        if not self._begin():
            return
        known = self._path.count("/") == 1 or self._path in self.server.objects
        self._answer(200 if known else 404, self.server.objects.get(self._path, b""))

    def do_PUT(self) -> None:
        content = self._body()
        if not self._begin():
            return
        if "partNumber" in self._query:
            parts = self.server.uploads[self._query["uploadId"][0]]
            parts[int(self._query["partNumber"][0])] = content
        elif self._path.count("/") > 1:
            self.server.objects[self._path] = content
        self._answer(200, b"")

    def do_POST(self) -> None:
        self._body()
        if not self._begin():
            return
        if "uploads" in self._query:
            name = f"u{len(self.server.uploads)}"
            self.server.uploads[name] = {}
            result = f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId>"
            self._answer(200, f"{result}</InitiateMultipartUploadResult>".encode())
        elif "uploadId" in self._query:
            parts = self.server.uploads.pop(self._query["uploadId"][0])
            self.server.objects[self._path] = b"".join(parts[n] for n in sorted(parts))
            self._answer(200, b"<CompleteMultipartUploadResult/>")
        else:
            self._answer(200, b"<DeleteResult/>")

    def do_DELETE(self) -> None:
        if self._begin():
            self.server.objects.pop(self._path, None)
            self._answer(204, b"")

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _begin(self) -> bool:
        """Read the address; False where the server fails this request."""
        split = urlsplit(self.path)
        self._path = unquote(split.path).rstrip("/")
        self._query = parse_qs(split.query, keep_blank_values=True)
        self.server.requests += 1
        mode = self.server.mode  # read once: it may change at any time
        if mode == "busy":
            self._answer(503, b"")
        elif mode == "silent":
            self.close_connection = True
        elif mode == "slow":
            time.sleep(self.server.delay)
        return mode in ("well", "slow")

    def _list(self) -> None:
        bucket, prefix = self._path, self._query.get("prefix", [""])[0]
        keys = [key[len(bucket) + 1 :] for key in sorted(self.server.objects)]
        keys = [key for key in keys if key.startswith(prefix)]
        folders = set()
        if self._query.get("delimiter", [""])[0]:
            rests = {key: key[len(prefix) :].partition("/") for key in keys}
            folders = {prefix + head + "/" for head, slash, _ in rests.values() if slash}
            keys = [key for key in keys if not rests[key][1]]
        found = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.server.objects[f'{bucket}/{key}'])}"
            "</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for key in keys
        ) + "".join(
            f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
            for folder in sorted(folders)
        )
        count = f"<KeyCount>{len(keys) + len(folders)}</KeyCount><IsTruncated>false</IsTruncated>"
        self._answer(200, f"<ListBucketResult>{count}{found}</ListBucketResult>".encode())

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            content = b""
            while length := int(self.rfile.readline(), 16):
                content += self.rfile.read(length)
                self.rfile.readline()
            self.rfile.readline()
        else:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") != "aws-chunked":
            return content
        found = b""
        while length := int(content.partition(b"\r\n")[0].partition(b";")[0], 16):
            start = content.index(b"\r\n") + 2
            found += content[start : start + length]
            content = content[start + length + 2 :]
        return found

    def _answer(self, code: int, content: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", '"e"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def s3_site(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Site]:
    """A running server, whose keys are in the environment."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    site = S3Site()
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        site.shutdown()
        site.server_close()
        thread.join()
