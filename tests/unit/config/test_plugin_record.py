"""A study trains with the plugin files that it recorded, or one line says what differs."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
import yaml
from plugin_files import loss

from imbtune.config.plugin_module import PluginModule
from imbtune.config.plugin_record import describe, edits
from imbtune.config.plugins import copy_sources, load_plugins
from imbtune.errors import StudyError
from imbtune.storage import Store


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study with a copy of mine/my_parts.py."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/my_parts.py").write_text(loss())
    modules = load_plugins(["my_parts"], Store(str(tmp_path / "mine")), trusted=True)
    folder = Store(str(tmp_path / "study"))
    copy_sources(modules, folder)
    folder.write("study.yaml", yaml.safe_dump({"imports": describe(modules)}).encode())
    return tmp_path / "study"


def load(study: Path) -> tuple[PluginModule, ...]:
    return load_plugins(["my_parts"], Store(str(study)), trusted=True)


def test_the_copy_with_the_recorded_hash_is_used(study: Path) -> None:
    (study.parent / "mine/my_parts.py").write_text(loss(factor="2"))
    modules = load(study)
    assert modules[0].source == loss().encode()
    recorded = yaml.safe_load((study / "study.yaml").read_text())["imports"]
    assert edits(recorded, modules) == [
        f"{study.parent}/mine/my_parts.py has changed since the study began: the study trains with "
        "its own copy of what it was"
    ]
    (study.parent / "mine/my_parts.py").unlink()
    assert edits(recorded, modules) == edits(None, modules) == []


@pytest.mark.parametrize("original", ["kept", "edited too", "deleted"])
def test_another_copy_is_refused_before_it_runs(study: Path, original: str) -> None:
    mine = study.parent / "mine/my_parts.py"
    (study / "my_parts.py").write_text("raise SystemExit('it ran')")
    if original == "edited too":
        mine.write_text(loss(factor="2"))
    elif original == "deleted":
        mine.unlink()
    fix = f"copy {mine} there" if original == "kept" else "restore it from a copy"
    with pytest.raises(StudyError, match=r"not the file that was trained with \(SHA-256 \w{12}…, "):
        load(study)
    with pytest.raises(StudyError, match=f"now [0-9a-f]{{12}}…\\): {fix}, or train what is there"):
        load(study)


@pytest.mark.parametrize("name", ["manifest.json", "results.json"])  # of earlier versions
def test_the_files_beside_a_trained_model_are_checked_too(study: Path, name: str) -> None:
    (study / "study.yaml").unlink()
    assert load(study)[0].source == loss().encode()  # no record
    (study / name).write_text(json.dumps({"imports": describe(load(study))}))
    (study / "my_parts.py").write_text(loss(factor="3"))
    with pytest.raises(StudyError, match="not the file that was trained with"):
        load(study)


def test_a_trained_model_has_no_path_of_its_makers_machine(study: Path) -> None:
    """Its files are checked by name and hash."""
    record = describe(load(study), with_path=False)
    digest = sha256(loss().encode()).hexdigest()
    assert record == {"my_parts": {"file": "my_parts.py", "sha256": digest}}
    (study / "study.yaml").unlink()
    (study / "manifest.json").write_text(json.dumps({"imports": record}))
    assert load(study)[0].source == loss().encode()
    (study / "my_parts.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(StudyError, match="restore it from a copy, or train what is there"):
        load(study)


@pytest.mark.parametrize("record", ["imports: [a]", "imports: {my_parts: 7}", "{", "[]", ""])
def test_a_folder_without_a_record_is_not_checked(study: Path, record: str) -> None:
    """Such as a user's folder with spaces, or an older study."""
    (study / "study.yaml").write_text(record)
    (study / "my_parts.py").write_text(loss(factor="3"))
    assert load(study)[0].source == loss(factor="3").encode()


def test_an_installed_module_that_changed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_installed.py").write_text(loss())
    monkeypatch.syspath_prepend(tmp_path)
    modules = load_plugins(["my_installed"], Store(str(tmp_path / "study")), trusted=True)
    recorded = describe(modules)
    assert edits(recorded, modules) == []
    (tmp_path / "my_installed.py").write_text(loss(factor="2"))
    (line,) = edits(recorded, modules)
    assert line.startswith("the installed module my_installed (yes) has changed since the study")


def test_a_study_of_an_earlier_version_goes_on_and_says_so(study: Path) -> None:
    """Its record did not say where the file was from, and was never checked."""
    recorded = yaml.safe_load((study / "study.yaml").read_text())["imports"]
    del recorded["my_parts"]["from"]
    (study / "study.yaml").write_text(yaml.safe_dump({"imports": recorded}))
    assert edits(recorded, load(study)) == []
    (study / "my_parts.py").write_text(loss(factor="2"))
    assert edits(recorded, load(study)) == [
        f"{study}/my_parts.py has changed since the study began"
    ]
