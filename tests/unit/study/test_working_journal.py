"""What a kill, a full disk or a gone bucket leaves of a study's journal."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from s3_site import S3Site, s3_site
from table_rows import KNOBS, epoch_row, trial_row

from imbtune.errors import StorageError, StudyError
from imbtune.storage import Store, join
from imbtune.study.journal import Journal, open_journal, read_trials
from imbtune.study.tables.parquet import ParquetSink
from imbtune.study.tables.recover import check_journal, restore_epochs
from imbtune.study.working_journal import FILE, ended_in_journal, take_newest


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3Site]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with s3_site(monkeypatch) as found:
        yield found


class Killed(BaseException):
    """What ends a process at once."""


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob(FILE))


def killed_after(store: Store, trials: int, uploaded: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that is killed with `trials` new trials, of which it has uploaded only some."""
    with (  # noqa: PT012
        monkeypatch.context() as patch,
        pytest.raises(Killed),
        open_journal(store, "s") as journal,
    ):
        for trial in range(trials):
            journal.study.tell(journal.study.ask(), float(trial))
            if trial < uploaded:
                journal.sync()
        patch.setattr(Journal, "finish", killed)
        raise Killed


def killed(journal: Journal) -> None:
    journal.close()
    raise Killed


def test_a_cut_off_line_is_removed_without_writing_the_rest_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk or a kill at any write leaves all complete lines."""
    store, file = Store(str(tmp_path), seconds=0), tmp_path / FILE
    with open_journal(store, "s") as journal:
        journal.study.tell(journal.study.ask(), 1.0)
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"op_code":4,"worker_id":"some')

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "truncate", full)
        with pytest.raises(StudyError, match="No space left") as caught, open_journal(store, "s"):
            pass
    assert "\n" not in str(caught.value)
    assert file.read_bytes().startswith(whole)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with open_journal(store, "s") as journal:
            assert len(journal.study.trials) == 1
    assert file.read_bytes().startswith(whole)


def test_a_journal_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with (
        pytest.raises(StudyError, match=r"cannot repair journal\.log in .*directory"),
        open_journal(Store(str(tmp_path)), "s"),
    ):
        pass


def test_a_bucket_has_the_journal_before_any_table(
    site: S3Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a study that is killed in its first seconds can be resumed."""
    store = Store(join(site.uri, "new"))
    with (  # noqa: PT012
        monkeypatch.context() as patch,
        pytest.raises(Killed),
        open_journal(store, "s"),
    ):
        assert store.exists(FILE)
        patch.setattr(Journal, "finish", killed)
    check_journal(store)
    assert read_trials(store, "s") == []


