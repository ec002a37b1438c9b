"""Ray that imbtune starts: who can reach it, and what it leaves behind."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from imbtune.tuning.cluster.connection import connected

TOKENS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in TOKENS:
        monkeypatch.delenv(name, raising=False)
    yield
    assert not any(name in os.environ for name in TOKENS)


def listening() -> set[str]:
    """The addresses at which this process and those below it listen."""
    me = psutil.Process()
    return {
        found.laddr.ip.removeprefix("::ffff:")
        for process in (me, *me.children(recursive=True))
        for found in process.net_connections("inet")
        if found.status == psutil.CONN_LISTEN
    }


@ray.remote
def token() -> str | None:
    return os.environ.get("RAY_AUTH_TOKEN")


def test_only_this_user_on_this_machine_reaches_it(tmp_path: Path) -> None:
    """Twice in one process, each time with another token, and nothing stays."""
    tokens, environment = [], dict(os.environ)
    for _ in range(2):
        before = listening()
        with connected(None):
            assert listening() - before == {"127.0.0.1"}
            tokens.append(ray.get(token.remote()))
            node: Any = ray._private.worker._global_node
            session = Path(node.get_session_dir_path())
            folder = session.parents[1]
            assert (
                folder.name.startswith("imbtune-ray-")
                and stat.S_IMODE(folder.stat().st_mode) == 0o700
            )
            for file in session.rglob("*"):
                if file.is_file():
                    assert str(tokens[-1]).encode() not in file.read_bytes()
        assert not folder.exists()
        assert {k: v for k, v in os.environ.items() if k in TOKENS} == {}
    assert len(set(tokens)) == 2 and all(len(str(each)) == 64 for each in tokens)
    assert not (tmp_path / ".ray").exists()
    assert not environment.keys() & set(TOKENS)
