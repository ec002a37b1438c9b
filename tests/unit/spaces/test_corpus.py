"""Hostile files that are kept: each is refused in the line beside it, in seconds, by every command.

A file that broke imbtune once belongs into tests/corpus, with the line that it should give.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from command import invoke

CORPUS = Path(__file__).resolve().parents[2] / "corpus"
SPACES = sorted((CORPUS / "spaces").glob("*.yaml"))
CONFIGS = sorted((CORPUS / "configs").glob("*.yaml"))


def refused(file: Path, *args: str) -> None:
    code, out, err = invoke(*args)
    expected = file.with_suffix(".txt").read_text(encoding="utf-8").strip()
    assert (code, out) == (2, "")
    assert err.startswith(expected) and err.count("\n") == 1 and err[:-1].isprintable()


@pytest.mark.parametrize("file", SPACES, ids=lambda path: str(path.stem))
def test_a_space_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    refused(file, "show", "spaces", "--space", file.name)


@pytest.mark.parametrize("command", ["search", "plan", "calibrate", "compare"])
def test_every_command_reads_it_in_the_same_way(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = CORPUS / "spaces/rungs-count.yaml"
    monkeypatch.chdir(file.parent)
    refused(file, command, file.name, "--storage", str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file", CONFIGS, ids=lambda path: str(path.stem))
def test_a_configuration(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    refused(file, "train", file.name)
    assert not [path for path in file.parent.iterdir() if path.is_dir()]
