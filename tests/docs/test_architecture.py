"""docs/architecture.md: the folders that it names, and rules that it states, hold for the code."""

from __future__ import annotations

import ast
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


def importers(module: str, *names: str) -> set[str]:
    """The files of the package that import a module, or one of these names from it."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == module:
                imported = {alias.name for alias in node.names}
                if not names or imported & set(names):
                    found.add(path.relative_to(PACKAGE).as_posix())
    return found


def test_only_workers_and_the_command_tune_their_process() -> None:
    workers = ("tuning/worker/", "tuning/packing/", "training/cost/shared_device.py")
    found = importers("imbtune.runtime")
    assert found
    assert {name for name in found if not name.startswith(("cli/", *workers))} == set()


def test_only_the_messages_make_dictionaries_for_ray() -> None:
    """The keys of these dictionaries are used nowhere else."""
    assert importers("imbtune.tuning.messages", "SPEC", "REPORT") == set()
