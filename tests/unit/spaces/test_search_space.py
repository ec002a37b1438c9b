"""Search spaces: shipped ones, conditional knobs, presets as first trials, error lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from imbtune.config.train_config import TrainConfig
from imbtune.errors import ConfigError
from imbtune.methods.posthoc import posthoc_methods
from imbtune.spaces.search_space import Rungs, SearchSpace
from imbtune.spaces.space_file import list_spaces, load_space, parse_space
from imbtune.storage import Store

SHIPPED = (
    *("cifar10-lt", "cifar100-lt", "cinic10-lt", "digits-lt-all"),
    *("digits-lt", "fashion_mnist-lt", "svhn-lt", "tiny_imagenet-lt"),
)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def sample(space: SearchSpace, trials: int, seed: int = 0) -> list[tuple[Any, TrainConfig]]:
    """Random trials of a space: Optuna's parameters and the configuration."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    drawn = []
    for _ in range(trials):
        trial = study.ask()
        config = space.suggest(trial, seed=1)
        drawn.append((trial.params, config))
    return drawn


def test_the_shipped_spaces() -> None:
    assert tuple(list_spaces()) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_suggestions_stay_in_their_ranges_and_only_acting_knobs_are_asked_for(name: str) -> None:
    space = load_space(name)
    ranges = {knob.optuna_name: knob for knob in space.knobs}
    for params, config in sample(space, 100):
        flat = config.flat()
        for key, value in params.items():
            knob = ranges[key]
            assert knob.to_optuna(flat[knob.key]) == pytest.approx(value)
        asked = {ranges[key].key for key in params}
        acting = {k.key for k in space.knobs if k.key in flat}
        assert asked == acting


def test_omega_is_asked_for_with_margin_aware_mixing_and_kappa_with_remix() -> None:
    drawn = sample(load_space("cifar10-lt"), 200)
    for params, config in drawn:
        assert ("mix.omega" in params) == (config.mix.name == "mamix")
        assert ("mix.kappa" in params) == (config.mix.name == "remix")
        assert ("mix.alpha" in params) == (config.mix.name != "none")
        assert ("1-weights.beta" in params) == (config.weights.name == "effective_number")
    assert {config.mix.name for _, config in drawn} >= {"none", "remix", "mamix", "smote"}


def test_knobs_of_generation_and_of_finishing_are_asked_for_with_their_parts() -> None:
    drawn = sample(load_space("digits-lt-all"), 200)
    for params, config in drawn:
        assert ("generate.epochs" in params) == (config.generate.name == "deepsmote")
        assert ("after.tau" in params) == (config.after.name in ("logit_adjustment", "tau_norm"))
        second_stages = ("crt", "lws", "gcl", "mislas")
        assert ("after.lr" in params) == (config.after.name in second_stages)
        assert ("optimizer.rho" in params) == (config.optimizer.name in ("sam", "imbsam"))
        assert ("mix.space" in params) == (config.mix.name in ("smote", "soft_smote"))
        assert ("mix.probability" in params) == (config.mix.name != "none")
        assert ("loss.noise" in params) == (config.loss.name == "gcl")
    assert {config.generate.name for _, config in drawn} == {"none", "deepsmote", "m2m"}
    assert {config.after.name for _, config in drawn} == set(posthoc_methods.names())


def test_strength_is_not_asked_for_where_the_weights_never_act() -> None:
    space = parse_space(
        "s", {"knobs": {"weights": ["inverse"], "weights.power": None, "weights.schedule": None}}
    )
    for params, config in sample(space, 60):
        never = config.weights.shared.schedule == "never"
        assert ("weights.power" in params) != never


@pytest.mark.parametrize("name", SHIPPED)
def test_presets_are_the_first_trials_and_come_out_as_they_are(name: str) -> None:
    space = load_space(name)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    presets = space.presets()
    assert {"erm", "drw", "ldam_drw", "mixup_drw", "remix_drw", "mamix_drw"} <= set(presets)
    for params in presets.values():
        study.enqueue_trial(params)
    for preset in presets:
        config = space.suggest(study.ask(), 3, space.preset_details(preset))
        assert config == space.preset(preset).replace(seed=3)


def test_one_search_holds_presets_with_different_divisors() -> None:
    space = load_space("cifar10-lt")
    reductions = {
        name: space.preset(name).weights.knobs.get("reduction") for name in space.presets()
    }
    assert reductions["ldam_drw"] == "weighted_mean" and reductions["mamix_drw"] == "mean"
    assert space.preset_details("mamix_drw") == {"weights.reduction": "mean"}
    assert all(config.weights.knobs.get("reduction") != "mean" for _, config in sample(space, 30))


