"""What is no file, or a file with other content than a search writes, is told in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from command import invoke
from made_study import make_study

import imbtune
from imbtune.errors import ImbtuneError, StudyError
from imbtune.storage import Store

STUDY = "runs/made"


@pytest.fixture(autouse=True)
def _study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_study(STUDY).close()


def read_all() -> None:
    """Everything that reads a study, up to its first error."""
    study = imbtune.load_study(STUDY)
    assert study.info and study.winner and study.evidence and study.best
    repr(study)
    imbtune.plan(f"{STUDY}/space.yaml", study=STUDY)


def in_one_line(*words: str) -> str:
    code, _, err = invoke(*words)
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize("name", ["study.yaml", "best.yaml", "trials/zz.parquet"])
def test_a_pipe_is_not_read(name: str) -> None:
    path = Path(STUDY, name)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(StudyError, match="is not a regular file"):
        read_all()


@pytest.mark.parametrize("name", ["study.yaml", "space.yaml", "journal.log"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_resume_reads_files_alone(name: str, make: object) -> None:
    path = Path(STUDY, name)
    path.unlink(missing_ok=True)
    assert callable(make)
    make(path)
    assert "is not a regular file" in in_one_line("resume", STUDY)


def test_train_reads_files_alone() -> None:
    Path(STUDY, "best.yaml").unlink()
    os.mkfifo(Path(STUDY, "best.yaml"))
    assert "best.yaml is not a file" in in_one_line("train", STUDY)


@pytest.mark.parametrize("variable", ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"])
def test_a_device_is_no_file_of_aws(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "/dev/zero")
    with pytest.raises(StudyError, match=rf"\${variable} /dev/zero is not a regular file"):
        Store("s3://bucket/x?region=a")


@pytest.mark.parametrize("values", [["text"], [1.5], [[1]], [None]])
def test_a_foreign_file_in_a_table(values: list[object]) -> None:
    before = len(imbtune.load_study(STUDY).trials)
    pq.write_table(pa.table({"trial": values, "mine": ["x"]}), f"{STUDY}/trials/zz.parquet")
    assert len(imbtune.load_study(STUDY).trials) == before
    read_all()


@pytest.mark.parametrize("content", ["", "[]", "x", "3", "provenance: 3", "provenance: []"])
def test_best_yaml_is_no_mapping(content: str) -> None:
    Path(STUDY, "best.yaml").write_text(content)
    with pytest.raises(StudyError, match=r"best.yaml (is not a mapping|has no provenance)"):
        imbtune.load_study(STUDY).winner  # noqa: B018


@pytest.mark.parametrize("value", [None, ["x"]])
@pytest.mark.parametrize(
    ("file", "section"),
    [("best.yaml", "provenance"), ("study.yaml", None), ("study.yaml", "data")],
)
def test_a_field_of_another_type(file: str, section: str | None, value: object) -> None:
    """No reader raises anything but the user's errors, whichever field is another type."""
    path = Path(STUDY, file)
    content = yaml.safe_load(path.read_text())
    place = content[section] if section else content
    for key in list(place):
        kept, place[key] = place[key], value
        path.write_text(yaml.safe_dump(content))
        place[key] = kept
        refused = refusal()
        assert refused is None or file in refused, key


def refusal() -> str | None:
    """The user's error of reading the study, or None where it can be read."""
    try:
        read_study_alone()
    except ImbtuneError as error:
        return str(error)
    return None


def read_study_alone() -> None:
    study = imbtune.load_study(STUDY)
    assert study.info is not None
    assert study.winner is None or study.winner.number >= 0
    assert study.baseline is None or study.baseline.number >= 0
    assert study.evidence is None or study.evidence
    assert study.best is None or study.best.number >= 0
    assert repr(study)


@pytest.mark.parametrize("value", [["x"], 3, None, {"fixed": ["x"]}])
@pytest.mark.parametrize("field", ["space", "data", "resources"])
def test_plan_from_a_damaged_study(field: str, value: object) -> None:
    path = Path(STUDY, "study.yaml")
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(content | {field: value}))
    in_one_line("plan", "digits-lt", "--study", STUDY)
