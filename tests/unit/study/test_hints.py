"""The commands that messages tell the user to type."""

from __future__ import annotations

import shlex
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from parsed import parsed_request
from small_data import make_splits

from imbtune.cli.plan import PRINTED, search_line
from imbtune.errors import ConfigError, StudyError
from imbtune.progress import no_line
from imbtune.registry import Value
from imbtune.search_options import search_request
from imbtune.spaces.space_file import load_space
from imbtune.storage import Store
from imbtune.study.files import read_study, write_study
from imbtune.study.hints import program, space_command
from imbtune.study.request import SearchRequest
from imbtune.tuning.cluster.resources import Resources
from imbtune.tuning.session import new_store


@pytest.mark.parametrize("started", ["search.py", "pytest", "-c", "/opt/x/bin/imbtune"])
def test_the_command_is_named_also_where_a_script_runs(
    started: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell does not find `imbtune`, so its path is given; a script is never the command."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [started])
    monkeypatch.chdir(tmp_path)
    beside_python = Path(sys.executable).with_name("imbtune")
    assert Path(program()) == (Path(started) if started.endswith("imbtune") else beside_python)


def test_a_command_on_the_path_goes_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "imbtune").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program() == "imbtune"


def planned(cwd: Path) -> list[str]:
    """The words of the command that `imbtune plan digits-lt` suggests."""
    request = search_request("digits-lt", trials=7, storage=str(cwd), objective="macro_f1")
    defaults = {field.name: field.default for field in fields(SearchRequest)}
    return shlex.split(search_line(request, {name: defaults[name] for name in PRINTED}))[1:]


def test_the_command_of_a_plan_has_a_name_that_is_free(tmp_path: Path) -> None:
    """The first search of a space has its name; `imbtune search` refuses another one of it."""
    taken = ["digits-lt", "digits-lt-2"]
    for i, name in enumerate([*taken, "digits-lt-3"]):
        asked = parsed_request(planned(cwd=tmp_path))
        assert (asked.name, asked.trials, asked.storage) == (name, 7, str(tmp_path))
        assert ("--name" in planned(cwd=tmp_path)) == (i > 0)
        assert new_store(asked, no_line).is_empty()  # raises for a study that exists already
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.yaml").touch()


def test_an_objective_is_kept_in_the_study_and_in_printed_commands(tmp_path: Path) -> None:
    request = parsed_request(planned(cwd=tmp_path))
    assert request.objectives == (request.space.objective.name,) == ("macro_f1",)
    store = Store(request.path)
    write_study(store, request, make_splits([20, 4]), vars(Resources(1, 0, 1)))
    again, content = read_study(request.path)
    assert again.space.objective.name == content["space"]["objective"] == "macro_f1"
    assert load_space(tmp_path / "digits-lt" / "space.yaml").objective.name == "macro_f1"
    assert "--objective macro_f1" in space_command("calibrate", again)
    usual = search_request("digits-lt", trials=7)
    assert usual.objectives == () and usual.space.objective.name == "balanced_accuracy"
    assert "--objective" not in space_command("search", usual)


def test_an_objective_with_knobs_is_kept_in_the_study_and_in_printed_commands(
    tmp_path: Path,
) -> None:
    given: dict[str, Value] = {"name": "recall_at_precision", "precision": 0.8, "of": "a 'b'"}
    text = "{name: recall_at_precision, precision: 0.8, of: \"a 'b'\"}"
    for objective in (given, text):
        request = search_request(
            "digits-lt", trials=7, storage=str(tmp_path), any_name=True, objective=objective
        )
        assert request.space.objective.setting() == given
    store = Store(request.path)
    write_study(store, request, make_splits([20, 4]), vars(Resources(1, 0, 1)))
    again, content = read_study(request.path)
    assert content["space"]["objective"] == given and again.space.objective.given == {
        "precision": 0.8,
        "of": "a 'b'",
    }
    assert load_space(tmp_path / "digits-lt" / "space.yaml").objective == again.space.objective
    words = shlex.split(space_command("calibrate", again))
    printed = words[words.index("--objective") + 1]
    assert search_request("digits-lt", trials=7, objective=printed).space == again.space


def test_an_unknown_objective_is_one_line() -> None:
    for name in ("macro-f1", "many", ""):
        with pytest.raises(ConfigError, match=r"^unknown --objective|^--objective: 'many'"):
            search_request("digits-lt", trials=7, objective=name)


def test_a_study_that_exists_says_three_ways_out(tmp_path: Path) -> None:
    request = search_request("digits-lt", trials=7, storage=str(tmp_path))
    Store(request.path).create()
    (tmp_path / "digits-lt" / "study.yaml").touch()
    with pytest.raises(StudyError) as caught:
        new_store(request, no_line)
    assert str(caught.value) == (
        f"the study {tmp_path}/digits-lt exists already: give another name, such as --name "
        f"digits-lt-2, continue it with {program()} resume {tmp_path}/digits-lt, or delete it"
    )


def test_several_objectives_are_kept_in_the_study_and_in_printed_commands(tmp_path: Path) -> None:
    given: list[str | dict[str, Value]] = ["worst_class", {"name": "f_beta", "beta": 1.0}]
    request = search_request(
        "digits-lt", trials=7, storage=str(tmp_path), any_name=True, objective=given
    )
    store = Store(request.path)
    write_study(store, request, make_splits([20, 4]), vars(Resources(1, 0, 1)))
    again, content = read_study(request.path)
    assert content["space"]["objective"] == "worst_class"
    assert content["space"]["objectives"] == given
    assert again.space.objectives == request.space.objectives
    assert load_space(tmp_path / "digits-lt" / "space.yaml").objectives == again.space.objectives
    words = shlex.split(space_command("calibrate", again))
    printed = [words[i + 1] for i, word in enumerate(words) if word == "--objective"]
    assert search_request("digits-lt", trials=7, objective=printed).space == again.space


def test_one_objective_replaces_the_several_of_a_space_that_this_one_is_like(
    tmp_path: Path,
) -> None:
    (tmp_path / "two.yaml").write_text("like: digits-lt\nobjectives: [auroc, worst_class]\n")
    (tmp_path / "one.yaml").write_text("like: two.yaml\nobjective: mcc\n")
    names = [
        [m.name for m in load_space(tmp_path / f).objectives] for f in ("two.yaml", "one.yaml")
    ]
    assert names == [["auroc", "worst_class"], ["mcc"]]
    replaced = search_request(tmp_path / "two.yaml", trials=7, objective="mcc").space
    assert [metric.name for metric in replaced.objectives] == ["mcc"]
