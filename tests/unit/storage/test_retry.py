"""What fails for a while is repeated, and said once; what cannot pass is refused at once."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pyarrow as pa
import pytest

from imbtune.errors import StorageError, StudyError
from imbtune.progress import no_line
from imbtune.storage import Store
from imbtune.storage.retry import Patience, may_pass


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only waiting moves on; the waits."""
    now, found = [1000.0], list[float]()

    def sleep(seconds: float) -> None:
        found.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return found


class Failing:
    """Fails with each error in turn, then answers."""

    def __init__(self, *errors: OSError) -> None:
        self.errors = list(errors)

    def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


FULL = OSError(errno.ENOSPC, "No space left on device")
BUSY = OSError("AWS Error UNKNOWN (HTTP status 503) during HeadObject operation: No response body.")


def test_what_passes_is_repeated_with_longer_waits_and_said_once(waits: list[float]) -> None:
    said: list[str] = []
    patiently = Patience("s3://b/x", said.append)
    assert patiently("read x from", Failing(BUSY, FULL, BUSY, FULL, BUSY, BUSY)) == "answer"
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0]
    assert said == [
        "the storage s3://b/x does not answer (AWS Error UNKNOWN (HTTP status 503) during "
        "HeadObject operation: No response body): trying again for 2 minutes"
    ]
    assert patiently("read x from", Failing(FULL)) == "answer"
    assert len(said) == 2  # another time


def test_after_two_minutes_it_is_one_line_and_then_each_is_tried_once(waits: list[float]) -> None:
    said: list[str] = []
    patiently = Patience("runs/x", said.append)
    with pytest.raises(StorageError) as caught:
        patiently("write to", Failing(*[FULL] * 1000))
    assert str(caught.value) == ("the storage runs/x fails for 2 minutes (No space left on device)")
    assert sum(waits) == 120 and len(said) == 1
    with pytest.raises(StorageError):
        patiently("write to", Failing(FULL, FULL))
    assert sum(waits) == 120
    assert patiently("write to", Failing()) == "answer"
    assert patiently("write to", Failing(FULL)) == "answer"


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "Permission denied"),
        OSError(errno.EROFS, "Read-only file system"),
        OSError("When getting information for key 'x' in bucket 'b': AWS Error ACCESS_DENIED"),
        OSError("AWS Error NO_SUCH_BUCKET during PutObject operation"),
    ],
)
def test_what_cannot_pass_is_refused_at_once(error: OSError, waits: list[float]) -> None:
    with pytest.raises(StudyError, match=r"cannot read x from the storage s3://b: ") as caught:
        Patience("s3://b")("read x from", Failing(error))
    assert not isinstance(caught.value, StorageError) and not waits


@pytest.mark.parametrize(
    "text",
    [
        "AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 28, Timeout",
        "AWS Error SERVICE_UNAVAILABLE during ListObjectsV2 operation: ",
        "AWS Error SLOW_DOWN during PutObject operation",
        "AWS Error INTERNAL_FAILURE during PutObject operation",
        "AWS Error UNKNOWN (HTTP status 429) during PutObject operation",
        "google::cloud::Status(UNAVAILABLE: Retry policy exhausted, CURL error [7]",
        "google::cloud::Status(DEADLINE_EXCEEDED: ",
    ],
)
def test_errors_of_buckets_that_may_pass(text: str) -> None:
    assert may_pass(OSError(text))


def test_a_missing_file_is_no_failure_of_the_storage(tmp_path: Path, waits: list[float]) -> None:
    with pytest.raises(FileNotFoundError):
        Store(str(tmp_path)).read("none")
    assert not waits


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path), log=no_line)
    store.write("x.yaml", b"old")
    store.write_table("epochs/part-000000.parquet", pa.table({"epoch": [1]}))

    def full(descriptor: int) -> None:
        raise FULL

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError):
        store.write("x.yaml", b"new")
    with pytest.raises(StorageError):
        store.write_table("epochs/part-000000.parquet", pa.table({"epoch": [1, 2]}))
    assert store.read("x.yaml") == b"old"
    assert store.table("epochs")["epoch"].to_pylist() == [1]
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        "x.yaml",
        "part-000000.parquet",
    }


def test_a_line_that_does_not_fit_leaves_no_part_of_it(tmp_path: Path) -> None:
    """A real limit on the size of a file, which a write reaches in the middle of a line."""
    path = tmp_path / "lines"
    child = os.fork()
    if not child:  # the limit belongs to a process
        import resource
        import signal

        code = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
            store = Store(str(tmp_path))
            store.append("lines", b"12345\n")
            try:
                store.append("lines", b"6789012\n")
            except OSError:
                store.append("lines", b"678\n")
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert path.read_bytes() == b"12345\n678\n"
