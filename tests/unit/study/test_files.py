"""What study.yaml says of the end of a search, and the tracebacks that it keeps."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from made_study import make_study

import imbtune
from imbtune.storage import Store
from imbtune.study.files import record_end, write_traceback
from imbtune.study.records import FINISHED


def test_the_end_of_a_search_is_recorded_until_it_goes_on(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    make_study(path)
    store, before = Store(path), imbtune.load_study(path).info
    record_end(store, FINISHED)
    after = imbtune.load_study(path).info
    assert after == {**before, "end": "finished", "ended": after["ended"]}
    record_end(store, FINISHED)
    assert imbtune.load_study(path).info == after
    record_end(store, None)
    assert imbtune.load_study(path).info == before


def test_a_traceback_is_kept_and_a_storage_that_fails_does_not_matter(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write_traceback(store, "trial-3", "Traceback …\nValueError: bad\n")
    kept = tmp_path / "errors/trial-3.txt"
    assert kept.read_text(encoding="utf-8") == "Traceback …\nValueError: bad\n"
    (tmp_path / "no").write_text("a file, not a folder")
    write_traceback(Store(str(tmp_path / "no")), "trial-3", "text")
    assert [p.name for p in kept.parent.iterdir()] == ["trial-3.txt"]


def test_the_classes_of_a_study_and_of_an_older_one(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    make_study(path)
    study = imbtune.load_study(path)
    found = study.classes
    assert list(found["train"]) == [60, 20, 6, 1] and list(found["class"]) == [0, 1, 2, 3]
    assert list(found["name"]) == list(study.info["data"]["classes"])
    (tmp_path / "s/classes/part-000000.parquet").unlink()
    (tmp_path / "s/classes").rmdir()
    older = imbtune.load_study(path).classes
    pd.testing.assert_frame_equal(older, found, check_dtype=False)
