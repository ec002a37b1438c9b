"""Who may import whom: the layers of docs/architecture.md, read off the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "imbtune"

# What the modules of a folder (or a module at the top) may not import, at any depth of their code
NO_LIBRARY = {"torch", "pyarrow", "wandb"}
SEARCHING = {"imbtune.study", "imbtune.tuning", "imbtune.api", "imbtune.cli"}
FORBIDDEN = {
    "errors": {*NO_LIBRARY, "imbtune"},
    "progress": {*NO_LIBRARY, "imbtune"},
    "runtime": {*NO_LIBRARY, "imbtune"},
    "seeds": {*NO_LIBRARY, "imbtune"},
    "registry": {*NO_LIBRARY, "imbtune.config"},
    "storage": {"torch", "wandb", "imbtune.config", "imbtune.training", *SEARCHING},
    "methods": {"wandb", "pyarrow", "imbtune.config", "imbtune.training", *SEARCHING},
    "models": {"wandb", "pyarrow", "imbtune.config", "imbtune.training", *SEARCHING},
    "data": {"wandb", "imbtune.config", "imbtune.training", *SEARCHING},
    "config": {*NO_LIBRARY, "imbtune.training", "imbtune.spaces", *SEARCHING},
    "training": {"wandb", "pyarrow", "imbtune.spaces", "imbtune.storage", *SEARCHING},
    "spaces": {*NO_LIBRARY, *SEARCHING},
    "study": {"torch", "imbtune.tuning", "imbtune.api", "imbtune.cli"},
    "tuning": {"wandb", "imbtune.api", "imbtune.cli"},
    "retrain": {"wandb", "imbtune.tuning", "imbtune.api", "imbtune.cli"},
    "trained_model": {"wandb", *SEARCHING},
    "train_input": {"wandb", "imbtune.tuning", "imbtune.api", "imbtune.cli"},
    "api": {*NO_LIBRARY, "imbtune.cli"},
    "cli": NO_LIBRARY,
}
MAY = {"ray": {"tuning"}, "optuna": {"tuning", "study"}}  # nothing else imports these libraries
EXCEPTIONS = {"study/files.py": {"imbtune.tuning.cluster.resources"}}  # a type; it imports no Ray
LINES = {"api.py": 500}  # of a file, where more than 350: most of these document arguments
FILES = ("open", "write_text", "write_bytes", "mkdir", "save")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Every module that the file imports anywhere, with the names taken from it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_borders(path: Path) -> None:
    part, imported = part_of(path), imports(path)
    imported -= EXCEPTIONS.get(path.relative_to(PACKAGE).as_posix(), set())
    forbidden = FORBIDDEN.get(part, set()) | {lib for lib, may in MAY.items() if part not in may}
    crossed = {m for m in imported for f in forbidden if m == f or m.startswith(f + ".")}
    assert not crossed, f"{part} must not import {crossed}"


def test_every_part_has_its_borders() -> None:
    parts = {part_of(path) for path in modules()}
    assert parts - {"__init__"} == set(FORBIDDEN)


def test_only_workers_and_the_command_tune_their_process() -> None:
    """A notebook that imports imbtune keeps its garbage collector and its memory as they are."""
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in modules()
        if "imbtune.runtime" in imports(path)
    }
    workers = ("tuning/worker/", "tuning/packing/", "training/cost/shared_device.py")
    assert found
    assert {name for name in found if not name.startswith(("cli/", *workers))} == set()


def test_dictionaries_for_ray_are_made_in_two_modules() -> None:
    """All others pass the typed messages of tuning/messages.py."""
    keys = {"SPEC", "REPORT"}
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "imbtune.tuning.messages"
        if keys & {alias.name for alias in node.names}
    }
    assert found == set()


def test_the_search_never_sees_a_test_set() -> None:
    """Nothing in tuning/ names the final splits, or a data set's test part."""
    for path in (PACKAGE / "tuning").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                assert node.attr != "test", path
            if isinstance(node, ast.Name | ast.alias):
                name = node.id if isinstance(node, ast.Name) else node.name
                assert name not in ("final_splits", "train_final"), path


def test_training_touches_no_files() -> None:
    for path in (PACKAGE / "training").rglob("*.py"):
        called = {
            getattr(node.func, "id", getattr(node.func, "attr", ""))
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call)
        }
        assert not called & set(FILES), path


def test_training_works_where_ray_optuna_and_wandb_are_missing() -> None:
    """A machine that only trains needs none of them."""
    code = """
import sys
for name in ("ray", "optuna", "wandb"):
    sys.modules[name] = None  # importing it raises ImportError
import torch
from imbtune.config.train_config import TrainConfig
from imbtune.data.load import load
from imbtune.data.splits import search_splits
from imbtune.training.device.device_data import DeviceData
from imbtune.training.rungs import train_through_rungs
from imbtune.training.phases import rung_segments
config = TrainConfig.from_settings(
    {"mix": "mamix", "epochs": 2, "data.head": 60, "data.ratio": 10, "data.val_per_class": 9}
)
splits = search_splits(load("digits", None), config.data.shared)
data = DeviceData(splits, torch.device("cpu"))
path = rung_segments("cooldown", [1, 2], config.schedule.shared)
print(sum(1 for _ in train_through_rungs([config], data, path)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 5  # one epoch cooled, a trunk epoch, one cooled, and two rungs


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_small_and_documented(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") <= LINES.get(path.relative_to(PACKAGE).as_posix(), 350)
    assert ast.get_docstring(ast.parse(source)), "a module says what it is for"
