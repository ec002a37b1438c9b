"""The Python API: its names, studies that are read, options that are checked, and training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from command import in_new_process
from data_files import raises_one_line
from made_study import FINALS_OF, RECORDS, SPACE, make_study, record

import imbtune
from imbtune.config.slots import SLOTS, registries
from imbtune.config.train_config import TrainConfig
from imbtune.errors import ConfigError, StudyError
from imbtune.search_options import search_request, submitted_request
from imbtune.spaces.space_file import load_space, parse_space
from imbtune.study.request import SearchRequest
from imbtune.study.view import PLAIN_SETTINGS, Study
from imbtune.tuning.cluster.resources import Resources
from imbtune.tuning.forecast.forecast import Plan
from imbtune.tuning.forecast.trial_speed import Fleet

HEAVY = ("torch", "ray", "optuna", "pandas", "numpy", "pyarrow", "yaml", "scipy", "sklearn")
LIGHT_MODULES = 100  # Python itself has about 60 when it starts


# ---- names


def test_importing_imbtune_imports_nothing_heavy() -> None:
    """Counted in modules, since a time depends on the machine: 60 modules take about 10 ms."""
    found = in_new_process("import imbtune, json, sys\nprint(json.dumps(list(sys.modules)))")
    assert not set(HEAVY) & set(found)
    assert [name for name in found if name.startswith("imbtune")] == ["imbtune"]
    assert len(found) < LIGHT_MODULES


def test_every_public_name_is_there() -> None:
    assert set(imbtune.__all__) <= set(dir(imbtune))
    assert imbtune.__all__ == sorted(imbtune.__all__)
    for name in imbtune.__all__:
        assert getattr(imbtune, name) is getattr(imbtune, name), name
    exported = {name for names in imbtune._MODULES.values() for name in names.split()}
    assert exported | {"__version__"} == set(imbtune.__all__)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'imbtune' has no attribute 'serch'"):
        _ = imbtune.serch


def test_registries_by_name() -> None:
    found = imbtune.registries()
    assert [registry.slot for registry in registries()] == list(found)
    assert set(SLOTS) < set(found)
    assert "ldam" in [part.name for part in found["loss"]]


# ---- a study that is read


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Six trials and the finals of three of them."""
    path = tmp_path_factory.mktemp("made") / "tiny"
    make_study(str(path)).close()
    return imbtune.load_study(path)


def test_reading_a_study_imports_no_torch_and_runs_no_code_of_it(tmp_path: Path) -> None:
    """The study's space names a module that would write a file."""
    make_study(str(tmp_path / "tiny"), imports=["my_trap"]).close()
    trap = tmp_path / "tiny" / "my_trap.py"
    trap.write_text(f"from pathlib import Path\nPath({str(tmp_path / 'sprung')!r}).touch()\n")
    code = """
import json, sys
import imbtune
study = imbtune.load_study("tiny")
study.info, study.trials, study.epochs, study.finals, study.winner, study.best, study.baseline
study.evidence, study.trial(4), repr(study), str(study.winner)
print(json.dumps([name for name in ("torch", "ray", "optuna", "my_trap") if name in sys.modules]))
"""
    assert in_new_process(code, tmp_path) == []
    assert not (tmp_path / "sprung").exists()


def test_trials_are_a_frame_with_typed_columns(made: Study) -> None:
    trials = made.trials
    assert trials["trial"].tolist() == [0, 1, 2, 3, 4, 5]
    assert trials["state"].tolist() == ["COMPLETE"] * 4 + ["PRUNED", "FAIL"]
    assert trials["preset"].isna().tolist() == [False, False, True, True, True, True]
    assert trials["finalist"].tolist() == [False, True, True, True, False, False]
    assert trials["finalist"].dtype == bool
    assert trials["score"].isna().tolist() == [False] * 5 + [True]
    for column in ("trial", "budget", "epochs", "seed", "rescued"):
        assert pd.api.types.is_integer_dtype(trials[column]), column
    assert pd.api.types.is_bool_dtype(trials["optimizer.nesterov"])
    assert trials["mix.omega"].dtype == float
    assert isinstance(trials["ended"].dtype, pd.DatetimeTZDtype)
    assert [list(scores) for scores in trials["rung_scores"]][:2] == [[0.3, 0.5], [0.35, 0.6]]