def test_a_missing_journal_is_refused_only_where_tables_have_rows(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    sink = ParquetSink(store, KNOBS)
    check_journal(store)  # an earlier version may be killed with empty tables
    sink.trial(trial_row(0))
    sink.flush()
    with pytest.raises(StudyError, match="has trials and no journal"):
        check_journal(store)


def test_a_resume_goes_on_with_what_a_killed_search_had_not_uploaded(
    site: S3Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = Store(join(site.uri, "one"))
    killed_after(store, 3, 1, monkeypatch)
    assert len(read_trials(store, "s")) == 1
    (file,) = kept(tmp_path)
    with file.open("ab") as opened:
        opened.write(b'{"op_code": 4, "wor')  # killed while it wrote this
    with open_journal(Store(join(site.uri, "one")), "s") as journal:
        assert len(journal.study.trials) == 3
        assert len(read_trials(store, "s")) == 3  # before any table
    assert len(read_trials(store, "s")) == 3
    assert not kept(tmp_path) and not list((tmp_path / "cache/imbtune/journals").iterdir())


def test_rows_of_epochs_that_a_killed_search_had_only_buffered(
    site: S3Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are beside the journal's file, also for a study in a bucket."""
    store = Store(join(site.uri, "rows"))
    with (  # noqa: PT012
        monkeypatch.context() as patch,
        pytest.raises(Killed),
        open_journal(store, "s") as journal,
    ):
        sink = ParquetSink(store, {}, journal.local)
        sink.epoch(epoch_row(0, 1))
        sink.flush()
        sink.epoch(epoch_row(0, 2))
        patch.setattr(Journal, "finish", killed)
        raise Killed
    assert list(store.table("epochs")["epoch"].to_pylist()) == [1]
    with open_journal(store, "s") as journal:
        restore_epochs(store, [], set(), print, journal.local)
        assert sorted(store.table("epochs")["epoch"].to_pylist()) == [1, 2]
        assert not list(Path(journal.local.path).glob(".*.jsonl"))


def test_buffered_rows_of_a_study_that_has_gone_on_elsewhere_are_dropped(
    site: S3Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = Store(join(site.uri, "gone"))
    killed_after(store, 3, 1, monkeypatch)
    (file,) = kept(tmp_path)
    file.with_name(".epochs.jsonl").write_bytes(b"{}\n")
    store.write("journal.log", store.read("journal.log") + b'{"another": "entry"}\n')
    take_newest(file, store.read("journal.log"))
    assert not list(file.parent.glob(".*.jsonl"))


def test_the_buckets_journal_wins_where_the_study_has_gone_on_elsewhere(
    site: S3Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = Store(join(site.uri, "two"))
    killed_after(store, 3, 1, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
        with open_journal(store, "s") as journal:
            assert len(journal.study.trials) == 1
            journal.study.tell(journal.study.ask(), 7.0)
    with open_journal(store, "s") as journal:
        assert [trial.value for trial in journal.study.trials] == [0.0, 7.0]


def test_a_deleted_studys_local_journal_is_not_taken_for_a_new_one(
    site: S3Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = Store(join(site.uri, "three"))
    killed_after(store, 2, 1, monkeypatch)
    site.objects.clear()
    with open_journal(store, "s") as journal:
        assert journal.study.trials == []
    assert not kept(tmp_path)


def test_a_bucket_that_is_gone_at_the_end_leaves_the_journal_on_this_machine(
    site: S3Site, tmp_path: Path
) -> None:
    store = Store(join(site.uri, "four"), seconds=0.1)
    with pytest.raises(StorageError, match=r"kept as .*goes on with it") as caught:  # noqa: PT012, SIM117
        with open_journal(store, "s") as journal:
            journal.study.tell(journal.study.ask(), 1.0)
            site.mode = "busy"
    assert str(kept(tmp_path)[0]) in str(caught.value)
    site.mode = "well"
    with open_journal(store, "s") as journal:
        assert len(journal.study.trials) == 1


def test_it_is_uploaded_only_when_it_has_grown(site: S3Site) -> None:
    store = Store(join(site.uri, "five"))
    with open_journal(store, "s") as journal:
        journal.study.tell(journal.study.ask(), 1.0)
        journal.sync()
        before = site.requests
        journal.sync()
    assert site.requests == before


def test_one_process_of_a_machine_searches_a_study_in_a_bucket(site: S3Site) -> None:
    store = Store(join(site.uri, "six"))
    with (
        open_journal(store, "s"),
        pytest.raises(StudyError, match="is in use by another process"),
        open_journal(Store(join(site.uri, "six")), "s"),
    ):
        pass
    with open_journal(store, "s"):
        pass


def test_a_restored_journal_is_read_after_a_damaged_one(site: S3Site) -> None:
    store = Store(join(site.uri, "seven"))
    with open_journal(store, "s") as journal:
        journal.study.tell(journal.study.ask(), 1.0)
    whole = store.read(FILE)
    store.write(FILE, whole + b"damaged\n")
    with pytest.raises(StudyError, match="restore it from a backup"), open_journal(store, "s"):
        pass
    store.write(FILE, whole)
    with open_journal(store, "s") as journal:
        assert len(journal.study.trials) == 1


def test_without_a_cache_it_is_in_the_temporary_folder(
    site: S3Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    store = Store(join(site.uri, "eight"))
    killed_after(store, 2, 0, monkeypatch)
    assert len(list((tmp_path / "tmp").rglob(FILE))) == 1
    with open_journal(store, "s") as journal:
        assert len(journal.study.trials) == 2


def test_trials_that_have_ended_are_counted_as_optuna_counts_them(tmp_path: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    store = Store(str(tmp_path))
    assert ended_in_journal(store) == 0  # no journal
    with open_journal(store, "s") as journal:
        for state in ("COMPLETE", "PRUNED", "FAIL", "RUNNING"):
            trial = journal.study.ask()
            if state != "RUNNING":
                value = 0.5 if state == "COMPLETE" else None
                journal.study.tell(trial, value, optuna.trial.TrialState[state])
        journal.study.enqueue_trial({})
    assert ended_in_journal(store) == 3
    content = (tmp_path / FILE).read_bytes()
    cut = b'{"op_code":6,"trial_id":3,"state":1'
    for damage in (cut, cut + b"\n", b'{"op_code":6,"state":1}\n', b"\xff\n"):
        (tmp_path / FILE).write_bytes(content + damage)
        assert ended_in_journal(store) == 3
        assert (tmp_path / FILE).read_bytes() == content + damage  # it is only read
