"""What acts in the cool-down alone: equal trunks, and searches with several trials on each."""

from __future__ import annotations

from typing import Any

import hypothesis
import numpy as np
import optuna
import pytest
from cooldown_settings import SMALL, config_of, late_settings, slot_of, trunk_choices, trunk_of
from hypothesis import strategies as st
from scripted import BUDGETS, FAILS, SEED, ScriptedSearch, score_of, tiny_space
from short_runs import CHEAP, same

from imbtune.config.cooldown_only import can_be_cooldown_only, is_cooldown_only, trunk_settings
from imbtune.config.train_config import TrainConfig
from imbtune.errors import ConfigError
from imbtune.seeds import trial_seed
from imbtune.spaces.space_file import list_spaces, load_space
from imbtune.study.journal import rungs_of
from imbtune.tuning.cooldown_variants import shared_params


@hypothesis.given(trunk_choices(), late_settings())
def test_what_is_late_is_what_the_trunk_settings_leave_out(
    shared: dict[str, Any], late: dict[str, Any]
) -> None:
    config = config_of({**shared, **late})
    flat = config.flat()
    left_out = {key for key in flat if key not in trunk_settings(config)}
    assert left_out == {
        key
        for key in flat
        if slot_of(key) in ("weights", "generate", "schedule", "after")
        or key in ("mix.late", "mix.stop_share")
    } - {"schedule.warmup", "schedule.warmup_by"}
    assert all(can_be_cooldown_only(key) and is_cooldown_only(key, flat) for key in left_out)


BASE = {"mix": "mixup", "weights": "inverse", "generate": "none", **SMALL}


@pytest.mark.parametrize(
    "change",
    [
        {"weights.schedule": "always"},
        {"weights.schedule": "cumulative"},
        {"mix": "cutmix"},
        {"mix.alpha": 0.5},
        {"mix.early": "wait"},
        {"loss": "ldam"},
        {"optimizer.lr": 0.05},
        {"optimizer": "sam"},
        {"sampler": "class_balanced"},
        {"schedule.warmup": 0.3},
        {"generate": "m2m", "generate.schedule": "always", **CHEAP["m2m"]},
        {"model.width": 3},
        {"seed": 1},
        {"batch_size": 60},
    ],
    ids=lambda change: " ".join(change),
)
def test_what_acts_on_the_trunk_tells_trunks_apart(change: dict[str, Any]) -> None:
    """In the trunk's settings, and in what is trained."""
    one, other = config_of(BASE), config_of({**BASE, **change})
    assert trunk_settings(one) != trunk_settings(other)
    assert not same(trunk_of(one, 2)[-1], trunk_of(other, 2)[-1])


def test_weights_that_act_on_the_trunk_are_part_of_it() -> None:
    for schedule in ("always", "cumulative"):
        always = {**BASE, "weights.schedule": schedule}
        one, other = (config_of({**always, "weights.power": power}) for power in (0.5, 1.0))
        assert trunk_settings(one) != trunk_settings(other)
        assert trunk_settings(one) != trunk_settings(config_of({**always, "weights": "none"}))


def test_a_knob_that_no_configuration_has_in_the_cooldown_alone() -> None:
    assert not any(
        map(
            can_be_cooldown_only,
            ("mix", "mix.alpha", "loss", "optimizer.lr", "schedule.warmup", "seed"),
        )
    )
    assert all(
        map(can_be_cooldown_only, ("weights", "weights.beta", "generate.epochs", "after.tau"))
    )


# ---- a search with late variants -----------------------------------------------------------------


@pytest.mark.parametrize("count", [0, -1, 2.0, "x", None, True])
def test_what_is_no_number_of_late_variants(count: Any) -> None:
    with pytest.raises(ConfigError, match="give a whole number, at least 1") as error:
        tiny_space(late=count)
    assert f"late_variants: {count!r}" in str(error.value) and "\n" not in str(error.value)