@pytest.mark.parametrize(
    ("knobs", "preset", "line"),
    [
        ({"mix": ["none", "smote"]}, "smote", "it needs sampler=class_balanced, the space has"),
        ({"loss": ["ce", "ldam"]}, "mixup", "it needs mix=mixup, the space has mix=none"),
        ({"weights": ["none", "effective_number"]}, "sam_drw", "it needs optimizer=sam"),
    ],
)
def test_a_preset_needs_its_parts_in_the_space(
    knobs: dict[str, Any], preset: str, line: str
) -> None:
    """Otherwise a trial with the preset's name would train something else."""
    assert preset not in parse_space("s", {"knobs": knobs}).presets()
    with pytest.raises(ConfigError, match=f"preset '{preset}' is not inside the space: {line}"):
        parse_space("s", {"knobs": knobs, "presets": [preset]})


@pytest.mark.parametrize(
    ("written", "value"), [("5/300", 5 / 300), ("1/40", 0.025), ("0.025", 0.025), (0.025, 0.025)]
)
def test_a_number_may_be_a_fraction(written: object, value: float) -> None:
    space = parse_space("s", {"train": {"schedule.warmup": written}})
    assert space.base().schedule.shared.warmup == value


@pytest.mark.parametrize("written", ["1/0", "a/b", "1/2/3", "/", "0 a", "0  0.5", "-1", ""])
def test_a_wrong_fraction_or_milestone_is_one_line(written: str) -> None:
    with pytest.raises(ConfigError, match=r"^schedule.warmup=[^\n]*is no.*: from 0 to 0.5$"):
        parse_space("s", {"train": {"schedule.warmup": written + "x"}})
    with pytest.raises(ConfigError, match=r"^schedule.milestones=[^\n]*is not valid: give[^\n]*$"):
        parse_space("s", {"train": {"schedule.milestones": written}})


def test_a_pinned_setting_is_fixed_for_trials_and_presets() -> None:
    known = load_space("cifar10-lt").pin({"mix": "mamix", "optimizer.lr": 0.05})
    assert list(known.presets()) == ["mamix_drw"]
    space = known.pin({"mix.omega": 0.5})
    assert list(space.presets()) == []  # with another ω it is not the published method
    for params, config in sample(space, 20):
        assert config.mix.knobs["omega"] == 0.5
        assert config.optimizer.knobs["lr"] == 0.05
        assert not {"mix", "mix.omega", "optimizer.lr"} & set(params)
    assert space.preset("mamix_drw").mix.knobs["omega"] == 0.5


def test_a_knob_without_a_range_takes_that_of_the_chosen_part() -> None:
    space = parse_space("s", {"train": {"optimizer": "adamw"}, "knobs": {"optimizer.lr": None}})
    assert (space.knobs[0].low, space.knobs[0].high) == (1e-4, 1e-2)


def test_the_complement_scale_is_log_in_one_minus_x() -> None:
    space = parse_space("s", {"knobs": {"weights": ["effective_number"], "weights.beta": None}})
    betas = [float(config.weights.knobs["beta"]) for _, config in sample(space, 400)]
    assert min(betas) >= 0.9
    assert max(betas) <= 0.99999
    near = sum(beta > 0.999 for beta in betas) / len(betas)
    assert 0.35 < near < 0.65  # two of four decades


@given(st.integers(1, 1000), st.integers(2, 6), st.integers(1, 6))
def test_rungs_rise_to_the_full_budget(epochs: int, eta: int, count: int) -> None:
    budgets = Rungs(eta, count).budgets(epochs)
    assert budgets[-1] == epochs
    assert budgets == sorted(set(budgets))
    assert budgets[0] >= 1
    assert len(budgets) <= count