def test_a_knob_that_does_not_act_is_null(made: Study) -> None:
    trials = made.trials
    assert (trials["mix.omega"].notna() == (trials["mix"] == "mamix")).all()
    assert (trials["weights.beta"].notna() == (trials["weights"] != "none")).all()


def test_epochs_and_finals_are_frames(made: Study) -> None:
    epochs, finals = made.epochs, made.finals
    assert len(epochs) == 4 * 9 + 3
    assert epochs[epochs["trial"] == 4]["epoch"].tolist() == [1, 2, 3]
    assert pd.api.types.is_integer_dtype(epochs["epoch"])
    assert np.array(epochs["recall"].tolist()).shape == (39, 4)
    assert finals.groupby("trial")["score"].apply(tuple).to_dict() == FINALS_OF
    assert (finals["score"] == finals["balanced_accuracy"]).all()


def test_the_winner_is_the_finals_and_not_the_highest_score_of_one_run(made: Study) -> None:
    assert made.trials.set_index("trial")["score"].idxmax() == 2
    assert made.winner and made.best and made.baseline and made.evidence
    assert made.winner == made.best == made.trial(3)
    assert made.baseline.number == 1
    assert made.baseline.preset == "drw"
    assert made.evidence.mean == pytest.approx(0.71)
    assert made.evidence.lead == pytest.approx(0.15)
    assert (made.evidence.seeds, made.evidence.finalists) == (2, 3)


def test_a_trial(made: Study) -> None:
    trial = made.trial(3)
    assert (trial.preset, trial.state, trial.score, trial.budget) == (None, "COMPLETE", 0.7, 9)
    assert trial.rungs == {3: 0.45, 9: 0.7}
    assert trial.metrics == {"balanced_accuracy": 0.7}
    assert trial.recall_K == [1.0, 0.7, 0.0, 0.0]
    assert trial.settings == RECORDS[3].settings
    assert TrainConfig.from_settings(trial.settings).flat() == trial.settings
    assert str(trial) == "trial 3: mamix, 0.7000 in one run of 9 epochs, COMPLETE"
    assert str(made.trial(1)) == "trial 1: drw (preset), 0.6000 in one run of 9 epochs, COMPLETE"
    failed = made.trial(5)
    assert (failed.score, failed.budget, failed.rungs, failed.recall_K) == (None, 0, {}, [])
    assert str(failed) == "trial 5: mamix, no rung reached, FAIL"


def test_plain_settings_are_those_of_a_configuration(made: Study) -> None:
    """The study's view names them itself, since TrainConfig imports torch."""
    from imbtune.config.train_config import PLAIN

    assert set(PLAIN_SETTINGS) == set(PLAIN)


def test_a_study_says_what_it_holds(made: Study) -> None:
    found = "6 of 6 trials (4 COMPLETE, 1 PRUNED, 1 FAIL)"
    assert repr(made) == f"Study({made.path!r}): {found}"
    assert made.info["data"]["counts"] == [60, 20, 6, 1]
    assert made.info["data"]["classes"] == ["class0", "class1", "class2", "class3"]


def test_without_finals_nothing_is_confirmed(tmp_path: Path) -> None:
    make_study(str(tmp_path / "tiny"), finals={}).close()
    study = imbtune.load_study(tmp_path / "tiny")
    assert (study.winner, study.baseline, study.evidence) == (None, None, None)
    assert study.finals.empty
    assert not study.trials["finalist"].any()
    assert study.best == study.trial(2)  # the highest score, which is of one run


def test_equal_scores_go_to_the_earlier_trial(tmp_path: Path) -> None:
    """As in the choice of best.yaml."""
    tied = [record(0, {9: 0.5}), record(1, {9: 0.6}), record(2, {9: 0.6}), record(3, {3: 0.9})]
    make_study(str(tmp_path / "tiny"), tied, finals={}).close()
    study = imbtune.load_study(tmp_path / "tiny")
    best = yaml.safe_load((tmp_path / "tiny" / "best.yaml").read_text())
    assert study.best and study.best.number == best["provenance"]["winner"]["trial"] == 1


