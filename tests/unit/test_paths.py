"""Every path and URI that a user may give: understood, or refused in one line."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from command import invoke

import imbtune
from imbtune.data.data_source import cache_folder, data_root
from imbtune.errors import ConfigError, ImbtuneError, StudyError
from imbtune.paths import local_path, path_or_uri
from imbtune.storage import Store, join

HOME = Path("~").expanduser()
ROOT = pwd.getpwuid(0)  # a user that every machine has

UNDERSTOOD = {
    "runs": "runs",
    "./runs": "./runs",
    "/data/runs": "/data/runs",
    "10:30": "10:30",
    "a:b/c": "a:b/c",
    "~": str(HOME),
    "~/runs": f"{HOME}/runs",
    f"~{ROOT.pw_name}/runs": f"{ROOT.pw_dir}/runs",
    "file:///data/runs": "/data/runs",
    "file:///data/a%20b": "/data/a b",
    "file://localhost/data": "/data",
    "file:/data/runs": "/data/runs",
    "FILE:///data": "/data",
    "s3://bucket": "s3://bucket",
    "s3://bucket/a/b/": "s3://bucket/a/b/",
    "S3://bucket/a": "s3://bucket/a",
    "gs://bucket/a": "gs://bucket/a",
    "gcs://bucket/a": "gs://bucket/a",
    "s3://bucket/a?endpoint_override=http://host:9000&region=x": (
        "s3://bucket/a?endpoint_override=http://host:9000&region=x"
    ),
}
NO_BUCKET, NO_FOLDER = "it names no bucket", "it names no folder"
WRITTEN, ALLOWED = "a bucket is written ", "give a folder, s3://BUCKET/… or gs://BUCKET/…"
REFUSED = {
    "": "it is empty",
    " ": "it is empty",
    "s3://": NO_BUCKET,
    "s3:///x": NO_BUCKET,
    "s3:////": NO_BUCKET,
    "s3://?region=x": NO_BUCKET,
    "S3://": NO_BUCKET,
    "gs:///runs": NO_BUCKET,
    "s3://bucket//runs": "a folder in it has no name",
    "s3://bucket/run#1": "'#' ends a URI",
    "s3:": WRITTEN,
    "s3:/bucket": WRITTEN,
    "s3:bucket": WRITTEN,
    "gs:": WRITTEN,
    "GS:/bucket": WRITTEN,
    "file:": NO_FOLDER,
    "file://": NO_FOLDER,
    "file:///": NO_FOLDER,
    "file://runs/x": NO_FOLDER,
    "file:runs": NO_FOLDER,
    "file:///a?b": NO_FOLDER,
    "file:///a%00b": "a path cannot have a NUL",
    "abfs://container/x": ALLOWED,
    "hdfs://host/x": ALLOWED,
    "http://host/x": ALLOWED,
    "https:/host": ALLOWED,
    "s3a://bucket/x": ALLOWED,
    "mock:///x": ALLOWED,
    "foo:/x": ALLOWED,
    "://bucket": ALLOWED,
    "runs/s3://bucket": ALLOWED,
    "~nobody-has-this-name/x": "there is no user 'nobody-has-this-name'",
    "a\0b": "a path cannot have a NUL",
    "\udcff": "it is not UTF-8 text",
}


@pytest.mark.parametrize("given", UNDERSTOOD)
def test_what_is_understood(given: str) -> None:
    path = path_or_uri("--storage", given)
    assert path == UNDERSTOOD[given]
    assert path_or_uri("--storage", path) == path
    named = join(path, "name")
    assert path_or_uri("the study", named) == named


@pytest.mark.parametrize("given", REFUSED)
def test_what_is_refused(given: str) -> None:
    with pytest.raises(ConfigError) as caught:
        path_or_uri("--storage", given)
    shown = given if given.strip() and given.isprintable() else repr(given)
    assert str(caught.value).startswith(f"--storage {shown}: {REFUSED[given]}")
    assert REFUSED[given] in str(caught.value)
    with pytest.raises(ImbtuneError, match=r"\S"):
        Store(given)


@pytest.mark.parametrize("given", ["./~x", "./s3:", "./s3:/x", "./file:", "x/../~y"])
def test_a_folder_with_such_a_name_can_be_given(given: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        path = path_or_uri("--storage", given)
        assert Path(path).resolve() == (tmp_path / given).resolve()
        assert Path(path_or_uri("the study", join(path, "name"))).parent == Path(path)


def test_a_path_object_with_a_uri_is_explained() -> None:
    with pytest.raises(ConfigError, match=r"s3:/bucket/x: a bucket is written s3://BUCKET/… \(as "):
        path_or_uri("--storage", Path("s3://bucket/x"))
    assert path_or_uri("--storage", Path("file:///data/x")) == "/data/x"
    for wrong in (3, None, b"runs", ["runs"]):
        with pytest.raises(ConfigError, match="give a path"):
            path_or_uri("--storage", wrong)


@pytest.mark.parametrize("given", ["s3://bucket/x", "gs://bucket", "S3://bucket/x"])
def test_what_must_be_on_this_machine(given: str) -> None:
    with pytest.raises(ConfigError, match="it is read and written on this machine: give a path"):
        local_path("--out", given)


def test_the_folders_in_environment_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "images").mkdir()
    monkeypatch.setenv("IMBTUNE_DATA", "~/images")
    monkeypatch.setenv("IMBTUNE_CACHE", "~/cache")
    assert data_root(None) == tmp_path / "images"
    assert cache_folder("cifar10") == tmp_path / "cache/cifar10"
    for value in ("s3://bucket/images", "s3:/bucket", "~nobody-has-this-name"):
        monkeypatch.setenv("IMBTUNE_DATA", value)
        monkeypatch.setenv("IMBTUNE_CACHE", value)
        with pytest.raises(ConfigError, match=r"\$IMBTUNE_DATA"):
            data_root(None)
        with pytest.raises(ConfigError, match=r"\$IMBTUNE_CACHE"):
            cache_folder("cifar10")


TAKES_A_BUCKET = [  # each command line and option that names a place
    "search digits-lt --storage",
    "search digits-lt --rungs auto --calibration",
    "plan digits-lt --storage",
    "plan digits-lt --study",
    "calibrate digits-lt --storage",
    "resume",
    "train",
    "train --trial",
]
IS_LOCAL = [
    "search digits-lt --data",
    "plan digits-lt --data",
    "calibrate digits-lt --data",
    "resume runs --data",
    "train --preset erm --space digits-lt --data",
    "train --preset erm --space digits-lt --out",
    "train --preset erm --space",
    "show spaces --space",
    "search",
]
COMMANDS = [(line, place) for line in TAKES_A_BUCKET for place in ("s3:///x", "s3:/b", "~nosuch/x")]
COMMANDS += [(line, place) for line in IS_LOCAL for place in ("s3://b/x", "s3:/b", "~nosuch/x")]


@pytest.mark.parametrize(("line", "place"), COMMANDS)
def test_a_command_refuses_it_and_makes_no_folder(
    line: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = invoke(*line.split(), place, *["0"] * line.endswith("--trial"))
    assert (code, out) == (2, ""), err
    assert err.startswith("error: ") and place in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_functions_refuse_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for call in (
        lambda: imbtune.search("digits-lt", storage="s3://"),
        lambda: imbtune.search("digits-lt", storage=Path("s3://bucket")),
        lambda: imbtune.search("digits-lt", data="s3://bucket"),
        lambda: imbtune.calibrate("digits-lt", storage="abfs://x"),
        lambda: imbtune.plan("digits-lt", study="gs:///x"),
        lambda: imbtune.resume("s3:/bucket/x"),
        lambda: imbtune.load_study("S3:///x"),
        lambda: imbtune.load_model("s3://bucket/best"),
        lambda: imbtune.train(preset="erm", space="digits-lt", out="s3://bucket"),
        lambda: imbtune.Study("s3:/bucket/x"),
    ):
        with pytest.raises(ImbtuneError, match=r"s3:|S3:|abfs:|gs:"):
            call()
    assert not list(tmp_path.iterdir())


def test_a_study_by_its_file_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b/study.yaml").write_text("name: one\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in (f"file://{tmp_path}/a%20b", "~/a b"):
        assert imbtune.load_study(given).path == str(tmp_path / "a b")


def test_a_current_folder_that_is_not_utf8_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = os.fsencode(tmp_path) + b"/q\xff"
    os.mkdir(folder)  # noqa: PTH102 — bytes
    monkeypatch.chdir(os.fsdecode(folder))
    with pytest.raises(StudyError, match=r"current folder's name is not UTF-8 text: start in"):
        Store("runs")
    assert os.listdir(folder) == []  # noqa: PTH208 — bytes
