"""No code of a stranger runs because a figure is read, or before the user has said so."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from command import invoke
from made_study import make_study

import imbtune
from imbtune.config import trust
from imbtune.config.plugin_module import PluginModule
from imbtune.config.plugins import copy_sources, load_plugins
from imbtune.config.trust import UntrustedError, check_trusted, consent, trust_file
from imbtune.data.data_source import DataSource
from imbtune.data.load import load
from imbtune.errors import ConfigError, ImbtuneError, StudyError
from imbtune.search_options import submitted_request
from imbtune.spaces.space_file import load_space
from imbtune.storage import Store
from imbtune.study.files import read_study

ASKED = "the module my_parts would run, and you have not run it before: read it, then add --trust"


@pytest.fixture(autouse=True)
def _new_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who has not run any module."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(trust, "_accepted", set())
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """A file that the stranger's module writes when it runs."""
    return tmp_path / "ran"


def writes(ran: Path) -> str:
    """A module that writes an x to a file."""
    return f"with open({str(ran)!r}, 'a') as file: file.write('x')\n"


@pytest.fixture
def study(tmp_path: Path, ran: Path) -> str:
    """A stranger's study and, in `model/`, model, with a module that writes a file."""
    make_study("runs/theirs", imports=["my_parts"])
    source = writes(ran)
    for folder in (Path("runs/theirs"), Path("runs/theirs/model")):
        folder.mkdir(exist_ok=True)
        (folder / "my_parts.py").write_text(source)
    best = Path("runs/theirs/best.yaml")
    best.write_text("imports: [my_parts]\n" + best.read_text())
    torch.save({"imports": ["my_parts"]}, "runs/theirs/model/model-seed0.pt")
    return "runs/theirs"


@pytest.mark.parametrize(
    "read",
    [
        lambda study: imbtune.load_study(study).trials,
        lambda study: imbtune.load_study(study).winner,
        lambda study: repr(imbtune.load_study(study)),
        lambda study: imbtune.plan("digits-lt", study=study, cpus=2, epochs=9),
        lambda study: imbtune.search("digits-lt", rungs="auto", calibration=f"./{study}"),
    ],
)
def test_reading_runs_nothing(read: Callable[[str], object], study: str, ran: Path) -> None:
    with contextlib.suppress(ConfigError, StudyError):  # of plan and search, for other reasons
        read(study)
    assert not ran.exists()


def test_plan_reads_the_speed_of_a_study_with_an_unknown_module(study: str, ran: Path) -> None:
    content = yaml.safe_load(Path(study, "study.yaml").read_text())
    fixed = load_space("digits-lt").base().nested()
    content["space"]["fixed"] = fixed | {"model": {"name": "theirs", "theirs_width": 3}}
    Path(study, "study.yaml").write_text(yaml.safe_dump(content))
    code, _, err = invoke("plan", "digits-lt", "--study", study)
    assert code == 2 and "has model=theirs, this search has" in err
    assert not ran.exists()


@pytest.mark.parametrize(
    "command",
    [
        ["resume", "STUDY"],
        ["train", "STUDY"],
        ["train", "STUDY/best.yaml"],
        ["train", "--trial", "STUDY", "0"],
        ["train", "STUDY", "--baselines"],
        ["compare", "digits-lt", "--study", "STUDY"],
        ["show", "spaces", "--space", "STUDY/space.yaml"],
        ["show", "methods", "--space", "like.yaml"],
        ["search", "STUDY/space.yaml"],  # it is in a study's folder
        ["plan", "STUDY/space.yaml"],
    ],
)
def test_what_needs_the_module_is_refused_in_one_line(
    command: list[str], study: str, ran: Path
) -> None:
    Path("like.yaml").write_text(f"like: {study}/space.yaml\n")
    code, out, err = invoke(*(word.replace("STUDY", study) for word in command))
    assert code == 2 and out == ""
    assert err.startswith("error: ") and ASKED in err and err.count("\n") == 1
    assert not ran.exists()


@pytest.mark.parametrize("command", ["search", "plan", "calibrate", "compare"])
def test_trust_runs_the_module_of_a_space(command: str, study: str, ran: Path) -> None:
    words = [command, f"{study}/space.yaml", "--data", "missing"]  # which ends it after the module
    code, _, err = invoke(*words, "--trust")
    assert code == 2 and "would run" not in err
    assert ran.read_text() == "x"


@pytest.mark.parametrize("function", ["search", "plan", "calibrate", "compare"])
def test_trust_runs_the_module_of_a_space_from_python(function: str, study: str, ran: Path) -> None:
    with pytest.raises(ImbtuneError, match="missing"):
        getattr(imbtune, function)(f"{study}/space.yaml", data="missing", trust=True)
    assert ran.read_text() == "x"


def test_submit_trusts_the_module_of_a_space(study: str, ran: Path) -> None:
    submitted_request(f"{study}/space.yaml", trials=3, storage="runs", trust=True)
    assert ran.read_text() == "x"


def test_the_same_from_python(study: str, ran: Path) -> None:
    for read in (
        lambda: imbtune.load_model(f"{study}/model"),
        lambda: imbtune.resume(study),
        lambda: imbtune.train(study),
        lambda: imbtune.train(imbtune.load_study(study).winner),
        lambda: imbtune.compare("digits-lt", study=study),
    ):
        with pytest.raises(UntrustedError, match="trust=True"):
            read()
    assert not ran.exists()


