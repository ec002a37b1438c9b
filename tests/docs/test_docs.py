"""The documents: their commands run, their code runs, and what they name exists."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from command import run
from typer.testing import CliRunner

from imbtune.cli.calibrate import calibrate_command
from imbtune.cli.main import app
from imbtune.cli.plan import plan_command
from imbtune.cli.search import parse_request, resume_command
from imbtune.cli.train import read_config, repeat_command
from imbtune.spaces.space_file import load_space

ROOT = Path(__file__).resolve().parents[2]
OWN_PARTS = ROOT / "docs" / "own-parts.md"
OWN_KNOBS = ("loss.reach", "mix.sharpness", "model.width", "data.noise")
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def code_blocks(path: Path, *languages: str) -> list[str]:
    text = path.read_text(encoding="utf-8")
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for language, block in fenced if language in languages]


def commands_of(path: Path) -> list[str]:
    """Every line of a code block that starts with `imbtune`, without its comment."""
    found = []
    for block in code_blocks(path, "bash", "sh", ""):
        lines = block.replace("\\\n", " ").splitlines()
        found += [line.split(" #")[0].strip() for line in lines if line.startswith("imbtune ")]
    return found


def commands() -> list[str]:
    return sorted({command for path in DOCS for command in commands_of(path)})


def test_there_are_commands_to_check() -> None:
    assert len(commands()) >= 7


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_docs_is_one_that_imbtune_takes(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsed by the real command line, and its options checked; only the run itself is left out."""
    taken: list[Any] = []

    def take_search(**options: Any) -> None:
        if options["rungs"] == "auto":  # the calibration is of a command before it
            options["rungs"] = "none"
        taken.append(parse_request(**options))

    def take(command: Callable[..., Any]) -> Callable[..., None]:
        return lambda *given, **options: taken.append(
            inspect.signature(command).bind(*given, **options)
        )

    def take_train(options: Any) -> None:
        taken.append(read_config(options))

    monkeypatch.chdir(tmp_path)
    write_own_parts(tmp_path)
    for name in ("digits-lt", "mine"):
        study = tmp_path / "runs" / name
        study.mkdir(parents=True)
        (study / "best.yaml").write_text(load_space("digits-lt").preset("mamix_drw").yaml())
    monkeypatch.setattr("imbtune.cli.search.search_command", take_search)
    monkeypatch.setattr("imbtune.cli.train.train_command", take_train)
    others: list[tuple[str, Callable[..., Any]]] = [
        ("search.resume_command", resume_command),
        ("calibrate.calibrate_command", calibrate_command),
        ("plan.plan_command", plan_command),
        ("train.repeat_command", repeat_command),
    ]
    for place, function in others:
        monkeypatch.setattr(f"imbtune.cli.{place}", take(function))
    result = CliRunner().invoke(app, shlex.split(command)[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    assert taken or result.stdout


def test_the_spaces_in_the_readme_are_spaces(tmp_path: Path) -> None:
    parts, mine = code_blocks(ROOT / "README.md", "yaml")
    path = tmp_path / "mine.yaml"
    path.write_text(parts, encoding="utf-8")
    assert load_space(str(path)).base().flat()["data.size"] == 64
    path.write_text(mine, encoding="utf-8")
    space = load_space(str(path))
    assert space.rungs.budgets(space.base().epochs) == [10, 30, 90]
    assert {"erm", "drw", "ldam_drw", "mixup_drw", "mamix_drw"} <= set(space.presets())


def run_blocks(path: Path, cwd: Path) -> str:
    """What the document's Python prints, run from top to bottom in a process of its own."""
    code = "\n".join(code_blocks(path, "python"))
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_in_the_readme_runs(tmp_path: Path) -> None:
    """After a real, short search and training, as a reader would have done them."""
    searched = run(*["search", "digits-lt", "--trials", "2", "--epochs", "3"], cwd=tmp_path)
    assert searched.returncode == 0, searched.stderr
    trained = run("train", "runs/digits-lt/best.yaml", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    out = run_blocks(ROOT / "README.md", tmp_path)
    assert "none" in out
    assert re.search(r"\['\d'(, '\d'){15}\]", out)


def write_own_parts(folder: Path) -> None:
    """The files that docs/own-parts.md shows, under the names in their first lines."""
    blocks = code_blocks(OWN_PARTS, "python")[:1] + code_blocks(OWN_PARTS, "yaml")
    for block in blocks:
        name = block.partition("\n")[0].removeprefix("# ")
        (folder / name).write_text(block, encoding="utf-8")


def test_the_example_of_own_parts_runs(tmp_path: Path) -> None:
    """Its file and space, its commands in order, and its model in a fresh process."""
    write_own_parts(tmp_path)
    printed = []
    for command in commands_of(OWN_PARTS):
        done = run(*shlex.split(command)[1:], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    assert [name for name in OWN_KNOBS if f" {name} " not in printed[0]] == []
    trials = pd.read_parquet(tmp_path / "runs/mine/trials")
    assert set(trials["state"]) <= {"COMPLETE", "PRUNED"}
    used = trials[(trials["loss"] == "rank_margin") & (trials["mix"] == "shuffle+linear+sharp")]
    assert len(used) and used[["loss.reach", "mix.sharpness", "model.width"]].notna().all(axis=None)
    (model,) = code_blocks(OWN_PARTS, "python")[1:]
    assert "load_model" in model
    out = subprocess.run(
        [sys.executable, "-c", model], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (out.returncode, out.stdout) == (
        0,
        "['0°', '30°', '60°', '90°', '120°', '150°'] Linear\n",
    ), out.stderr


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target, heading in re.findall(r"\]\(([^)#:]*)#?([^)#:]*)\)", path.read_text("utf-8")):
        there = path.parent / target if target else path
        assert there.exists(), target
        assert not heading or heading in headings(there), f"{target}#{heading}"


def headings(path: Path) -> list[str]:
    """The headings of a document as links write them."""
    found = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in found]


def test_make_targets_of_the_readme_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\w+)", readme, re.MULTILINE)
    assert {"search", "test"} <= set(targets)
    for target in targets:
        assert f"\n{target}:" in makefile


def test_the_architecture_names_every_module_of_the_search() -> None:
    """And none that is gone."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    _, _, rest = text.partition("`search/` by what its modules are for:")
    named = set(re.findall(r"`(\w+)`", rest.partition("\n\n")[0]))
    assert named == {f.stem for f in (ROOT / "imbtune/search").glob("*.py")} - {"__init__"}
