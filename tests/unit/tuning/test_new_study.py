"""A new study that fails before its first trial leaves nothing; a later failure keeps it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from scripted import tiny_space
from small_data import make_splits

from imbtune.errors import DataError, StorageError, StudyError
from imbtune.progress.reporter import naming_restart, to_lines
from imbtune.progress.run_events import RUNS, StageStarted
from imbtune.storage import Store
from imbtune.study.files import write_study
from imbtune.study.journal import open_journal
from imbtune.study.lock import study_lock
from imbtune.study.request import SearchRequest
from imbtune.tuning.cluster.resources import Resources
from imbtune.tuning.new_study import new_folder, new_study
from imbtune.tuning.session import Session


@pytest.fixture
def session(tmp_path: Path) -> Session:
    request = SearchRequest(tiny_space(), 4, "new", storage=str(tmp_path))
    splits, resources = make_splits([9, 4]), Resources(1, 0, 1)
    store, reporter = Store(request.path), to_lines(list[str]().append)
    return Session(request, store, splits, resources, reporter)


def begin(session: Session, error: BaseException | None = None, has_trials: bool = False) -> None:
    """Make the study, which then ends, or fails before or after its first trial."""
    with new_folder(session), open_journal(session.store, "new"), new_study(session):
        write_study(session.store, session.request, session.splits, vars(session.resources))
        (Path(session.request.path) / "tensorboard" / "x").mkdir(parents=True)
        if has_trials:
            session.reporter.tell(StageStarted(time.time(), RUNS, 4))
        if error:
            raise error


@pytest.mark.parametrize("error", [StudyError("W&B has no key"), OSError(28), KeyboardInterrupt()])
def test_nothing_stays_of_a_study_without_a_trial(session: Session, error: BaseException) -> None:
    with pytest.raises(type(error)):
        begin(session, error)
    assert not Path(session.request.path).exists()
    begin(session)  # the name is free
    assert Path(session.request.path, "study.yaml").exists()


def test_an_error_before_study_yaml_leaves_nothing_either(session: Session) -> None:
    folder = Path(session.request.path)
    with pytest.raises(DataError), new_folder(session), open_journal(session.store, "new"):
        raise DataError(f"no data folder {folder}")
    assert not folder.exists()


def test_a_study_whose_trials_have_begun_stays(session: Session) -> None:
    with pytest.raises(StorageError, match=r"full: when it works again, run .* resume "):
        begin(session, StorageError("full"), has_trials=True)
    assert Path(session.request.path, "study.yaml").exists()


def test_the_study_of_another_process_stays(session: Session) -> None:
    """It was faster: it has the lock, or it has ended meanwhile."""
    session.store.create()
    with study_lock(session.store), pytest.raises(StudyError, match="in use by another process"):
        begin(session)
    assert Path(session.request.path, ".lock").exists()
    begin(session)
    with pytest.raises(StudyError, match="exists already"):
        begin(session)
    assert Path(session.request.path, "study.yaml").exists()


def test_an_interrupt_says_what_is_left(session: Session) -> None:
    says = "no study was made: give the same command again"
    with pytest.raises(KeyboardInterrupt, match=says), naming_restart(session.reporter):
        begin(session, KeyboardInterrupt())
    assert not Path(session.request.path).exists()
    says = r" resume \S+/new goes on with the study"
    with pytest.raises(KeyboardInterrupt, match=says), naming_restart(session.reporter):
        begin(session, KeyboardInterrupt(), has_trials=True)
    assert Path(session.request.path, "study.yaml").exists()
