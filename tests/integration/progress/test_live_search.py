"""A real search in a real pseudo-terminal: its view, a resize, Ctrl-C twice, and its log."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command import IMBTUNE
from screen import Terminal

from imbtune.study.view import Study


@pytest.mark.slow
def test_a_search_in_a_terminal_that_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    words = "search digits-lt --trials 300 --epochs 9 --max-concurrent 2 --cpus-per-trial 1"
    terminal = Terminal([IMBTUNE, *words.split()], cwd=tmp_path)
    try:
        screen = terminal.wait_for(lambda s: "best so far" in s.text, 240)
        visible = "\n".join(screen.lines)
        for text in ("/300 trials", "cut-off", "standard error", "last rung", " left", "Ctrl-C"):
            assert text in visible, visible
        terminal.resize(40, 10)
        terminal.wait_for(lambda s: sum("/300 trials" in line for line in s.lines) == 1, 60)
        terminal.press(b"\x03")
        terminal.wait_for(lambda s: "nothing is lost" in s.text.replace("\n", " "), 60)
        terminal.press(b"\x03")
        assert terminal.end() == 130
    finally:
        terminal.close()
    visible = "\n".join(screen.lines)
    assert "/300 trials" not in visible and "━" not in visible, visible
    assert not screen.is_cursor_hidden and "Traceback" not in screen.text
    log = (tmp_path / "runs/digits-lt/search.log").read_text()
    assert re.search(r"^\S+Z +\d+/300  trial \d+ +stopped at 3 epochs: 0\.\d+ is below", log, re.M)
    assert "\r" not in log and "\x1b" not in log
    assert all(re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ  ", line) for line in log.splitlines())
    assert len(Study(str(tmp_path / "runs/digits-lt")).trials)