def test_a_study_without_any_row(tmp_path: Path) -> None:
    make_study(str(tmp_path / "tiny"), [], finals={})
    study = imbtune.load_study(tmp_path / "tiny")
    assert len(study.trials) == len(study.epochs) == len(study.finals) == 0
    assert {"mix.omega", "finalist", "score"} <= set(study.trials.columns)
    assert (study.best, study.winner, study.evidence) == (None, None, None)
    assert repr(study) == f"Study({study.path!r}): 0 of 6 trials"
    with raises_one_line("has no trial 0 that has ended", kind=StudyError):
        study.trial(0)


def test_a_study_of_which_only_study_yaml_is_written(tmp_path: Path) -> None:
    """As it is for a moment at its start."""
    make_study(str(tmp_path / "tiny"), [], finals={})
    for name in ("trials", "epochs"):
        for part in (tmp_path / "tiny" / name).iterdir():
            part.unlink()
        (tmp_path / "tiny" / name).rmdir()
    study = imbtune.load_study(tmp_path / "tiny")
    assert study.trials.empty and study.epochs.empty
    assert study.best is None


def test_a_study_that_is_being_written(tmp_path: Path) -> None:
    """Each property reads anew; parts are added while it is read, and made one at the end."""
    sink = make_study(str(tmp_path / "tiny"), RECORDS[:2], finals={}, best=False)
    study = imbtune.load_study(tmp_path / "tiny")
    assert study.trials["trial"].tolist() == [0, 1]
    assert study.best == study.trial(1)
    sink.trial(RECORDS[2].row())
    assert len(study.trials) == 2  # rows go out every few seconds
    sink.flush()
    assert study.trials["trial"].tolist() == [0, 1, 2]
    assert study.best == study.trial(2)
    before = study.trials
    sink.close()
    pd.testing.assert_frame_equal(study.trials, before)


def test_a_file_that_a_user_has_edited_confirms_nothing(tmp_path: Path) -> None:
    make_study(str(tmp_path / "tiny")).close()
    best = tmp_path / "tiny" / "best.yaml"
    content = yaml.safe_load(best.read_text())
    del content["provenance"]
    best.write_text(yaml.safe_dump(content))
    study = imbtune.load_study(tmp_path / "tiny")
    assert study.winner is None
    assert study.best == study.trial(2)


def test_a_provenance_that_no_search_writes(tmp_path: Path) -> None:
    make_study(str(tmp_path / "tiny")).close()
    best = tmp_path / "tiny" / "best.yaml"
    content = yaml.safe_load(best.read_text())
    content["provenance"] = {"winner": "trial 3"}
    best.write_text(yaml.safe_dump(content))
    study = imbtune.load_study(tmp_path / "tiny")
    with raises_one_line("best.yaml has no provenance of a search", kind=StudyError):
        _ = study.winner


def test_evidence_that_a_later_version_wrote(tmp_path: Path) -> None:
    make_study(str(tmp_path / "tiny")).close()
    before = imbtune.load_study(tmp_path / "tiny").evidence
    best = tmp_path / "tiny" / "best.yaml"
    content = yaml.safe_load(best.read_text())
    content["provenance"]["finals"]["effect_size"] = 0.8
    best.write_text(yaml.safe_dump(content))
    assert before and imbtune.load_study(tmp_path / "tiny").evidence == before


def test_a_study_without_its_journal(made: Study) -> None:
    with raises_one_line("tiny has no journal.log: restore it from a backup", kind=StudyError):
        _ = made.optuna


def test_a_study_is_given_as_itself_or_by_its_path(made: Study) -> None:
    assert imbtune.load_study(made).path == imbtune.load_study(Path(made.path)).path == made.path
    with raises_one_line("the study '': it is empty", kind=ConfigError):
        imbtune.load_study("")
    with raises_one_line("the study 3: give a path", kind=ConfigError):
        imbtune.load_study(3)  # type: ignore[arg-type]


