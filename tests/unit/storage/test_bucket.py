"""A bucket that is busy, slow or gone, on a real S3 server."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from s3_site import S3Site, s3_site
from table_rows import KNOBS, epoch_row, trial_row

from imbtune.errors import StorageError, StudyError
from imbtune.storage import Store, join
from imbtune.study.tables.parquet import ParquetSink


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Site]:
    with s3_site(monkeypatch) as found:
        yield found


def test_a_study_streams_into_it_and_is_read(site: S3Site) -> None:
    store = Store(join(site.uri, "one"))
    assert store.is_empty()
    store.create()
    sink = ParquetSink(store, KNOBS)
    for epoch in range(3):
        sink.epoch(epoch_row(0, epoch))
        sink.flush()
    sink.trial(trial_row(0))
    sink.close()
    assert store.names("epochs") == ["part-000000.parquet"]
    assert store.table("epochs")["epoch"].to_pylist() == [0, 1, 2]
    assert store.table("trials")["trial"].to_pylist() == [0]
    store.delete("epochs/part-000000.parquet")
    assert not store.parts("epochs") and not store.is_empty()


@pytest.mark.parametrize("mode", ["busy", "silent"])
def test_what_fails_for_a_while_is_repeated(site: S3Site, mode: str) -> None:
    said: list[str] = []
    store = Store(site.uri, said.append)
    store.write("x.yaml", b"one")
    site.mode = mode
    timer = threading.Timer(1.0, setattr, (site, "mode", "well"))
    timer.start()
    store.write("x.yaml", b"two")
    timer.join()
    assert store.read("x.yaml") == b"two"
    assert len(said) <= 1  # pyarrow itself tries twice
    site.mode = mode
    impatient = Store(site.uri, said.append, seconds=0.2)
    for operation in (
        lambda: impatient.write("x.yaml", b"three"),
        lambda: impatient.read("x.yaml"),
        lambda: impatient.names("epochs"),
        lambda: impatient.exists("x.yaml"),
    ):
        with pytest.raises(StorageError, match="does not answer") as caught:
            operation()
        assert "\n" not in str(caught.value)
    assert said[-1].endswith("trying again for 0.2 seconds")
    site.mode = "well"
    assert impatient.read("x.yaml") == b"two"


def test_rows_wait_until_it_answers(site: S3Site) -> None:
    sink = ParquetSink(Store(site.uri), KNOBS)
    sink.epoch(epoch_row(0, 0))
    sink.flush()
    site.mode = "busy"
    for epoch in (1, 2):
        sink.epoch(epoch_row(0, epoch))
        with pytest.raises(StorageError):
            sink.flush()
    site.mode = "well"
    sink.flush()
    assert Store(site.uri).table("epochs")["epoch"].to_pylist() == [0, 1, 2]


def test_a_slow_one_is_waited_for(site: S3Site) -> None:
    """An answer after 4 s, longer than pyarrow's own limit of 3 s."""
    store = Store(site.uri)
    store.write("x.yaml", b"one")
    site.mode, site.delay = "slow", 4.0
    before = site.requests
    assert store.exists("x.yaml")
    assert site.requests - before == 1


def test_one_that_is_gone_is_refused_at_once_before_a_study_begins(site: S3Site) -> None:
    store = Store(site.uri, seconds=1000)
    site.mode = "silent"
    with pytest.raises(StudyError, match="cannot reach the storage"):
        store.is_empty()
    with pytest.raises(StudyError, match="cannot reach the storage"):
        store.check_writable()