def test_a_user_who_agrees_is_not_asked_again(study: str, ran: Path) -> None:
    with pytest.raises(ConfigError, match="not a model"):  # the module has run by then
        imbtune.load_model(f"{study}/model", trust=True)
    assert ran.read_text() == "x"
    assert load_space(f"{study}/space.yaml").imports  # the same source
    assert stat.S_IMODE(trust_file().stat().st_mode) == 0o600
    Path(study, "my_parts.py").write_text("edited = True\n")
    with pytest.raises(UntrustedError):
        read_study(study)


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2), ("", 2)])
def test_the_question_on_a_terminal(
    answer: str, code: int, study: str, ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    monkeypatch.setattr(sys, "stderr", err := Terminal())
    from imbtune.cli.settings import with_trust

    try:
        with_trust(lambda: load_space(f"{study}/space.yaml", trusted=False), trust=False)
        assert code == 0 and ran.exists()
    except UntrustedError:
        assert code == 2 and not ran.exists()
    assert f"{study}/my_parts.py" in err.getvalue() and "[y/N]" in err.getvalue()


def test_ones_own_space_runs_and_what_one_has_searched_is_trusted(tmp_path: Path) -> None:
    Path("my_parts.py").write_text("x = 1\n")
    space = load_space_of("my_parts")
    copy_sources(space.imports, Store(str(tmp_path / "copy")))  # as a search does
    assert trust_file().exists()
    load_plugins(["my_parts"], Store(str(tmp_path / "copy")))


def load_space_of(module: str) -> imbtune.SearchSpace:
    return imbtune.space("mine", like="digits-lt", imports=[module])


def test_a_list_that_others_can_write_is_not_believed(tmp_path: Path) -> None:
    module = PluginModule("my_parts", "my_parts.py", b"x = 1\n")
    trust.trust([module])
    trust._accepted.clear()
    check_trusted([module], "here")
    trust_file().chmod(0o622)
    with pytest.raises(UntrustedError):
        check_trusted([module], "here")
    with consent(True):
        check_trusted([module], "here")
    assert stat.S_IMODE(trust_file().stat().st_mode) == 0o600


def test_without_a_folder_to_write_to_the_process_remembers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    module = PluginModule("my_parts", "my_parts.py", b"x = 1\n")
    trust.trust([module])
    check_trusted([module], "here")


def test_an_installed_package_is_not_even_looked_into(
    tmp_path: Path, ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python runs a package to find a module in it."""
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package/__init__.py").write_text(writes(ran))
    (tmp_path / "my_package/parts.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("my_package", "my_package.parts"):
        with pytest.raises(UntrustedError, match=name):
            load_plugins([name], Store(str(tmp_path / "study")))
    assert not ran.exists()
    with consent(True):
        load_plugins(["my_package.parts"], Store(str(tmp_path / "study")))
    assert ran.read_text() == "x"


# ---- files that would run code when they are read


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = str(file)

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.file}",)


def test_a_model_that_would_run_code_is_no_model(tmp_path: Path, ran: Path) -> None:
    for write in (
        lambda path: torch.save({"settings": Bomb(ran)}, path),
        lambda path: path.write_bytes(pickle.dumps(Bomb(ran), protocol=2)),
    ):
        write(tmp_path / "model-seed0.pt")
        with pytest.raises(ConfigError, match="not a model that imbtune wrote"):
            imbtune.load_model(tmp_path)
    assert not ran.exists()


def test_an_archive_of_arrays_with_objects_is_refused(tmp_path: Path, ran: Path) -> None:
    images = np.zeros((4, 3, 3), np.uint8)
    bomb = np.array([Bomb(ran)] * 4, dtype=object)
    np.savez(tmp_path / "mine.npz", images=images, labels=bomb, allow_pickle=True)
    with pytest.raises(ImbtuneError, match="Object arrays cannot be loaded"):
        load("npz", {}, DataSource(tmp_path / "mine.npz"))
    assert not ran.exists()


@pytest.mark.parametrize("name", ["study.yaml", "space.yaml", "best.yaml"])
def test_yaml_makes_no_objects(name: str, study: str, ran: Path) -> None:
    tag = f"!!python/object/apply:os.system ['touch {ran}']\n"
    Path(study, name).write_text(tag)
    for read in (read_study, imbtune.train):
        with pytest.raises(ImbtuneError):
            read(study)
    assert not ran.exists()


def test_no_file_of_imbtune_unpickles_freely() -> None:
    """`torch.load` with weights only, NumPy without pickle, YAML's safe loader."""
    source = "\n".join(path.read_text() for path in Path(imbtune.__file__).parent.rglob("*.py"))
    for call in (r"(?<!safetensors\.)torch\.load\(", r"np\.load\("):
        parts = re.split(call, source)[1:]
        assert parts
        for part in parts:
            until = part[:200].replace("\n", " ")
            assert "weights_only=True" in until or "allow_pickle=False" in until, until
    for call in (
        "import pickle",
        "pd.read_pickle",
        "yaml.unsafe_load",
        "yaml.full_load",
        " eval(",
        "joblib",
    ):
        assert call not in source