def test_arguments_of_another_type() -> None:
    with raises_one_line(
        "progress=3: give one of auto, live, plain, json, a function that takes", kind=ConfigError
    ):
        imbtune.search("digits-lt", progress=3)  # type: ignore[arg-type]
    with raises_one_line("--data 3: give a path", kind=ConfigError):
        imbtune.search("digits-lt", data=3)  # type: ignore[arg-type]


def test_data_for_a_data_set_that_reads_no_files_is_refused(
    tmp_path: Path, made: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig.from_settings({"data": "digits"})
    calls: list[Callable[[Path], object]] = [
        lambda data: imbtune.search("digits-lt", data=data),
        lambda data: imbtune.plan("digits-lt", data=data),
        lambda data: imbtune.plan("digits-lt", data=data, study=made),
        lambda data: imbtune.calibrate("digits-lt", data=data),
        lambda data: imbtune.compare("digits-lt", data=data),
        # as a study is resumed, and a trial trained again
        lambda data: replace(search_request("digits-lt", trials=3), data=data).data_source(),
        lambda data: imbtune.train(config, data=data, out=tmp_path / "out"),
        lambda data: imbtune.train(preset="erm", space="digits-lt", data=data),
        lambda data: submitted_request("digits-lt", trials=3, storage="runs", data=str(data)),
    ]
    for call in calls:
        with raises_one_line(
            f"--data {tmp_path}: the data set 'digits' reads no files: leave it out",
            kind=ConfigError,
        ):
            call(tmp_path)
    assert not (tmp_path / "out").exists()
    monkeypatch.setenv("IMBTUNE_DATA", str(tmp_path))  # for data sets that read files
    request = search_request("digits-lt", trials=3)
    assert request.data_source().root is None and request.to_dict()["data"] is None


def test_a_study_whose_data_set_reads_no_files_goes_on_whatever_it_recorded() -> None:
    """As earlier versions recorded $IMBTUNE_DATA, and a --data that they passed over."""
    request = search_request("digits-lt", trials=3)
    content = {**request.to_dict(), "data": "/photos"}
    del content["typed"]
    assert SearchRequest.from_dict(request.space, content).data is None


def test_no_study_there(tmp_path: Path) -> None:
    with raises_one_line("nowhere is not a study, it has no study.yaml", kind=StudyError):
        imbtune.load_study(tmp_path / "nowhere")
    with raises_one_line("the study foo://bar: give a folder, s3://BUCKET/", kind=ConfigError):
        imbtune.load_study("foo://bar")
    with raises_one_line(f"{tmp_path} is not a study", kind=StudyError):
        imbtune.resume(tmp_path)


# ---- spaces and options


def test_a_space_in_python_is_the_space_of_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(dict(SPACE)))
    assert imbtune.space("tiny", **SPACE) == load_space(str(tmp_path / "tiny.yaml"))


def test_a_space_can_be_like_another(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(dict(SPACE)))
    found = imbtune.space("mine", tmp_path, like="base.yaml", knobs={"loss": ("ce", "ldam")})
    expected = ["mix", "weights", "loss", "mix.omega", "optimizer.lr"]
    assert [knob.key for knob in found.knobs] == expected
    assert found.possible("loss") == ("ce", "ldam")
    assert imbtune.space("mine", like="digits-lt").base() == load_space("digits-lt").base()


def test_a_space_does_not_change_with_the_lists_that_it_was_made_of() -> None:
    knobs: dict[str, Any] = {"mix": ["none", "mamix"]}
    found = imbtune.space("mine", knobs=knobs)
    knobs["mix"].append("mixup")
    assert found.source["knobs"] == {"mix": ["none", "mamix"]}


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"knob": {}}, "unknown field 'knob': did you mean 'knobs'?"),
        ({"knobs": {"mix": ["mamx"]}}, "unknown mix 'mamx': did you mean 'mamix'?"),
        ({"knobs": {"optimizer.lr": {"low": np.float64(0.1), "high": 1}}}, "as YAML"),
        ({"imports": ["my_missing"]}, "my_missing"),
    ],
)
def test_a_space_that_cannot_be(fields: dict[str, Any], line: str) -> None:
    with raises_one_line(line, kind=ConfigError):
        imbtune.space("mine", **fields)


