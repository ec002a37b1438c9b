"""A study's folder at the start of a search: what stands there stays."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
from scripted import tiny_space

from imbtune.errors import StudyError
from imbtune.progress import no_line
from imbtune.progress.reporter import to_lines
from imbtune.spaces.space_file import load_space
from imbtune.storage import Store
from imbtune.study.request import SearchRequest
from imbtune.tuning import connected_session, run_search
from imbtune.tuning.calibration import run_calibration
from imbtune.tuning.cluster.resources import Resources
from imbtune.tuning.run_search import resume_search
from imbtune.tuning.session import new_store


def test_a_start_that_was_interrupted_is_no_study(tmp_path: Path) -> None:
    """Its folder is neither searched nor resumed; the line says what to do with it."""
    (tmp_path / "runs/cut").mkdir(parents=True)
    (tmp_path / "runs/cut/space.yaml").write_text("knobs: {}")
    with pytest.raises(StudyError, match="is not a study, it has no study"):
        resume_search(str(tmp_path / "runs/cut"), {}, to_lines(print))
    with pytest.raises(StudyError, match="exists, but is not a study: delete it"):
        new_store(SearchRequest(tiny_space(), 1, "cut", storage=str(tmp_path / "runs")), no_line)


@pytest.mark.parametrize("begin", ["run_search", "run_calibration"])
def test_a_study_that_came_while_a_search_began_stays(
    begin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DataSource data and measuring take a while, in which another search of the name may end."""
    request = SearchRequest(load_space("digits-lt"), 8, "cut", storage=str(tmp_path))
    store = Store(request.path)

    def other_search(request: SearchRequest, *_: object) -> SearchRequest:
        store.create()
        store.write("study.yaml", b"another")
        return request

    module = run_search if begin == "run_search" else run_calibration
    monkeypatch.setattr(connected_session, "connected", lambda *_: nullcontext())
    monkeypatch.setattr(connected_session, "settle_share", other_search)
    monkeypatch.setattr(connected_session, "find_resources", lambda *_: Resources(1, 0.0, 1))
    with pytest.raises(StudyError, match="exists already: give another name, such as --name cut-2"):
        getattr(module, begin)(request, to_lines(print))
    assert store.read("study.yaml") == b"another"
