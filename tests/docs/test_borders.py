"""Which part of imbtune may import which: the layers of docs/architecture.md, read off the source.

Also the limits that keep the package easy to find one's way in: small folders and files, one name
per module, few untyped values.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "imbtune"
FILES = sorted(PACKAGE.rglob("*.py"))
OTHERS = ("benchmarks", "docs", "tests")  # folders whose files a document may name
DOCS = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md"))]

# The layers, lowest first. A part imports only from layers below its own.
LAYERS = [
    {"credentials"},
    {"errors"},
    {"limits"},
    {"strict_json"},
    {"text_encoding"},
    {"paths"},
    {"registry"},
    {"metrics"},
    {"seeds"},
    {"storage"},
    {"runtime"},
    {"progress"},
    {"data", "methods", "models"},
    {"config"},
    {"training"},
    {"inference"},
    {"spaces"},
    {"study"},
    {"report"},
    {"study.view"},
    {"serving"},
    {"tuning"},
]
# Modules with a layer of their own: `Study` has the figures and the report as methods
OWN_LAYER = {"imbtune.study.view"}
# Parts above the study, and what each may import of these parts and of `tuning`.
TOP = {
    "final_training": set[str](),
    "search_options": {"tuning"},
    "comparison": {"final_training", "tuning"},
    "parallel_training": {"final_training", "tuning"},
    "api": {"final_training", "search_options", "comparison", "parallel_training", "tuning"},
    "cli": {"final_training", "search_options", "api", "comparison", "tuning"},
}
# Ray takes seconds to import, and `imbtune --help` needs none of it: these parts import what needs
# it inside functions
LAZY_IN_PARTS = {"search_options", "api", "cli"}
NEED_RAY = {"tuning", "comparison", "parallel_training"}

# Where a library may be imported; where only inside functions
ONLY_IN = {
    "ray": ["tuning/", "parallel_training/"],
    "altair": ["report/"],
    "optuna": ["tuning/", "study/journal.py", "study/optuna_storage.py", "report/importance.py"],
    "wandb": ["study/trackers/wandb.py"],
    "mlflow": ["study/trackers/mlflow.py"],
    "tensorboard": ["study/trackers/tensorboard.py"],
    "duckdb": ["study/tables/sql.py"],
    "starlette": ["serving/"],
    "uvicorn": ["serving/"],
}
LAZY_IN = {"optuna": ["study/view.py"]}
# What a part may not import at all
FORBIDDEN = {
    "registry": {"torch", "pyarrow"},
    "runtime": {"torch", "pyarrow"},
    "metrics": {"pyarrow"},
    "methods": {"pyarrow", "torchvision"},
    "models": {"pyarrow"},
    "training": {"pyarrow"},
    "report": {"torch"},
    "study": {"torch"},
    "study.view": {"torch"},
    "spaces": {"torch"},
}

MOST_MODULES = 14  # in a folder
MOST_LINES = 350  # in a file
LONG = {
    "api.py": "half of it is the docstrings of public functions with up to 20 arguments",
    "main.py": "one function for each command, whose signature is the list of its options",
}
MOST_ANY = 9  # uses of `Any` per 1,000 lines
SAME_NAME: dict[str, str] = {}  # with the reason


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in FILES}


def part_of(module: str) -> str:
    """The folder or module directly below `imbtune`; empty for `imbtune` itself."""
    if module in OWN_LAYER:
        return module.removeprefix("imbtune.")
    return f"{module}.".split(".")[1]


def at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when the module is imported, without those for type checkers."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.If | ast.With | ast.Try):
            yield from at_import(node.body)
        else:
            yield node


def imports(path: Path, lazy: bool = True) -> set[str]:
    """The modules that a file imports.

    Args:
        lazy: whether those inside functions and for type checkers are included.
    """
    body = ast.parse(path.read_text(encoding="utf-8")).body
    found: set[str] = set()
    for node in (n for top in body for n in ast.walk(top)) if lazy else at_import(body):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return found


def may_import(part: str) -> set[str]:
    """The parts of imbtune that a part may import, besides itself."""
    if part in TOP:
        return TOP[part] | set.union(*LAYERS) - {"tuning"}
    below = next(i for i, layer in enumerate(LAYERS) if part in layer)
    return set.union(set(), *LAYERS[:below])


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_from_the_layers_below(module: str) -> None:
    part = part_of(module)
    if not part:  # the public names, which are imported when they are first used
        assert not {m for m in imports(MODULES[module], lazy=False) if m.startswith("imbtune")}
        return
    parts = {part_of(name) for name in imports(MODULES[module]) if name.startswith("imbtune.")}
    assert parts - {part} <= may_import(part)
    if part in LAZY_IN_PARTS:
        at_once = imports(MODULES[module], lazy=False)
        assert not [name for name in at_once if part_of(name) in NEED_RAY]


def test_every_part_has_its_layer() -> None:
    parts = {part_of(module) for module in MODULES} - {""}
    assert parts == set.union(*LAYERS) | set(TOP)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_libraries_are_imported_where_they_belong(path: Path) -> None:
    place = str(path.relative_to(PACKAGE))
    every = {name.partition(".")[0] for name in imports(path)}
    at_once = {name.partition(".")[0] for name in imports(path, lazy=False)}
    for library, places in ONLY_IN.items():
        if not place.startswith(tuple(places)):
            lazy = place.startswith(tuple(LAZY_IN.get(library, ())))
            assert library not in (at_once if lazy else every), library
    assert not every & FORBIDDEN.get(part_of(module_name(path)), set())


def test_no_modules_import_one_another_in_a_circle() -> None:
    graph = {m: imports(path, lazy=False) & MODULES.keys() for m, path in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join([*path[path.index(module) :], module])
        if module not in done:
            for imported in sorted(graph[module]):
                visit(imported, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def imported_after(code: str) -> set[str]:
    """The top-level packages that a fresh process has loaded after running the code."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("imbtune.study.trackers.tracking", {"ray", "wandb", "mlflow", "tensorboard"}),
        (
            "imbtune.inference.loading",
            {"ray", "optuna", "wandb", "typer", "huggingface_hub", "altair", "duckdb"},
        ),
        ("imbtune", {"torch", "ray", "optuna", "pyarrow", "numpy"}),
        ("imbtune.cli.main", {"torch", "ray", "optuna", "pyarrow"}),
        ("imbtune.study.view", {"torch", "ray", "optuna", "altair"}),
        ("imbtune.report.write", {"torch", "ray", "optuna", "sklearn", "vl_convert"}),
        ("imbtune.serving.app", {"torch", "ray", "optuna", "sklearn", "vl_convert"}),
    ],
)
def test_an_import_does_not_load_what_takes_long(module: str, absent: set[str]) -> None:
    assert not imported_after(f"import {module}") & absent