def test_a_space_object_is_as_good_as_its_name() -> None:
    given: dict[str, Any] = {"name": "s", "trials": 5, "settings": {"mix": "mamix"}, "epochs": 4}
    named = search_request("digits-lt", **given)
    made = search_request(load_space("digits-lt"), **given)
    assert (named.typed, made.typed) == ("digits-lt", "")
    assert vars(named) | {"typed": ""} == vars(made)
    assert named.space.pinned == {"mix": "mamix", "epochs": 4}
    assert named.budgets == [1, 4]
    assert search_request(imbtune.space("mine", **SPACE), trials=3).path == "runs/mine"


WRONG_OPTIONS = [
    ({"name": ""}, "--name '': it is empty"),
    ({"address": ""}, "--address '': it is empty"),
    ({"calibration": ""}, "--calibration '': it is empty"),
    ({"name": "a/b"}, "--name 'a/b': use letters, digits"),
    ({"name": ".hidden"}, "--name '.hidden'"),
    ({"rungs": "prefixes"}, "unknown value for --rungs 'prefixes': did you mean 'prefix'?"),
    ({"wandb": "on"}, "unknown value for --wandb 'on'"),
    ({"wandb_project": 3}, "--wandb-project 3: give a name"),
    ({"wandb_entity": ["e"]}, "--wandb-entity ['e']: give a name"),
    ({"wandb_tags": 3}, "--wandb-tags 3: give words with commas between them"),
    ({"wandb_tags": ["a", 3]}, "--wandb-tags ['a', 3]: give words with commas"),
    ({"calibration": "c"}, "--calibration c goes with --rungs auto"),
    ({"settings": {"seed": 3}}, "--set seed=3: give --seed"),
    ({"settings": {"mix.alfa": 3}}, "unknown knob 'mix.alfa': did you mean 'mix.alpha'?"),
    ({"epochs": 0}, "--epochs 0: give a whole number from 1 on"),
    ({"settings": ["mix"]}, "settings=['mix']: give a mapping, such as {'mix': 'mamix'}"),
    ({"name": 7}, "--name 7: use letters"),
    ({"data": ""}, "--data '': it is empty"),
    ({"address": 3}, "--address 3: give auto or HEAD:6379"),
    ({"storage": None}, "--storage None: give a path"),
    ({"storage": ""}, "--storage '': it is empty"),
    ({"rungs": "auto", "calibration": 3}, "--calibration 3: give a path"),
    ({"rungs": "auto", "calibration": Path("nope")}, "nope"),
    ({"trials": None}, "--trials None: give a whole number from 1 on"),
    ({"trials": 0}, "--trials 0: give a whole number from 1 on"),
    ({"trials": 2.5}, "--trials 2.5: give a whole number from 1 on"),
    ({"trials": True}, "--trials True: give a whole number from 1 on"),
    ({"seed": -1}, "--seed -1: give a whole number from 0 on"),
    ({"finals": -1}, "--finals -1: give a whole number from 0 on"),
    ({"final_seeds": 0}, "--final-seeds 0: give a whole number from 1 on"),
    ({"max_concurrent": 0}, "--max-concurrent 0: give a whole number from 1 on"),
    ({"never_prune": 2}, "--never-prune 2: give a share from 0 to 1"),
    ({"time_budget": 0}, "--time-budget 0: give a number of seconds above 0"),
    ({"time_budget": "30m"}, "--time-budget '30m': give a number of seconds above 0"),
    ({"gpus_per_trial": "0.25"}, "--gpus-per-trial '0.25': give 1/n such as 0.25"),
]


@pytest.mark.parametrize(("options", "line"), WRONG_OPTIONS)
def test_options_that_cannot_be(options: dict[str, Any], line: str) -> None:
    with raises_one_line(line, kind=ConfigError):
        search_request("digits-lt", **{"trials": 5, **options})


