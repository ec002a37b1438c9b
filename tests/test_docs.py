"""The documents: their commands run, their code runs, and what they name exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from command import run
from typer.testing import CliRunner

from imbtune.cli.main import app
from imbtune.cli.search import parse_request
from imbtune.cli.train import read_config
from imbtune.search.space_file import load_space

ROOT = Path(__file__).resolve().parents[1]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def code_blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def commands() -> list[str]:
    """Every line of a code block that starts with `imbtune`, without its comment."""
    found = []
    for path in DOCS:
        for block in code_blocks(path, "(?:bash|sh|)"):
            lines = block.replace("\\\n", " ").splitlines()
            found += [line.split(" #")[0].strip() for line in lines if line.startswith("imbtune ")]
    return sorted(set(found))


def test_there_are_commands_to_check() -> None:
    assert len(commands()) >= 7


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_docs_is_one_that_imbtune_takes(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsed by the real command line, and its options checked; only the run itself is left out."""
    taken: list[Any] = []

    def take_search(options: Any) -> None:
        taken.append(parse_request(options))

    def take_train(options: Any) -> None:
        taken.append(read_config(options))

    monkeypatch.chdir(tmp_path)
    study = tmp_path / "runs/digits-lt"
    study.mkdir(parents=True)
    (study / "best.yaml").write_text(load_space("digits-lt").preset("mamix_drw").yaml())
    monkeypatch.setattr("imbtune.cli.search.search_command", take_search)
    monkeypatch.setattr("imbtune.cli.train.train_command", take_train)
    result = CliRunner().invoke(app, shlex.split(command)[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    assert taken or result.stdout


def test_the_space_in_the_readme_is_a_space(tmp_path: Path) -> None:
    (block,) = code_blocks(ROOT / "README.md", "yaml")
    path = tmp_path / "mine.yaml"
    path.write_text(block, encoding="utf-8")
    space = load_space(str(path))
    assert space.rungs.budgets(space.base().epochs) == [10, 30, 90]
    assert {"erm", "drw", "ldam_drw", "mixup_drw", "mamix_drw"} <= set(space.presets())


def test_the_python_in_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a real, short search and training, as a reader would have done them."""
    searched = run(*["search", "digits-lt", "--trials", "2", "--epochs", "3"], cwd=tmp_path)
    assert searched.returncode == 0, searched.stderr
    trained = run("train", "runs/digits-lt/best.yaml", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    monkeypatch.chdir(tmp_path)
    for block in code_blocks(ROOT / "README.md", "python"):
        exec(compile(block, "README.md", "exec"), {})
    out = capsys.readouterr().out
    assert "none" in out
    assert re.search(r"\['\d'(, '\d'){15}\]", out)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_make_targets_of_the_readme_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\w+)", readme, re.MULTILINE)
    assert {"search", "test"} <= set(targets)
    for target in targets:
        assert f"\n{target}:" in makefile
