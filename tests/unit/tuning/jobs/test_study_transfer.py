"""A study that is copied to this machine: whole or not at all, and nothing else is lost."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from imbtune.errors import StudyError
from imbtune.tuning.jobs import study_transfer
from imbtune.tuning.jobs.study_transfer import (
    BEGIN,
    END,
    from_text,
    has_study,
    read_files,
    to_text,
    write_files,
)

FILES = {
    "best.yaml": b"b",
    "space.yaml": b"s",
    "study.yaml": b"y",
    "front-12.yaml": b"f",
    "classes/part-000000.parquet": b"PAR1",
    "errors/final-7-11.txt": b"Traceback",
    "trials/all.parquet": b"PAR1",
    "journal.log": b"one\n",
}


def make_study(folder: Path) -> Path:
    """A study with what is not copied, too."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints/0.pt").write_bytes(bytes(99))
    (folder / "best").mkdir()
    (folder / "best/model.pt").write_bytes(bytes(99))
    for name in ("trials", "classes", "errors"):
        (folder / name).mkdir()
    for name in (".lock", ".trials.tmp"):
        (folder / name).write_bytes(b"hidden")
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_study_without_checkpoints_and_models_arrives(tmp_path: Path) -> None:
    files = read_files(str(make_study(tmp_path / "there")))
    assert list(files)[-1] == "journal.log"  # tables that are older than it can be resumed
    received = from_text("Ray's line\n" + to_text(files) + "\nanother\n")
    assert received == FILES
    write_files(received, tmp_path / "here/name")
    assert tree(tmp_path / "here") == {f"name/{name}": text for name, text in FILES.items()}


@hypothesis_settings(max_examples=25)
@given(st.dictionaries(st.sampled_from(sorted(FILES)), st.binary(max_size=99)))
def test_text_holds_any_content(files: dict[str, bytes]) -> None:
    whole = {**files, "study.yaml": b"y"}
    assert from_text(to_text(whole)) == whole


def test_a_cut_or_changed_text_is_refused() -> None:
    text = to_text({"study.yaml": bytes(range(256)) * 400})
    assert from_text("no study in here") is None
    with pytest.raises(StudyError, match="completely"):
        from_text(text[:-30])
    with pytest.raises(StudyError, match="damaged"):
        from_text(text.replace(text[200:208], text[200:208][::-1]))


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../evil",
            "/tmp/evil",
            "a/b/c",
            "trials/../../evil",
            ".bashrc",
            "best",
            "trials",
            "x.sh",
        ),
        *("trials/a", "trials/a\nb.parquet", "a\nb.py", "\udc80.py", "a" * 300 + ".py", "a" * 5000),
        *("checkpoints/0.pt", "best/model.pt", "trials/.parquet", "study.yaml/x", "evil\x1b[2J.py"),
    ],
)
def test_files_that_would_land_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(StudyError, match="no file of a study"):
        from_text(to_text({name: b""}))


def as_text(packed: bytes) -> str:
    digest = hashlib.sha256(packed).hexdigest()
    return f"{BEGIN} {digest}\n{base64.b64encode(packed).decode()}\n{END}"


@pytest.mark.parametrize(
    "packed",
    [b"", b"no archive", gzip.compress(b"no tar" * 200), gzip.compress(bytes(9))[:-4]],
    ids=["empty", "text", "no tar", "cut off"],  # gzip writes the time
)
def test_what_is_no_archive_is_one_line(packed: bytes) -> None:
    with pytest.raises(StudyError, match="the cluster sent"):
        from_text(as_text(packed))


def test_a_lost_character_is_one_line() -> None:
    text = to_text(FILES)
    with pytest.raises(StudyError, match="damaged"):
        from_text(text[:150] + text[151:])


def test_an_archive_that_grows_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text = to_text({"study.yaml": bytes(10**6)})
    monkeypatch.setattr(study_transfer, "MOST_BYTES", 10**5)
    with pytest.raises(StudyError, match="more than"):
        from_text(text)