def test_numbers_are_checked_where_no_request_is_made(made: Study) -> None:
    with raises_one_line("--trials 0: give a whole number from 1 on", kind=ConfigError):
        imbtune.resume(made.path, trials=0)
    with raises_one_line("--trials 5: give a whole number from 8 on", kind=ConfigError):
        imbtune.calibrate("digits-lt", trials=5)
    with raises_one_line("--gpus 0: give a whole number from 1 on", kind=ConfigError):
        imbtune.plan("digits-lt", gpus=0)
    with raises_one_line("--seeds 0: give a whole number from 1 to 1000", kind=ConfigError):
        imbtune.train(made, seeds=0)


@pytest.fixture
def my_loss() -> Iterator[str]:
    """The name of a loss that is registered in this process, as a notebook would."""
    registry = imbtune.registries()["loss"]

    @registry.register("my_loss", help="of a notebook")
    def my_loss(counts_K: Any) -> None:
        """Never called."""

    yield "my_loss"
    registry.remove("my_loss")


def test_a_part_that_only_this_process_has_cannot_be_searched(my_loss: str) -> None:
    """Trials run in other processes, where every one of them would fail."""
    space = imbtune.space("mine", knobs={"loss": ["ce", my_loss]})
    with raises_one_line(f"loss '{my_loss}' is registered in this process alone", kind=ConfigError):
        search_request(space, trials=5)


# ---- training

SMALL: dict[str, Any] = {
    **{"data.head": 60, "data.ratio": 10, "data.val_per_class": 9},
    **{"model.width": 4, "batch_size": 30, "precision": "float32", "epochs": 1},
}


def train(what: Any = None, **options: Any) -> imbtune.TrainResult:
    return imbtune.train(what, progress=None, **options)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def trained_study() -> Study:
    """A study in the working folder, whose configurations take moments to train."""
    make_study("runs/tiny").close()
    return imbtune.load_study("runs/tiny")


def results(result: imbtune.TrainResult) -> Any:
    return json.loads((result.path / "metrics.json").read_text())


def test_a_study_and_its_file_and_its_winner_are_one_configuration(trained_study: Study) -> None:
    found = [
        train(trained_study, settings=SMALL),
        train("runs/tiny/best.yaml", settings=SMALL, out="file"),
        train("runs/tiny", settings=SMALL, out="study"),
        train(Path("runs/tiny/best.yaml"), settings=SMALL, out=Path("path")),
        train(trained_study.winner, settings=SMALL, out="winner"),
    ]
    assert [str(result.path) for result in found] == [
        *("runs/tiny/best", "file", "study", "path", "winner")
    ]
    line = "--out runs/tiny/best exists already and is not empty: give another folder, such as "
    with raises_one_line(f"{line}--out runs/tiny/best-2, or delete it", kind=StudyError):
        train(trained_study.winner, settings=SMALL)  # its folder is that of best.yaml, too
    assert all(result.config == found[0].config for result in found)
    assert all(result.runs[0].metrics == found[0].runs[0].metrics for result in found)
    assert found[0].config.seed == 0
    assert found[0].config.mix.knobs["omega"] == 0.5
    assert results(found[0])["provenance"]["winner"]["trial"] == 3
    read = {"file": "runs/tiny/best.yaml"}  # a trial is trained from the study's journal
    assert read | results(found[4])["provenance"] == results(found[0])["provenance"]


