"""Whether a process works on a study, and that finding out disturbs nobody."""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import time
from pathlib import Path

import pytest

from imbtune.errors import StudyError
from imbtune.storage import Store
from imbtune.study.lock import Activity, activity_of, study_lock


def test_a_study_is_running_while_its_lock_is_held(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert activity_of(store) == Activity(False)
    assert not list(tmp_path.iterdir())  # it creates nothing
    with study_lock(store):
        before = (tmp_path / ".lock").stat()
        assert activity_of(store).locked
        assert (tmp_path / ".lock").stat().st_mtime_ns == before.st_mtime_ns
        with pytest.raises(StudyError, match="in use by another process"), study_lock(store):
            pass
    assert activity_of(store) == Activity(False)
    with study_lock(store):  # the look has not kept the lock
        pass
    assert activity_of(Store(str(tmp_path / "missing"))) == Activity(False)


def test_a_search_starts_while_a_page_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".lock").touch()
    file = os.open(tmp_path / ".lock", os.O_RDONLY)
    fcntl.flock(file, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda _: os.close(file))
    with study_lock(Store(str(tmp_path))):
        assert activity_of(Store(str(tmp_path))).locked


def test_without_locks_only_the_last_change_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that trains long epochs writes nothing for minutes; so no change is no end."""

    def refuse(*_: object) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / "trials").mkdir()
    for name, at in ((".lock", 1e9), ("trials/part-000000.parquet", 1e9 + 60)):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (at, at))
    found = activity_of(Store(str(tmp_path)))
    assert found == Activity(None, dt.datetime.fromtimestamp(1e9 + 60, dt.UTC))