def test_late_variants_of_a_space_that_searches_nothing_late() -> None:
    knobs = {"mix": ["none", "mixup"], "optimizer.lr": {"low": 0.02, "high": 0.5}}
    plain = {"train": {"epochs": 9}, "presets": [], "knobs": knobs}
    assert tiny_space(late=1, **plain).late_variants == 1
    with pytest.raises(ConfigError, match="late_variants: 4: no searched knob acts only") as error:
        tiny_space(late=4, **plain)
    assert "search one, or leave late_variants out" in str(error.value)
    for late in ({"after": ["none", "crt"]}, {"weights": ["none", "inverse"]}):
        content = {"train": {"epochs": 9}, "presets": [], "knobs": {**knobs, **late}}
        assert tiny_space(late=4, **content).late_variants == 4


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("late", [2, 4])
def test_a_trunk_is_several_trials_of_optunas(late: int, sampler: str) -> None:
    """And the last one fewer, where the trials are not a multiple. Presets share one first."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    search = ScriptedSearch(study, tiny_space(late), 23, sampler)
    search.run()
    assert [n for given in search.given for n in given.trials] == list(range(23))
    assert [len(given.trials) for given in search.given] == [
        2, *(min(late, 23 - first) for first in range(2, 23, late))
    ]  # fmt: skip
    assert [given.preset for given in search.given][:2] == ["erm", None]
    assert [t.user_attrs.get("preset") for t in study.trials][:3] == ["erm", "drw", None]
    differing = 0
    for given in search.given:
        assert given.number == given.trials[0]
        configs = [TrainConfig.from_settings(settings) for settings in given.settings]
        assert all(trunk_settings(config) == trunk_settings(configs[0]) for config in configs)
        assert {config.seed for config in configs} == {trial_seed(SEED, given.number)}
        differing += len({str(config.flat()) for config in configs}) == len(configs)
    assert differing == len(search.given)  # schedule.cooldown is a range: no two are alike


def test_no_two_variants_of_a_trunk_are_alike() -> None:
    """With few late choices a trunk ends short, and the trials are as many all the same."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    knobs = {
        "mix": ["none", "mixup"],
        "mix.late": ["keep", "stop"],
        "after": ["none", "logit_adjustment"],
        "optimizer.lr": {"low": 0.02, "high": 0.5, "scale": "log"},
    }
    study = optuna.create_study(direction="maximize")
    train = {"epochs": BUDGETS[-1]}
    search = ScriptedSearch(study, tiny_space(6, train=train, knobs=knobs, presets=["erm"]), 40)
    search.run()
    assert [n for given in search.given for n in given.trials] == list(range(40))
    lengths = set()
    for given in search.given[1:-1]:
        mixed = given.settings[0]["mix"] == "mixup"
        lengths.add(len(given.trials))
        assert len(given.trials) == (4 if mixed else 2)  # of keep | stop × none | adjusted
        assert len({str(settings) for settings in given.settings}) == len(given.trials)
    assert lengths == {2, 4}


def test_presets_come_first_and_share_trunks() -> None:
    """All of one trunk on it; another one opens its own; the sampler's trials come after."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    presets = ["erm", "mixup", "drw", "mixup_drw", "cb", "post_hoc"]
    fixed = {"epochs": BUDGETS[-1]}
    knobs = {
        "mix": ["none", "mixup"],
        "weights": ["none", "effective_number"],
        "weights.schedule": ["always", "deferred"],
        "after": ["none", "logit_adjustment"],
        "schedule.cooldown": {"low": 0.1, "high": 0.6},
    }
    study = optuna.create_study(direction="maximize")
    search = ScriptedSearch(
        study, tiny_space(3, train=fixed, knobs=knobs, presets=presets), 12, never_prune=0.0
    )
    search.run()
    names = [[study.trials[n].user_attrs.get("preset") for n in g.trials] for g in search.given]
    assert names[:3] == [["erm", "drw", "post_hoc"], ["mixup", "mixup_drw"], ["cb"]]
    assert names[3:] == [[None] * 3, [None] * 3]


def test_optuna_is_told_how_every_variant_ended() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    search = ScriptedSearch(study, tiny_space(3), 22, never_prune=0.0)
    search.run()
    seen = set()
    for given in search.given:
        members = [study.trials[number] for number in given.trials]
        assert len({tuple(trial.intermediate_values) for trial in members}) == 1
        for trial, config in zip(members, given.settings, strict=True):
            reached = [row.budget for row in rungs_of(trial)]
            assert trial.intermediate_values == {
                b: score_of(trial.number, b, config) for b in reached
            }
            assert reached == BUDGETS[: len(reached)]
            state = "COMPLETE" if reached == BUDGETS else "PRUNED"
            assert trial.state.name == ("FAIL" if FAILS in given.trials else state)
            assert trial.user_attrs.get("trunk", trial.number) == given.number
            last = score_of(trial.number, reached[-1], config)
            assert trial.value == (None if trial.state.name == "FAIL" else last)
            seen.add(trial.state.name)
    assert seen == {"COMPLETE", "PRUNED", "FAIL"}


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.integers(0, 10**6), st.sampled_from([*list_spaces()]))
def test_a_variant_of_any_shipped_space_shares_the_trunk(seed: int, name: str) -> None:
    """What is handed to Optuna as fixed makes the same trunk, whatever it draws for the rest."""
    space = load_space(name)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    trial = study.ask()
    config = space.suggest(trial, seed=1)
    for _ in range(3):
        fixed = shared_params(space, trial.params, config, np.random.default_rng(seed))
        study.enqueue_trial(fixed)
        variant = space.suggest(study.ask(), seed=1)
        assert trunk_settings(variant) == trunk_settings(config)