def test_baselines_are_the_best_preset_and_erm_with_the_same_seeds_data_and_epochs(
    trained_study: Study,
) -> None:
    """The best preset of this study is drw; its erm is a trial, too."""
    assert trained_study.baseline and trained_study.baseline.preset == "drw"
    settings = {key: value for key, value in SMALL.items() if key != "epochs"} | {"after": "crt"}
    result = train("runs/tiny", settings=settings, epochs=2, seeds=2, baselines=True)
    assert [*result.baselines] == ["drw", "erm"]
    for name, other in result.baselines.items():
        assert other.path == result.path / name == Path("runs/tiny/best") / name
        assert results(other)["data_sha256"] == results(result)["data_sha256"]
        assert [run.seed for run in other.runs] == [run.seed for run in result.runs] == [0, 1]
        assert other.config.epochs == result.config.epochs == 2
        assert other.config.model == result.config.model  # width 4
        assert (result.config.after.name, other.config.after.name) == ("crt", "none")
        alone = parse_space("tiny", SPACE).pin(settings | {"epochs": 2, "after": "none"})
        assert other.config == alone.preset(name)
        assert results(other)["provenance"]["preset"] == name
    assert (result.path / "model.safetensors").exists() and not result.baselines["erm"].baselines


def test_a_preset_that_won_is_not_its_own_baseline() -> None:
    make_study("runs/tiny", finals={0: (0.9, 0.9), 1: (0.5, 0.5)}).close()
    study = imbtune.load_study("runs/tiny")
    assert study.winner and study.winner.preset == "erm"
    found = train(study, settings=SMALL, baselines=True)
    assert found.baselines == {}


def test_baselines_of_something_that_is_no_winner(trained_study: Study) -> None:
    config = TrainConfig.from_settings(SMALL)
    Path("plain.yaml").write_text(config.yaml())
    for what in (config, "plain.yaml"):
        with raises_one_line("--baselines trains the best preset of a study", kind=ConfigError):
            train(what, baselines=True, out="o")
    with raises_one_line("--baselines trains the best preset of a study", kind=ConfigError):
        train(preset="drw", space="digits-lt", baselines=True)
    shutil.copy("runs/tiny/best.yaml", "copy.yaml")  # it names its study
    assert [*train("copy.yaml", settings=SMALL, baselines=True).baselines] == ["drw", "erm"]
    shutil.rmtree("runs/tiny")
    with raises_one_line("runs/tiny is not a study", kind=StudyError):
        train("copy.yaml", settings=SMALL, baselines=True, out="o")
    assert not Path("o").exists()


def test_a_folder_without_a_winner_is_one_line() -> None:
    Path("runs/empty").mkdir(parents=True)
    with raises_one_line("runs/empty is a folder without a study.yaml: give a", kind=ConfigError):
        train("runs/empty")
    make_study("runs/tiny", best=False).close()
    line = "runs/tiny has no best.yaml, because its search has not ended, or no trial is better"
    with raises_one_line(line, kind=ConfigError):
        train("runs/tiny")
    with raises_one_line(line, kind=ConfigError):
        train(imbtune.load_study("runs/tiny"))


def test_a_configuration_made_in_python() -> None:
    config = TrainConfig.from_settings(SMALL | {"seed": 5})
    result = train(config, seeds=2)
    assert str(result.path) == "runs/trained"
    assert result.config == config
    assert [run.seed for run in result.runs] == [5, 6]
    assert [
        imbtune.load_model(path).config.seed for path in (result.path, result.path / "seed6")
    ] == [*(5, 6)]


def test_a_preset_of_a_space() -> None:
    small = {key: value for key, value in SMALL.items() if key != "epochs"}
    result = train(preset="ldam_drw", space="digits-lt", settings=small, epochs=2)
    assert str(result.path) == "runs/digits-lt-ldam_drw"
    assert (result.config.loss.name, result.config.epochs) == ("ldam", 2)
    space = imbtune.space("mine", **SPACE)
    assert str(train(preset="erm", space=space, settings=SMALL).path) == "runs/mine-erm"


def test_the_results_are_those_of_the_file() -> None:
    result = train(TrainConfig.from_settings(SMALL), seeds=2)
    written = results(result)
    assert {name: tuple(value.values()) for name, value in written["test"].items()} == (
        result.metrics
    )
    assert written["runs"] == [run.to_dict() for run in result.runs]
    mean, std = result.metrics["balanced_accuracy"]
    assert f"test balanced accuracy {mean:.4f} ± {std:.4f}, 2 seeds" in repr(result)


