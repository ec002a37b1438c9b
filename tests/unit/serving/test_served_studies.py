"""Which studies a folder has, and what the list says of each."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from made_study import RECORDS, make_study, record

from imbtune.errors import StudyError
from imbtune.serving.served_studies import find_studies, listed, state_of
from imbtune.storage import Store
from imbtune.study.files import record_end
from imbtune.study.lock import study_lock
from imbtune.study.records import FAILED, FINISHED, INTERRUPTED, OUT_OF_TIME


def test_studies_are_found_by_their_folders(tmp_path: Path) -> None:
    for name in ("b", "a", "with <b> & ünicode"):
        make_study(str(tmp_path / name))
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden/study.yaml").write_text("name: x")
    (tmp_path / "other").mkdir()
    (tmp_path / "file.txt").write_text("")
    assert list(find_studies(str(tmp_path))) == ["a", "b", "with <b> & ünicode"]
    assert find_studies(str(tmp_path / "a")) == {"a": str(tmp_path / "a")}
    (tmp_path / "empty").mkdir()
    assert find_studies(str(tmp_path / "empty")) == {}
    assert find_studies(str(tmp_path / "not yet")) == {}  # the first search makes it
    for wrong, said in {
        "file.txt": "is no folder",
        "none/runs": "does not exist, nor does ",
    }.items():
        with pytest.raises(StudyError, match=said):
            find_studies(str(tmp_path / wrong))


def test_the_state_changes_with_what_a_page_shows(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    make_study(path)
    states = [state_of(path)[0]]
    (tmp_path / "s/journal.log").write_text("more")
    (tmp_path / "s/.epochs.jsonl").write_text("more")
    (tmp_path / "s/search.log").write_text("more")
    assert state_of(path)[0] == states[0]
    for change in ("errors/trial-1.txt", "best/metrics.json", "best.yaml"):
        Store(path).write(change, b"{}")
        states.append(state_of(path)[0])
    assert len(set(states)) == 4


def test_a_line_says_how_far_a_study_is(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    make_study(path)
    line = listed("s", path, None)
    assert (line.name, line.purpose, line.error) == ("s", "search", "")
    killed = "killed, unless it runs on another machine"  # no end is recorded, no process works
    assert line.about == f"{killed}: 6 of 6 trials ended (4 finished, 1 stopped, 1 failed)"
    assert line.best == "trial 3: 0.710, mean of 2 fresh seeds"
    content = Store(path).read("best.yaml")
    assert b"mean_corrected: null" in content
    corrected = content.replace(b"mean_corrected: null", b"mean_corrected: 0.6942")
    Store(path).write("best.yaml", corrected)
    told = "trial 3: 0.710, mean of 2 fresh seeds, corrected for the choice 0.694"
    assert listed("s", path, None).best == told
    record_end(Store(path), INTERRUPTED)
    ways = {
        "interrupted": INTERRUPTED,
        "time budget used up": OUT_OF_TIME,
        "failed": FAILED,
        "finished": FINISHED,
    }
    for said, end in ways.items():
        record_end(Store(path), end)
        about = f"{said}: 6 of 6 trials ended (4 finished, 1 stopped, 1 failed)"
        assert listed("s", path, None).about == about
    record_end(Store(path), None)
    with study_lock(Store(path)):
        assert listed("s", path, None).about.startswith("running the finals, of which ")

    early = str(tmp_path / "early")
    make_study(early, records=RECORDS[:3], finals={}, best=False)
    line = listed("early", early, None)
    assert line.about == f"{killed}: 3 of 6 trials ended (all finished)"
    assert line.best == "trial 2: 0.800 in one run"
    with study_lock(Store(early)):
        assert listed("early", early, None).about == "running: 3 of 6 trials ended (all finished)"

    states = [1, 1, 2, 3, 0]  # of the journal: four have ended, of which the table has three
    lines = [f'{{"op_code":6,"trial_id":{n},"state":{state}}}' for n, state in enumerate(states)]
    (tmp_path / "early/journal.log").write_text("\n".join(lines) + "\n")
    assert listed("early", early, None).about == f"{killed}: 4 of 6 trials ended"

    for count, ended in {
        1: "1 of 6 trials ended (1 failed)",
        5: "5 of 6 trials ended (all failed)",
    }.items():
        failures = str(tmp_path / f"failures{count}")
        make_study(failures, records=[record(n, {}) for n in range(count)], finals={}, best=False)
        record_end(Store(failures), FAILED)
        assert listed("f", failures, None).about == f"failed: {ended}"

    (tmp_path / "s/study.yaml").write_text("- no mapping")
    assert "study.yaml is not a mapping" in listed("s", path, None).error


def test_a_line_says_what_a_calibration_or_a_comparison_has_found(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    make_study(path)
    store = Store(path)
    content = store.read("study.yaml").decode()
    for purpose, runs in {"calibration": 12, "comparison": 6}.items():
        changed = content.replace("purpose: search", f"purpose: {purpose}")
        store.write("study.yaml", changed.encode())
        assert (listed("s", path, None).about, listed("s", path, None).best) == (
            f"not finished: 0 of {runs} runs ended",
            "",
        )
        with study_lock(store):
            assert listed("s", path, None).about == f"running: 0 of {runs} runs ended"
    store.write_table("table.parquet", pa.table({"row": ["mamix_drw", "erm"]}))
    assert listed("s", path, None).best == "mamix_drw, of 2 configurations"
    assert listed("s", path, None).about == "finished: 0 of 6 runs ended"  # their files are gone
    store.write("study.yaml", content.replace("purpose: search", "purpose: calibration").encode())
    store.write("calibration.yaml", b"advice: {rungs: cooldown, why: they predict}")
    assert listed("s", path, None).best == "--rungs cooldown, as they predict"