def test_a_copy_that_is_killed_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every file: the models stay, and the next copy is whole."""
    folder = tmp_path / "name"
    write_files(FILES, folder)
    (folder / "best").mkdir()
    (folder / "best/model.pt").write_bytes(b"mine")
    now = {**FILES, "journal.log": b"one\ntwo\n", "trials/2.parquet": b"2"}
    replace, places = os.replace, list[str]()

    def killed(source: Path, target: Path) -> None:
        if len(places) == most:
            raise KeyboardInterrupt
        places.append(target.name)
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", killed)
        for survived in range(len(now)):
            most = survived
            places.clear()
            with pytest.raises(KeyboardInterrupt):
                write_files(now, folder)
            assert (folder / "best/model.pt").read_bytes() == b"mine"
            assert (folder / "study.yaml").is_file()
    write_files(now, folder)
    assert tree(tmp_path) == {f"name/{n}": c for n, c in now.items()} | {
        "name/best/model.pt": b"mine"
    }


def test_what_is_in_the_way_stays(tmp_path: Path) -> None:
    folder = tmp_path / "name"
    write_files({"study.yaml": b"y"}, folder)
    (folder / "best.yaml").mkdir()
    (folder / "trials").write_bytes(b"mine")
    before = tree(tmp_path)
    for name in ("best.yaml", "trials/all.parquet"):
        with pytest.raises(StudyError, match="in the way"):
            write_files({"study.yaml": b"z", name: b""}, folder)
    assert tree(tmp_path) == before


def test_a_study_of_any_size_is_found(tmp_path: Path) -> None:
    assert not has_study(str(tmp_path))
    (tmp_path / "study.yaml").write_bytes(b"")
    assert has_study(str(tmp_path))


def test_a_link_in_the_archive_is_refused() -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("study.yaml")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(StudyError, match="no file of a study"):
        from_text(as_text(packed.getvalue()))


def test_a_study_that_is_too_large_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_transfer, "MOST_BYTES", 5)
    with pytest.raises(StudyError, match="rsync"):
        to_text(FILES)


def test_a_later_copy_replaces_the_earlier_and_keeps_other_files(tmp_path: Path) -> None:
    folder = tmp_path / "name"
    parts = {"trials/1.parquet": b"1", "trials/2.parquet": b"2"}
    write_files({"study.yaml": b"y", "journal.log": b"one\n", "best.yaml": b"old", **parts}, folder)
    (folder / "best").mkdir()
    (folder / "best/model.pt").write_bytes(b"mine")
    (folder / "report.html").write_bytes(b"mine")
    now = {"study.yaml": b"y", "journal.log": b"one\ntwo\n", "trials/all.parquet": b"12"}
    write_files(now, folder)
    assert tree(tmp_path) == {
        **{f"name/{name}": content for name, content in now.items()},
        "name/best/model.pt": b"mine",
        "name/report.html": b"mine",
    }


@pytest.mark.parametrize("journal", [b"another\n", b"one\ntwo\nthree\n"])
def test_another_study_of_this_name_stays(journal: bytes, tmp_path: Path) -> None:
    """Or one that was resumed on this machine, which the cluster's does not have."""
    folder = tmp_path / "name"
    write_files({"study.yaml": b"y", "journal.log": journal}, folder)
    before = tree(tmp_path)
    with pytest.raises(StudyError, match="--to"):
        write_files({"study.yaml": b"y", "journal.log": b"one\ntwo\n"}, folder)
    assert tree(tmp_path) == before


def test_a_folder_that_is_no_study_stays(tmp_path: Path) -> None:
    (tmp_path / "name").mkdir()
    with pytest.raises(StudyError, match="not a study"):
        write_files(FILES, tmp_path / "name")


def test_there_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"no study\.yaml"):
        read_files(str(tmp_path))