def test_rungs_of_the_paper_budget() -> None:
    assert Rungs(eta=3, count=4).budgets(200) == [7, 22, 67, 200]
    assert Rungs(eta=3, count=4).budgets(5) == [1, 2, 5]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"knob": {}}, "unknown field 'knob': did you mean 'knobs'?"),
        ([], "a space file is a mapping"),
        ({"knobs": {"mix.alfa": None}}, "unknown knob 'mix.alfa'"),
        ({"knobs": {"mix": ["mixup", "mamx"]}}, "unknown mix 'mamx': did you mean 'mamix'?"),
        ({"knobs": {"mix": []}}, "mix: the list of choices is empty"),
        ({"knobs": {"mix": ["none", "mixup", "none"]}}, "mix: the choice 'none' is listed twice"),
        (
            {"knobs": {"optimizer.lr": [0.1, "1e-1"]}},
            "optimizer.lr: the choice 0.1 is listed twice",
        ),
        ({"knobs": {"mix": "mixup"}}, "mix: 'mixup': give a list of choices"),
        ({"knobs": {"mix.alpha": {"low": 2, "high": 1}}}, "mix.alpha: low=2 is above high=1"),
        ({"knobs": {"mix.alpha": {"low": -1, "high": 1}}}, "mix.alpha=-1.0 is out of range"),
        ({"knobs": {"mix.alpha": {"low": 1}}}, "mix.alpha: {'low': 1}: give a list of choices"),
        ({"knobs": {"mix.alpha": 1}}, "mix.alpha: 1: give a list of choices"),
        (
            {"knobs": {"mix.omega": {"low": 0, "high": 1, "scale": "log"}}},
            "mix.omega: scale: log cannot have a range from 0 to 1",
        ),
        (
            {"knobs": {"mix.omega": {"low": 0, "high": 1, "scale": "cubic"}}},
            "unknown scale 'cubic'",
        ),
        ({"knobs": {"mix.late": {"low": 0, "high": 1}}}, "mix.late takes keep | stop"),
        (
            {"knobs": {"data.ratio": {"low": 10, "high": 100}}},
            "knobs: 'data.ratio' cannot",
        ),
        ({"knobs": {"seed": {"low": 0, "high": 9}}}, "knobs: 'seed' cannot be searched"),
        ({"data": {"name": "cifar11"}}, "unknown data 'cifar11': did you mean 'cifar10'?"),
        ({"objective": "ballanced_accuracy"}, "unknown objective 'ballanced_accuracy': did you"),
        ({"objective": ["auroc"]}, "objective: ['auroc'] is a list: give `objectives` for several"),
        ({"objective": {"precision": 0.9}}, "objective: {'precision': 0.9} has no name"),
        ({"objective": {"name": "top_k", "k": 0}}, "objective.k=0 is out of range: at least 1"),
        ({"objective": {"name": "auroc", "off": "a"}}, "unknown knob of auroc 'off': did you mean"),
        ({"objective": "few"}, "objective: 'few' cannot be maximised, as data sets without such"),
        ({"objectives": "auroc"}, "objectives: 'auroc': give a list of up to 3 metrics"),
        ({"objectives": []}, "objectives: []: give a list of up to 3 metrics"),
        (
            {"objectives": ["auroc", "brier", "ece", "mcc"]},
            "objectives: these are 4: give at most 3 metrics",
        ),
        ({"objectives": ["auroc", "ece", "auroc"]}, "objectives: 'auroc' is given twice"),
        ({"objectives": ["auroc", "many"]}, "objectives: 'many' cannot be maximised"),
        (
            {"objective": "auroc", "objectives": ["auroc"]},
            "the space has objective: 'auroc' and objectives: ['auroc']: give one of them",
        ),
        ({"train": {"model": {"name": "resnet32", "width": 3}}}, "model 'resnet32' has no knob"),
        ({"presets": ["mamx"]}, "unknown preset 'mamx': did you mean 'mamix'?"),
        ({"presets": "erm"}, "presets: 'erm': give a list"),
        (
            {"presets": ["mixup"], "knobs": {"mix": ["none"]}},
            "preset 'mixup' is not inside the space: it needs mix=mixup, the space's range is none",
        ),
        ({"presets": [["erm"]]}, "presets: [['erm']]: give a list of preset names"),
        ({"knobs": {3: None}}, "unknown knob '3'"),
        ({"knobs": {"epochs": [2, 8]}}, "knobs: 'epochs' cannot be searched"),
        ({"train": {"seed": 3}}, "train: seed=3 cannot be fixed in a space"),
        (
            {"knobs": {"optimizer": ["sgd", "adamw"], "optimizer.lr": None}},
            "optimizer.lr: sgd, adamw have different search ranges for it: give low and high",
        ),
        ({"rungs": {"eta": 1}}, "rungs.eta=1: give a whole number, at least 2"),
        ({"rungs": {"count": True}}, "rungs.count=True: give a whole number, at least 1"),
        ({"rungs": {"eta": True}}, "rungs.eta=True: give a whole number, at least 2"),
        ({"rungs": {"grace": 1}}, "unknown rungs setting 'grace'"),
        ({"train": 3}, "train: 3 is not a mapping"),
    ],
)
def test_a_space_that_cannot_be_is_one_line(content: Any, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_space("s", content)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_space_from_a_path_and_its_file_in_the_error(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"knobs": {"mix": ["none", "mixup"]}}))
    assert load_space(str(path)).name == "mine"
    path.write_text("knobs: {mix.alfa: }")
    with pytest.raises(ConfigError, match=r"mine\.yaml: unknown knob"):
        load_space(str(path))
    path.write_text("knobs: [")
    with pytest.raises(ConfigError, match="is not YAML") as caught:
        load_space(str(path))
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="unknown space 'digit-lt': did you mean 'digits-lt'"):
        load_space("digit-lt")


