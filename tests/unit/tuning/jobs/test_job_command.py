"""What a submitted job runs: the shell command, the files that are sent, the storage."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from plugin_files import loss

from imbtune import __version__
from imbtune.errors import ConfigError
from imbtune.spaces.space_file import load_space
from imbtune.storage.temporary import LOCK
from imbtune.tuning.jobs.job_command import (
    job_storage,
    on_head,
    runtime_env,
    staged,
    words_of,
)


def on_a_head_with(version: str | None, words: list[str], folder: Path) -> tuple[int, str]:
    """Run the command in a shell whose only imbtune says it has this version."""
    if version is not None:
        program = folder / "imbtune"
        program.write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && echo "imbtune {version}" || printf "<%s>" "$@"\n'
        )
        program.chmod(0o755)
    done = subprocess.run(
        on_head(words[0], words[1:], "my space.yaml"),
        shell=True,
        check=False,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={"PATH": f"{folder}{os.pathsep}/nowhere", "HOME": "/"},
    )
    return done.returncode, done.stdout


def test_the_head_gets_every_word_as_it_was_given(tmp_path: Path) -> None:
    words = ["search", "--set", "mix=[a, 'b']", "--name", "$HOME;`x`"]
    expected = ["search", f"{tmp_path}/my space.yaml", *words[1:]]
    assert on_a_head_with(__version__, words, tmp_path) == (
        0,
        "".join(map("<{}>".format, expected)),
    )


@pytest.mark.parametrize(
    ("version", "reason"),
    [(None, "the cluster has no imbtune"), ("9.9", "has imbtune 9.9, this machine imbtune 0")],
)
def test_a_head_without_this_version_says_so(
    version: str | None, reason: str, tmp_path: Path
) -> None:
    code, said = on_a_head_with(version, ["search", "digits-lt"], tmp_path)
    assert code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert reason in said


def test_the_space_and_its_plugins_are_sent_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The space is whole: what it inherits from a file beside it is in it."""
    (tmp_path / "my_losses.py").write_text(loss())
    (tmp_path / "base.yaml").write_text("like: digits-lt\nimports: [my_losses]\n")
    (tmp_path / "mine.yaml").write_text("like: base.yaml\nknobs: {loss: [ce, steep]}\n")
    (tmp_path / "data.bin").write_bytes(bytes(10_000))
    space = load_space(tmp_path / "mine.yaml")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    killed = tmp_path / "imbtune-submit-of-a-killed-command"
    killed.mkdir()
    (killed / LOCK).touch()  # nobody holds it
    with staged(space) as files:
        assert not killed.exists()
        there = files.folder
        assert sorted(path.name for path in there.iterdir()) == ["mine.yaml", "my_losses.py"]
        assert (files.files, files.space) == (2, "mine.yaml")
        assert files.size == sum(path.stat().st_size for path in there.iterdir()) < 10_000
        again = load_space(there / files.space)
        assert again.describe() == space.describe()
        assert yaml.safe_load((there / "mine.yaml").read_text())["imports"] == ["my_losses"]
    assert not there.exists()


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("S3://bucket/studies", "s3://bucket/studies"),
        ("gcs://bucket", "gs://bucket"),
        ("/data/studies", "/data/studies"),
        ("file:///data/a%20b", "/data/a b"),
        ("~/studies", "~/studies"),  # of the head node
    ],
)
def test_storages_of_a_job(given: str, taken: str) -> None:
    assert job_storage(given) == taken


@pytest.mark.parametrize("given", [None, "runs", "./runs", "", "hdfs://x/y", "s3://"])
def test_storages_that_a_job_cannot_have(given: str | None) -> None:
    with pytest.raises(ConfigError, match="--storage"):
        job_storage(given)


def test_keys_in_the_storage_are_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="a key or a password") as caught:
        job_storage("s3://KEY:hidden@bucket/studies")
    assert "hidden" not in str(caught.value)


def test_only_the_named_variables_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    assert "hidden" not in str(runtime_env(["AWS_REGION"]))
    assert "eu-west-1" in str(runtime_env(["AWS_REGION"]))


@pytest.mark.parametrize("name", ["NOT_SET", "NAME=hidden"])
def test_a_variable_that_is_not_set(name: str) -> None:
    with pytest.raises(ConfigError, match="is not set") as caught:
        runtime_env([name])
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "key", ["AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG", "hunter", "hf_abcDEF12=", "", "A\nB"]
)
def test_a_key_in_the_place_of_its_name_is_not_repeated(key: str) -> None:
    with pytest.raises(ConfigError, match="is not repeated") as caught:
        runtime_env([key])
    assert not key or key not in str(caught.value)


def test_options_as_words() -> None:
    options = {"--trials": ["3"], "--skip-corrupt": (), "--set": ["a=1", "b=2"]}
    assert words_of(options) == ["--trials", "3", "--skip-corrupt", "--set", "a=1", "--set", "b=2"]