def importing(module: str, names: set[str] | None = None) -> set[str]:
    """The files that import a module, or one of its `names`."""
    return {
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == module
        if names is None or names & {alias.name for alias in node.names}
    }


def test_only_workers_and_the_command_tune_their_process() -> None:
    """A notebook keeps its garbage collector, its memory and its threads as they are."""
    workers = (
        "cli/",
        "tuning/worker/",
        "tuning/packing/",
        "parallel_training/worker_loop.py",
        "training/cost/shared_device.py",
    )
    found = importing("imbtune.runtime")
    assert found
    assert {name for name in found if not name.startswith(workers)} == set()


def test_dictionaries_for_ray_are_made_in_one_module() -> None:
    """All others pass the typed messages of tuning/messages.py."""
    assert importing("imbtune.tuning.messages", {"SPEC", "REPORT"}) == set()


def test_the_search_never_sees_a_test_set() -> None:
    """Nothing in tuning/ names the final splits, or a data set's test part."""
    for path in (PACKAGE / "tuning").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                assert node.attr != "test", path
            if isinstance(node, ast.Name | ast.alias):
                name = node.id if isinstance(node, ast.Name) else node.name
                assert name not in ("final_splits", "load_final_splits", "train_final"), path


def test_training_touches_no_files() -> None:
    forbidden = {"open", "write_text", "write_bytes", "mkdir", "save"}
    for path in (PACKAGE / "training").rglob("*.py"):
        called = {
            getattr(node.func, "id", getattr(node.func, "attr", ""))
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call)
        }
        assert not called & forbidden, path


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
    assert int(done.stdout) == 5  # a cool-down epoch, a trunk epoch, another cool-down, two rungs


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_small_and_documented(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") <= MOST_LINES or path.name in LONG
    assert ast.get_docstring(ast.parse(source)), "a module says what it is for"


def test_folders_are_small() -> None:
    counts = Counter(path.parent for path in FILES if path.stem != "__init__")
    assert [str(folder) for folder, count in counts.items() if count > MOST_MODULES] == []


def test_a_module_name_is_used_once() -> None:
    counts = Counter(path.stem for path in FILES if path.stem != "__init__")
    assert {name for name, count in counts.items() if count > 1} == set(SAME_NAME)


def test_few_values_are_untyped() -> None:
    """`Any` as a word of the code, import statements left out."""
    uses = lines = 0
    for path in FILES:
        source = path.read_text(encoding="utf-8")
        lines += source.count("\n")
        imported = {
            line
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
        }
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            uses += token.string == "Any" and token.start[0] not in imported
    assert uses / lines < MOST_ANY / 1000, f"{uses} in {lines} lines"


def names_in(document: str) -> set[str]:
    """Files and modules that a document names in backticks, without those of a user (`my_…`)."""
    paths = re.findall(r"`(?!\S*my_)([\w/]+\.py|imbtune/[\w/]+/)`", document)
    modules = re.findall(r"`(imbtune(?:\.[a-z_]\w*)+)`", document)
    return {*paths, *modules}


def exists(name: str) -> bool:
    """Whether a file, a folder, a module, or a name inside a module exists."""
    if name.endswith((".py", "/")):
        every = [*FILES, *(f for folder in OTHERS for f in (ROOT / folder).rglob("*.py"))]
        return (ROOT / name).exists() or any(f"/{name}" in f"/{f}" for f in map(str, every))
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:end])
        if path.is_dir() or path.with_suffix(".py").is_file():
            source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            return end == len(parts) or parts[end] in source.read_text(encoding="utf-8")
    return False


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_documents_name_modules_that_exist(path: Path) -> None:
    assert [name for name in sorted(names_in(path.read_text("utf-8"))) if not exists(name)] == []
