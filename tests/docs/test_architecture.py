"""docs/architecture.md names the folders and slots of the code."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "imbtune"
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_tree_has_every_folder_of_the_package() -> None:
    """And none that is gone."""
    tree = TEXT.partition("## The folders")[2].partition("```\n")[2].partition("```")[0]
    parents: list[str] = []
    named = set()
    for line in tree.splitlines():
        found = re.match(r"( *)(\w+)/ ", line)
        if found:
            parents[len(found[1]) // 2 :] = [found[2]]
            named.add("/".join(parents))
    assert named == {
        file.parent.relative_to(ROOT).as_posix() for file in PACKAGE.rglob("__init__.py")
    }


def test_the_slots_are_those_of_the_code() -> None:
    from imbtune.config.defaults import DEFAULTS

    (row,) = re.findall(r"^\| slot \| (.*) \|$", TEXT, re.MULTILINE)
    assert re.findall(r"`(\w+)`", row) == list(DEFAULTS)
