"""The commands that messages tell the user to type."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from imbtune.study.hints import program


@pytest.mark.parametrize("started", ["search.py", "pytest", "-c", "/opt/x/bin/imbtune"])
def test_the_command_is_named_also_where_a_script_runs(
    started: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell does not find `imbtune`, so its path is given; a script is never the command."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [started])
    monkeypatch.chdir(tmp_path)
    beside_python = Path(sys.executable).with_name("imbtune")
    assert Path(program()) == (Path(started) if started.endswith("imbtune") else beside_python)


def test_a_command_on_the_path_goes_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "imbtune").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program() == "imbtune"
