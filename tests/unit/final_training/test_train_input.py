"""What a training knows of the study or preset that it is of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from data_files import raises_one_line
from made_study import make_study
from small_data import make_splits

from imbtune.config.train_config import TrainConfig
from imbtune.errors import ConfigError
from imbtune.final_training.final_task import FinalTask
from imbtune.final_training.train_input import (
    TrainInput,
    data_of_study,
    from_file,
    from_path,
    from_preset,
    from_trial,
    with_objectives,
)
from imbtune.metrics.metric import objectives_of
from imbtune.search_options import given_objectives
from imbtune.study.view import Study


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """The data with which the study `tmp_path/study` was searched."""
    folder = tmp_path / "photos"
    folder.mkdir()
    content = {
        "space": {"fixed": {"data": {"name": "folder", "size": 0}}},
        "request": {"data": str(folder), "skip_corrupt": True},
    }
    (tmp_path / "study").mkdir()
    (tmp_path / "study/study.yaml").write_text(yaml.safe_dump(content))
    return folder


def given(study: Path | None, data: str = "folder") -> TrainInput:
    config = TrainConfig.from_settings({"data": data})
    return TrainInput(config, (), {}, Path("out"), None if study is None else str(study))


def test_a_training_has_the_data_of_its_study(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IMBTUNE_DATA", raising=False)
    study, nothing = tmp_path / "study", (None, False)
    assert data_of_study(given(study)) == (photos, True)
    assert data_of_study(given(None)) == nothing
    assert data_of_study(given(tmp_path / "moved")) == nothing
    assert data_of_study(given(study, "digits")) == nothing  # other data than the study's
    monkeypatch.setenv("IMBTUNE_DATA", str(tmp_path))
    assert data_of_study(given(study)) == nothing
    monkeypatch.delenv("IMBTUNE_DATA")
    photos.rmdir()
    with raises_one_line(f"found its images in {photos}, which is not there now: give --data"):
        data_of_study(given(study))
    file = study / "study.yaml"
    file.write_text(file.read_text().replace("name: folder", "name: cifar10"))
    assert data_of_study(given(study, "cifar10")) == nothing  # it is downloaded


def test_a_data_set_that_reads_no_files_has_no_folder(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier versions recorded one where $IMBTUNE_DATA was set."""
    monkeypatch.delenv("IMBTUNE_DATA", raising=False)
    file = tmp_path / "study/study.yaml"
    file.write_text(file.read_text().replace("folder", "digits", 1))
    assert "digits" in file.read_text()
    assert data_of_study(given(tmp_path / "study", "digits")) == (None, False)


def test_objectives_that_are_given_replace_those_of_the_study() -> None:
    own = replace(given(None), provenance={"file": "f", "objective": "auroc"})
    setting = {"name": "f_beta", "beta": 2.0, "of": "9"}
    found = with_objectives(own, given_objectives([setting, "mcc"]))
    assert objectives_of(found.provenance) == given_objectives([setting, "mcc"])
    assert found.provenance["file"] == "f" and "objective" not in found.provenance
    assert found.provenance["searched"] == ["auroc"]
    four = ["auroc", "mcc", "ece", "brier"]
    with pytest.raises(ConfigError, match=r"^--objective: these are 4: give at most 3 metrics$"):
        given_objectives(four)
    text = "{name: f_beta, beta: 2.0, of: '9'}"
    assert given_objectives(text) == given_objectives(setting)
    with pytest.raises(ConfigError, match=r"^unknown --objective 'f_bet': did you mean 'f_beta'"):
        given_objectives("f_bet")
    listed = f"[{text}, mcc]"
    assert given_objectives(listed) == given_objectives([text, "mcc"])
    with pytest.raises(ConfigError, match="give --objective once for each metric"):
        given_objectives("mcc,auroc")
    with pytest.raises(ConfigError, match=r"give a metric's name, or \{name: …\} with values"):
        given_objectives("{name: auroc")
    with pytest.raises(ConfigError, match=r"^--objective: precision=1.5"):
        given_objectives("{name: recall_at_precision, precision: 1.5}")


