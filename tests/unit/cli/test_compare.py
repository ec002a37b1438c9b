"""The table of a comparison on terminals of any width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from imbtune.cli.compare import print_layout
from imbtune.study.results.layout import Cell, Layout

HEADINGS = ("method", "balanced accuracy", "worst class", "points over mixup_drw", "published")
LINES = [
    [Cell("mixup_drw"), Cell("81.00 ± 1.73", True), Cell("70.00 ± 1.00"), Cell("–"), Cell("–")],
    [
        Cell("erm"),
        Cell("71.00 ± 1.00"),
        Cell("7.00 ± 9.10"),
        Cell("-10.00"),
        Cell("71 [1], 70 [2]"),
    ],
]
LAYOUT = Layout("tiny: 2 configurations", HEADINGS, LINES, ["p: [of] a test.", "[1] a source."])


def printed(width: int) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_layout(LAYOUT, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [30, 50, 80, 200])
def test_every_cell_is_printed_in_full(width: int) -> None:
    text = printed(width)
    for line in LINES:
        for cell in line:
            assert all(part in text for part in cell.text.split(", "))
    assert "…" not in text
    assert all(len(line) <= width for line in text.splitlines() if "│" in line or "┃" in line)
    assert text.count("tiny: 2 configurations") == 1
    assert text.endswith("p: [of] a test.\n[1] a source.\n")


def test_columns_that_do_not_fit_follow_below_with_the_names() -> None:
    assert printed(200).count("mixup_drw") == 2  # a name, and a heading
    assert printed(50).count("│ mixup_drw │") == 2