def test_one_seed_has_no_deviation() -> None:
    result = train(TrainConfig.from_settings(SMALL))
    mean, std = result.metrics["accuracy"]
    assert np.isnan(std)
    assert results(result)["test"]["accuracy"] == {"mean": mean}
    assert repr(result).endswith(", 1 seed")


WRONG_TRAININGS: list[tuple[dict[str, Any], str]] = [
    (
        {},
        "nothing to train: give a configuration, such as runs/NAME/best.yaml, or --preset",
    ),
    ({"what": None}, "give study.best"),
    ({"what": {"mix": "mamix"}}, "cannot train a dict: give a configuration file"),
    ({"what": "nope.yaml"}, "cannot read nope.yaml"),
    ({"preset": "erm"}, "--preset erm needs --space"),
    ({"what": "a.yaml", "preset": "erm"}, "a.yaml and --preset erm: give one of them"),
    ({"what": "a.yaml", "space": "digits-lt"}, "--space digits-lt goes with --preset"),
    ({"what": ""}, "the configuration '': it is empty"),
    ({"preset": "erm", "space": ""}, "the space '': it is empty"),
    ({"preset": "", "space": "digits-lt"}, "unknown preset ''"),
    ({"preset": "erm", "space": "digits-lt", "out": ""}, "--out '': it is empty"),
    ({"preset": "erm", "space": "digits-lt", "out": 3}, "--out 3: give a path"),
    ({"preset": "emr", "space": "digits-lt"}, "unknown preset 'emr'"),
    ({"preset": "erm", "space": "digit-lt"}, "unknown space 'digit-lt'"),
]


@pytest.mark.parametrize(("given", "line"), WRONG_TRAININGS)
def test_trainings_that_cannot_be(given: dict[str, Any], line: str, tmp_path: Path) -> None:
    with raises_one_line(line, kind=ConfigError):
        train(**given)
    assert not list(tmp_path.iterdir())


def test_objects_in_conflict_are_named_in_one_short_line(trained_study: Study) -> None:
    config = TrainConfig.from_settings(SMALL)
    for what, named in (
        (trained_study, "runs/tiny"),
        (trained_study.winner, "a Trial"),
        (config, "a TrainConfig"),
    ):
        with raises_one_line(f"{named} and --preset erm: give one of them", kind=ConfigError):
            train(what, preset="erm", space="digits-lt")
    with raises_one_line("--space mine goes with --preset", kind=ConfigError):
        train(trained_study, space=imbtune.space("mine", **SPACE))


def test_a_folder_that_is_there_is_not_overwritten(trained_study: Study) -> None:
    train(trained_study, settings=SMALL)
    with raises_one_line("runs/tiny/best exists already", kind=StudyError):
        train(trained_study, settings=SMALL)


def test_what_a_notebook_shows_is_one_short_line() -> None:
    """Of each result and of a space: its name, how far it is, and what came out."""
    space = imbtune.space("mine", data={"name": "digits"}, knobs={"mix": ["none", "mixup"]})
    pinned = space.pin({"epochs": 9})
    assert repr(pinned) == "SearchSpace('mine'): 1 searched knob, set: {'epochs': 9}"
    request = SearchRequest(space, 12, "mine")
    outcome = imbtune.SearchOutcome(request, "runs/mine", [], None, None, 1.5, interrupted=True)
    assert repr(outcome) == "SearchOutcome('runs/mine'): 0 of 12 trials, no winner, interrupted"
    calibrated = imbtune.CalibrationOutcome(request, "runs/mine", 3, 24, None)
    assert repr(calibrated) == "CalibrationOutcome('runs/mine'): 3 of 24 runs, no result yet"
    cost = Plan({3: 12, 9: 4}, 7200.0, 600.0, 9000.0, 6, 0.5)
    fleet = Fleet(0, 4, Resources(1, 0.0, 4))
    forecast = imbtune.Forecast(request, fleet, None, cost)  # type: ignore[arg-type]
    assert repr(forecast) == (
        "Forecast('mine', 12 trials): 2 h, 8 CPU hours; trials per rung: 12 at 3, 4 at 9 epochs"
    )
