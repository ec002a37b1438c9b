"""The command line where Ray has to start before the error is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import invoke


@pytest.mark.parametrize(
    ("args", "line"), [("digits-lt --storage /proc/nothing", "cannot write to")]
)
def test_a_search_that_cannot_be_is_one_line_and_leaves_nothing(
    args: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = invoke("search", *args.split())
    assert (code, out) == (2, "")
    assert err.startswith("error: " + line.replace("{here}", str(tmp_path)))
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
