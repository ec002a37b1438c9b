"""Whether a process works on a study, and that finding out disturbs nobody."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from imbtune.errors import StudyError
from imbtune.storage import Store
from imbtune.study.lock import is_running, study_lock


def test_a_study_is_running_while_its_lock_is_held(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert not is_running(store)
    assert not list(tmp_path.iterdir())  # it creates nothing
    with study_lock(store):
        before = (tmp_path / ".lock").stat()
        assert is_running(store)
        assert (tmp_path / ".lock").stat().st_mtime_ns == before.st_mtime_ns
        with pytest.raises(StudyError, match="in use by another process"), study_lock(store):
            pass
    assert not is_running(store)
    with study_lock(store):  # the look has not kept the lock
        pass
    assert not is_running(Store(str(tmp_path / "missing")))


def test_a_search_starts_while_a_page_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".lock").touch()
    file = os.open(tmp_path / ".lock", os.O_RDONLY)
    fcntl.flock(file, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda _: os.close(file))
    with study_lock(Store(str(tmp_path))):
        assert is_running(Store(str(tmp_path)))


def test_without_locks_a_recent_change_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / "trials").mkdir()
    for name in (".lock", "trials/part-000000.parquet"):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (1e9, 1e9))
    assert not is_running(Store(str(tmp_path)))
    (tmp_path / "trials/part-000001.parquet").write_text("")
    assert is_running(Store(str(tmp_path)))
