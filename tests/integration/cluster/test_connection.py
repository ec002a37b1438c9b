"""Servers on loopback that are no Ray cluster."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from imbtune.cli.main import app


class QuietHandler(BaseHTTPRequestHandler):
    """A web server's answer to what it does not understand, without log lines."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize("answers", [False, True], ids=["silent", "HTTP/1"])
def test_another_program_at_the_address_is_one_line(
    answers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself would try for 40 seconds, and print warnings of its C++ code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("imbtune.tuning.cluster.connection.STATUS_SECONDS", 4)
    with ThreadingHTTPServer(("127.0.0.1", 0), QuietHandler) as server:
        if answers:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        args = ["search", "digits-lt", "--address", address]
        result = CliRunner().invoke(app, args, catch_exceptions=False)
        if answers:
            server.shutdown()
    assert result.exit_code == 2
    line = f"error: cannot connect to a Ray cluster at '{address}' (`ray status` got no answer"
    assert result.stderr.startswith(line) and result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
