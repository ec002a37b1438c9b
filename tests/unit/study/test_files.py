"""What study.yaml says of the end of a search, and the tracebacks that it keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_study import make_study
from small_data import make_splits

import imbtune
from imbtune.errors import StudyError
from imbtune.search_options import search_request
from imbtune.storage import Store
from imbtune.study.files import check_no_study, record_end, write_study, write_traceback
from imbtune.study.records import FINISHED
from imbtune.study.request import TEST, SearchRequest
from imbtune.study.results.comparison_record import Comparison, Row


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
    store.delete("study.yaml")
    with pytest.raises(StudyError, match="was deleted while it was searched"):
        record_end(store, FINISHED)


def said_of(request: SearchRequest, comparison: Comparison | None = None) -> str:
    """What a command says of a study that exists, without the ways out."""
    with pytest.raises(StudyError) as caught:
        check_no_study(Store(request.path), request, comparison)
    said, _, ways = str(caught.value).partition(": give another name, such as --name ")
    assert f"resume {request.path}, or delete it" in ways
    assert ("as it is with" in ways) == ("with other" in said or "and is a" in said)
    return said.removeprefix(f"the study {request.path} exists already")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, ""),
        ({"max_concurrent": 2, "cpus_per_trial": 1, "wandb_project": "other"}, ""),
        ({"trials": 8}, " with other settings (trials: 7 there, 8 now)"),
        (
            {"seed": 1, "finals": 2},
            " with other settings (seed: 0 there, 1 now, finals: None there, 2 now)",
        ),
        ({"epochs": 9}, " with other settings (epochs: 81 there, 9 now)"),
        (
            {"settings": {"data.ratio": 20, "mix": "mamix"}},
            " with other settings (presets: ",
        ),
        ({"objective": "worst_class"}, " with other settings (objectives: ['balanced_accuracy'] "),
        ({"rungs": "every"}, " and is a search"),
    ],
)
def test_a_study_that_exists_says_what_differs(
    options: dict[str, Any], line: str, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"trials": 7, "storage": str(tmp_path)}
    before = search_request("digits-lt", **given)
    store = Store(before.path)
    store.create()
    write_study(store, before, make_splits([60, 20, 6, 1]), {"cpus": 1, "gpus": 0, "concurrent": 1})
    rungs = options.pop("rungs", before.rungs)
    request = replace(search_request("digits-lt", **{**given, **options}), rungs=rungs)
    said = said_of(request)
    assert said.startswith(line) and bool(said) == bool(line)
    if "settings" in options:
        assert "data.ratio: 50.0 there, 20.0 now" in said and "mix: 'none' there" in said


def test_a_comparison_that_exists_says_which_rows_and_seeds_differ(tmp_path: Path) -> None:
    request = search_request("digits-lt", trials=4, storage=str(tmp_path))
    request, store = replace(request, rungs=TEST), Store(request.path)
    rows = tuple(Row(name, name, None, None, {}) for name in ("erm", "drw", "mamix"))
    there = Comparison(rows[:2], (0, 1))
    store.create()
    store.write("comparison.yaml", there.yaml().encode())
    write_study(
        store, request, make_splits([60, 20, 6, 1]), {"cpus": 1, "gpus": 0, "concurrent": 1}
    )
    assert said_of(request, there) == ""
    other = Comparison(rows[1:], (0, 1), "drw")
    assert said_of(request, other) == (
        " with other settings (rows: ['erm', 'drw'] there, ['drw', 'mamix'] now, reference: None "
        "there, 'drw' now)"
    )
    more = Comparison(rows[:2], (0, 1, 2))
    assert said_of(replace(request, trials=6), more) == (
        " with other settings (seeds: [0, 1] there, [0, 1, 2] now)"
    )
    assert said_of(search_request("digits-lt", trials=4, storage=str(tmp_path))) == (
        " and is a comparison"
    )


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