def test_a_preset_whose_method_was_changed_is_told() -> None:
    def changed(**settings: object) -> object:
        settings = {key.replace("__", "."): value for key, value in settings.items()}
        return from_preset("mamix_drw", "digits-lt", settings).provenance.get("changed")

    assert changed() is None
    assert changed(epochs=3, seed=2, optimizer__lr=0.2, model__width=4) is None  # of the setting
    assert changed(mix__omega=0.5) == ["mix.omega=0.5"]
    assert changed(mix="mixup", epochs=3) == ["mix=mixup"]
    assert changed(mix="mamix") is None  # as it is


def test_an_edited_choice_is_no_choice_any_more(tmp_path: Path) -> None:
    study, best = str(tmp_path / "study"), tmp_path / "study/best.yaml"
    make_study(study)
    text = best.read_text()
    own = from_path(study, {})

    def found(edited: str, **settings: object) -> tuple[object, object]:
        best.write_text(edited)
        given = from_path(study, {key.replace("__", "."): v for key, v in settings.items()})
        return given.provenance.get("changed"), given.provenance.get("unrecorded")

    content = yaml.safe_load(text)
    lr = f"  lr: {content['optimizer']['lr']}\n"
    assert found(text) == (None, None)
    assert found(yaml.safe_dump(content | {"seed": 5})) == (None, None)
    assert found(text, epochs=3) == (["epochs=3"], None)
    assert found(text.replace(lr, "  lr: 0.04\n", 1)) == (["optimizer.lr=0.04"], None)
    fewer = yaml.safe_dump(content | {"epochs": 4, "loss": {"name": "ldam", "scale": 20.0}})
    assert found(fewer) == (["loss=ldam", "loss.scale=20.0", "epochs=4"], None)
    both = ["loss=ldam", "loss.scale=20.0", "epochs=2"]
    assert found(fewer, epochs=2) == (both, None)  # not the 4 of the file, too
    assert found(fewer, epochs=content["epochs"]) == (both[:2], None)
    assert found(text.replace(lr.strip(), "lr: 0.04")) == (None, True)  # the record, too
    for odd in ({"epochs": float("nan")}, {1: 2, "epochs": 3}):
        edited = content | {"provenance": content["provenance"] | {"settings": odd}}
        assert found(yaml.safe_dump(edited, sort_keys=False)) == (None, True)
    del content["provenance"]["settings"]  # as earlier versions wrote it
    assert found(yaml.safe_dump(content)) == (None, True)

    best.write_text(fewer)  # the trial itself is in the journal
    winner = yaml.safe_load(text)["provenance"]["winner"]["trial"]
    again = from_trial(Study(study).trial(winner), {})
    assert (again.config, again.out) == (own.config, own.out)
    assert "winner" in again.provenance and "changed" not in again.provenance
    assert from_trial(Study(study).trial(winner), {"epochs": 2}).provenance["changed"] == [
        "epochs=2"
    ]


def test_an_error_in_the_provenance_of_a_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "e.yaml"
    file.write_text("data: digits\nprovenance: {objectives: [avg]}\n")
    with pytest.raises(ConfigError, match=rf"^{file}: unknown objective 'avg': choose one of"):
        from_file(str(file), {})


def test_an_objective_of_other_images_names_its_file(tmp_path: Path) -> None:
    """The names of the classes have commas, so they are quoted."""
    splits = replace(make_splits([9, 4]), classes=("a, b", "c"))
    provenance = {"file": "runs/two/best.yaml", "objectives": [{"name": "f_beta", "of": "Nichts"}]}
    task = FinalTask(tmp_path, TrainConfig.from_settings({}), 1, splits, provenance=provenance)
    says = (
        r"^runs/two/best.yaml: the objective f_beta \(beta 2, of 'Nichts'\) does not fit these "
        r"images, which may not be those of its search: unknown class 'Nichts': choose one of "
        r"'a, b', 'c'$"
    )
    with pytest.raises(ConfigError, match=says):
        task.check_objectives()
    here = with_objectives(given(None), objectives_of(provenance)).provenance
    with pytest.raises(ConfigError, match=r"^unknown class 'Nichts'"):
        replace(task, provenance=here).check_objectives()