INHERITED = ["erm", "drw", "ldam_drw", "smote", "mixup_drw", "remix_drw", "mamix_drw"]


@pytest.mark.parametrize(
    ("narrower", "presets"),
    [
        ({}, INHERITED),
        ({"knobs": {"loss": ["ce"]}}, [p for p in INHERITED if p != "ldam_drw"]),
        ({"knobs": {"weights.schedule": ["always"]}}, ["erm", "smote"]),
        ({"knobs": {"mix": ["none", "mixup"]}}, ["erm", "drw", "ldam_drw", "mixup_drw"]),
        ({"knobs": {"optimizer.lr": {"low": 0.001, "high": 0.01}}}, []),
    ],
)
def test_inherited_presets_outside_a_narrower_space_are_left_out(
    narrower: Any, presets: list[str]
) -> None:
    space = parse_space("s", {"like": "digits-lt", **narrower})
    assert list(space.presets()) == presets
    again = parse_space("s", space.source)  # as a study has it, which has no `like`
    assert list(again.presets()) == presets


def test_a_space_like_a_narrower_one_inherits_what_is_left(tmp_path: Path) -> None:
    (tmp_path / "narrow.yaml").write_text("like: digits-lt\nknobs: {loss: [ce]}\n")
    wider = {"like": "narrow.yaml", "knobs": {"loss": ["ce", "ldam"]}}
    assert list(parse_space("s", wider, tmp_path).presets()) == INHERITED


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            {"like": "digits-lt", "presets": ["erm", "ldam_drw"], "knobs": {"loss": ["ce"]}},
            "preset 'ldam_drw' is not inside the space: it needs loss=ldam, the space's range is "
            "ce: leave the preset out, or widen the range",
        ),
        (
            {"presets": ["ldam"], "knobs": {"mix": ["none"]}},
            "preset 'ldam' is not inside the space: it needs loss=ldam, the space has loss=ce: "
            "leave the preset out, or search loss",
        ),
        (
            {"train": {"mix": "mamix"}, "presets": ["erm"], "knobs": {"mix.omega": None}},
            "preset 'erm' is not inside the space: it needs mix=none, the space has mix=mamix: "
            "leave the preset out, or search mix",
        ),
    ],
)
def test_an_own_preset_outside_the_space_is_one_line(content: Any, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_space("s", content)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("knobs:\n  mix: [none]\n  loss: [ce]\n  mix: [mixup]\n", "'mix' is given twice (lines 2 "),
        ("knobs: {loss: [ce], loss: [ldam]}\n", "'loss' is given twice (line 1): give it once"),
        ("about: a\nknobs: {loss: [ce]}\nabout: b\n", "'about' is given twice (lines 1 and 3)"),
    ],
)
def test_a_field_given_twice_is_refused(text: str, line: str, tmp_path: Path) -> None:
    """YAML itself would keep the last one without a word."""
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_space(tmp_path / "mine.yaml")
    assert line in str(caught.value) and str(caught.value).endswith(": give it once")


def test_a_study_with_a_preset_outside_its_space_is_read(tmp_path: Path) -> None:
    """An earlier version has searched it, in which the preset had other settings."""
    content = {"presets": ["erm", "ldam"], "knobs": {"mix": ["none"]}}
    assert list(parse_space("s", content, modules=Store(str(tmp_path))).presets()) == ["erm"]


def test_a_presets_method_is_its_own_whatever_a_space_fixes() -> None:
    """Settings of data, network and schedule are the space's, and where the weights begin."""
    fixed = {"mix": "mamix", "mix.omega": 1.0, "mix.alpha": 0.3, "weights.start": 0.5}
    content = {
        "train": {**fixed, "epochs": 30, "weights": "effective_number", "weights.beta": 0.5},
        "knobs": {"optimizer.lr": {"low": 0.01, "high": 0.5, "scale": "log"}},
    }
    space = parse_space("s", content)
    config = space.preset("mamix_drw")
    flat = config.flat()
    assert (flat["mix.omega"], flat["mix.alpha"], flat["weights.beta"]) == (0.25, 1.0, 0.9999)
    assert (flat["weights.start"], config.epochs) == (0.5, 30)
    assert space.base().flat()["mix.omega"] == 1.0
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    study.enqueue_trial(space.preset_params("mamix_drw"))
    trained = space.suggest(study.ask(), 0, space.preset_details("mamix_drw"))
    assert trained == config
