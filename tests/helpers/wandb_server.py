"""A server on loopback that answers W&B as far as runs need it, or misbehaves."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class WandbServer:
    """Keeps what runs send.

    Attributes:
        mode: `ok`; `500` to answer every request with that error; `hang` to answer none.
        url: of the server.
        runs: by ID, what was sent: its `config`, `name`, `group` and `rows` of history.
        artifacts: the names of those that were sent.
        requests: how many there were.
    """

    def __init__(self) -> None:
        self.mode = "ok"
        self.runs: dict[str, dict[str, Any]] = {}
        self.artifacts: list[str] = []
        self.requests = 0
        self._released = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                outer.requests += 1
                if outer.mode == "hang":
                    outer._released.wait()
                answer = outer.answer(self.path, body) if outer.mode == "ok" else {}
                content = json.dumps(answer).encode()
                self.send_response(200 if outer.mode == "ok" else 500)
                self.send_header("content-length", str(len(content)))
                self.send_header("content-type", "application/json")
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PUT = do_POST

            def handle(self) -> None:
                try:
                    super().handle()
                except ConnectionError:  # W&B has gone
                    return

            def log_message(self, *words: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        if path.endswith("/file_stream"):
            files = json.loads(body).get("files", {})
            history = files.get("wandb-history.jsonl", {})
            rows = self._run(path.split("/")[-2])["rows"]
            start = history.get("offset", 0)
            rows[start:] = map(json.loads, history.get("content", []))
            return {}
        if path != "/graphql":
            return {}
        request = json.loads(body)
        return {"data": self._data(request["query"], request.get("variables") or {})}

    def _run(self, number: str) -> dict[str, Any]:
        return self.runs.setdefault(number, {"rows": []})

    def _data(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        entity, project = given.get("entity") or "me", given.get("project") or "p"
        if "RunResumeStatus" in query:
            known = self.runs.get(str(given.get("name")))
            bucket = known and {
                "name": given["name"],
                "historyLineCount": len(known["rows"]),
                "eventsLineCount": 0,
                "logLineCount": 0,
                "historyTail": json.dumps([json.dumps(row) for row in known["rows"][-1:]]),
                "eventsTail": "[]",
                "summaryMetrics": "{}",
                "config": known.get("config", "{}"),
                "tags": [],
                "wandbConfig": "{}",
            }
            return {"model": {"name": project, "entity": {"name": entity}, "bucket": bucket}}
        if "upsertBucket" in query:
            run = self._run(str(given["name"]))
            for key, name in (
                ("config", "config"),
                ("displayName", "name"),
                ("groupName", "group"),
            ):
                if given.get(key):
                    run[name] = given[key]
            there = {"id": "p", "name": project, "entity": {"id": "e", "name": entity}}
            bucket = {
                "id": given["name"],
                "name": given["name"],
                "displayName": run.get("name", ""),
                "config": given.get("config") or "{}",
                "project": there,
                "historyLineCount": len(run["rows"]),
            }
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if "createRunFiles" in query:
            files = [{"name": f, "uploadUrl": f"{self.url}/upload"} for f in given["files"]]
            return {"createRunFiles": {"runID": "x", "uploadHeaders": [], "files": files}}
        if "createArtifact" in query:
            self.artifacts.append(str(given["input"]["artifactCollectionName"]))
            sequence: dict[str, Any] = {"latestArtifact": None}
            artifact = {"id": "a", "state": "COMMITTED", "artifactSequence": sequence}
            return {"createArtifact": {"artifact": artifact}}
        if "viewer" in query:
            viewer = {"id": "u", "username": "me", "entity": "me", "teams": {"edges": []}}
            return {"viewer": {**viewer, "flags": "{}"}, "serverInfo": {"features": []}}
        if "serverInfo" in query:
            return {"serverInfo": {"cliVersionInfo": {}, "features": []}}
        if "artifactType" in query:  # there is no such artifact yet
            return {"project": {"artifact": None}}
        return {}


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    """A server for the duration of a block."""
    server = WandbServer()
    try:
        yield server
    finally:
        server.close()
