"""Who may import whom: the layers of docs/architecture.md, read off the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "imbtune"

# What a part of imbtune may not import, at any depth of its code
FORBIDDEN = {
    "garbage": {"torch", "ray", "optuna", "wandb", "pyarrow"},
    "registry": {"torch", "ray", "optuna", "wandb", "pyarrow"},
    "methods": {"ray", "optuna", "wandb", "pyarrow", "torchvision", "imbtune.config.train_config"},
    "models": {"ray", "optuna", "wandb", "pyarrow", "imbtune.config.train_config"},
    "data": {"ray", "optuna", "wandb", "imbtune.config.train_config", "imbtune.training"},
    "config": {"ray", "optuna", "wandb", "imbtune.training", "imbtune.search"},
    "imports": {
        "ray",
        "optuna",
        "wandb",
        "imbtune.config.train_config",
        "imbtune.training",
        "imbtune.search",
    },
    "late": {"ray", "optuna", "wandb", "imbtune.training", "imbtune.search"},
    "training": {"ray", "optuna", "wandb", "pyarrow", "imbtune.results", "imbtune.search"},
    "results": {
        "torch",
        "ray",
        "optuna",
        "imbtune.training",
        "imbtune.search",
        "imbtune.config.train_config",
    },
    "final": {"ray", "optuna", "wandb", "imbtune.search"},
    "cli": {"ray", "optuna", "wandb"},
}
ONLY_IN_SEARCH = {"ray", "optuna"}
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
    forbidden = FORBIDDEN.get(part, set()) | (ONLY_IN_SEARCH if part != "search" else set())
    crossed = {m for m in imported for f in forbidden if m == f or m.startswith(f + ".")}
    assert not crossed, f"{part} must not import {crossed}"


def test_every_part_has_its_borders() -> None:
    parts = {part_of(path) for path in modules()}
    assert set(FORBIDDEN) <= parts
    assert parts - set(FORBIDDEN) == {"__init__", "errors", "presets", "slots", "search"}


def test_the_search_never_sees_a_test_set() -> None:
    """Nothing in search/ names the final splits, or a data set's test part."""
    for path in (PACKAGE / "search").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                assert node.attr != "test", path
            if isinstance(node, ast.Name | ast.alias):
                name = node.id if isinstance(node, ast.Name) else node.name
                assert name not in ("final_splits", "train_final"), path


def test_training_touches_no_files() -> None:
    for path in (PACKAGE / "training").glob("*.py"):
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
    assert source.count("\n") <= 350
    assert ast.get_docstring(ast.parse(source)), "a module says what it is for"
