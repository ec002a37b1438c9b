"""Who suggests, on scripted scores: presets first, then a sampler; and what Optuna is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from scripted import (
    BUDGETS,
    ScriptedSearch,
    next_spec,
    next_specs,
    reached,
    tiny_space,
    told,
    trial_report,
)

from imbtune.config.train_config import TrainConfig
from imbtune.errors import ConfigError
from imbtune.seeds import trial_seed
from imbtune.spaces.presets import PRESETS
from imbtune.spaces.search_space import SearchSpace
from imbtune.spaces.space_file import load_space
from imbtune.storage import Store
from imbtune.study.journal import PRESET, open_journal, rungs_of, trial_records
from imbtune.tuning.optuna_searcher import OptunaSearcher
from imbtune.tuning.samplers import check_sampler


@pytest.fixture
def study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize")


def test_optuna_is_told_how_each_trial_ended(study: optuna.Study) -> None:
    searcher = OptunaSearcher(study, load_space("digits-lt"), trials=6, seed=1, full_budget=9)
    given = next_specs(searcher, 6)
    assert [spec.number for spec in given] == [0, 1, 2, 3, 4, 5]
    assert searcher.suggest("t6") is None  # one that runs may have to be trained again
    searcher.on_trial_result("t0", reached(0, 3, 0.5))
    searcher.on_trial_result("t0", trial_report([], None, False).to_tune(3))
    searcher.on_trial_complete("t0", reached(0, 9, 0.7))
    searcher.on_trial_complete("t1", reached(1, 3, 0.5))
    searcher.on_trial_result("t2", reached(2, 3, 0.5))
    searcher.on_trial_complete("t2", None, error=True)
    searcher.give_up("t2", "ValueError: bad")
    searcher.on_trial_complete("t3", None, error=True)
    searcher.give_up("t3", "ValueError: bad")
    searcher.on_trial_result("t4", reached(4, 3, 0.5))
    states = [trial.state for trial in study.trials]
    assert states == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.FAIL,
        TrialState.RUNNING,  # cut off: for a resumed search to go on with
        TrialState.RUNNING,
    ]
    assert study.trials[0].intermediate_values == {3: 0.5, 9: 0.7}
    assert study.trials[0].value == 0.7
    assert study.trials[1].intermediate_values == {3: 0.5}
    assert study.best_trial.number == 0


def test_presets_come_first_then_the_sampler(study: optuna.Study) -> None:
    space = load_space("digits-lt")
    presets = list(space.presets())
    searcher = OptunaSearcher(study, space, trials=len(presets) + 2, seed=1, full_budget=9)
    given = next_specs(searcher, len(presets) + 2)
    assert [spec.preset for spec in given] == [*presets, None, None]
    for name, suggestion in zip(presets, given, strict=False):
        seed = trial_seed(1, suggestion.number)
        assert TrainConfig.from_settings(suggestion.settings[0]) == space.preset(name).replace(
            seed=seed
        )


def test_a_resumed_preset_trains_what_it_began_with(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its details are in the journal; those of presets that have changed since are not used."""
    space = load_space("digits-lt")
    given = next_specs(OptunaSearcher(study, space, trials=7, seed=1, full_budget=9), 7)
    reductions = {s.preset: s.settings[0].get("weights.reduction") for s in given}
    assert reductions["mamix_drw"] == "mean" and reductions["ldam_drw"] == "weighted_mean"
    changed = replace(PRESETS["mamix_drw"], settings={**PRESETS["mamix_drw"].settings})
    changed.settings["weights.reduction"] = "weighted_mean"  # type: ignore[index]
    monkeypatch.setitem(PRESETS, "mamix_drw", changed)
    again = next_specs(OptunaSearcher(study, space, trials=7, seed=1, full_budget=9), 7)
    assert [spec.settings for spec in again] == [spec.settings for spec in given]
    records = trial_records(study, space, 1, {})
    assert [record.settings for record in records] == [spec.settings[0] for spec in given]


def test_a_preset_of_an_older_study_has_no_details(study: optuna.Study) -> None:
    """Its trials trained with the space's own settings, and resumed ones still do."""
    space = load_space("digits-lt")
    study.enqueue_trial(space.presets()["mamix_drw"], user_attrs={PRESET: "mamix_drw"})
    (spec,) = next_specs(OptunaSearcher(study, space, trials=1, seed=1, full_budget=9), 1)
    assert spec.settings[0]["weights.reduction"] == "weighted_mean"


def test_fewer_trials_than_presets(study: optuna.Study) -> None:
    searcher = OptunaSearcher(study, load_space("digits-lt"), trials=2, seed=1, full_budget=9)
    assert [spec.preset for spec in next_specs(searcher, 2)] == ["erm", "drw"]
    assert searcher.suggest("t2") is None
    assert len(study.trials) == 2


@pytest.mark.parametrize("name", ["tpe", "random", "qmc"])
def test_no_two_trials_have_the_same_value_of_a_knob_that_not_all_have(
    name: str, study: optuna.Study
) -> None:
    """A sampler that is made anew for every trial must not begin its draws anew."""
    space = load_space("cifar10-lt")
    searcher = OptunaSearcher(study, space, 60, seed=3, full_budget=9, sampler=name)
    seen: dict[str, list[Any]] = {"mix.alpha": [], "loss.margin": []}
    for i in range(60):
        given = next_spec(searcher, i)
        searcher.on_trial_complete(f"t{i}", reached(i, 9, 0.1))
        (drawn,) = given.settings
        for key in seen if not given.preset else ():
            seen[key] += [drawn[key]] if key in drawn else []
    for values in seen.values():
        assert len(set(values)) == len(values) > 3


def test_trial_seeds_differ_and_follow_from_study_seed_and_number() -> None:
    seeds = {trial_seed(study, number) for study in range(20) for number in range(50)}
    assert len(seeds) == 1000
    assert trial_seed(7, 3) == trial_seed(7, 3)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


class CutOffError(Exception):
    """Stands for a kill."""


class CutSpace(SearchSpace):
    """A space that is cut off in the middle of asking for a trial."""

    asked = 0

    def suggest(self, trial: Any, seed: int, details: Any = None) -> TrainConfig:
        """All settings; of the fourth trial, the first ones."""
        CutSpace.asked += 1
        if CutSpace.asked == 4:
            for knob in self.knobs[:3]:
                knob.suggest(trial)
            raise CutOffError
        return super().suggest(trial, seed, details)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_unfinished_trials_are_handed_out_first(sampler: str, tmp_path: Path) -> None:
    whole = ScriptedSearch(optuna.create_study(direction="maximize"), tiny_space(), 8, sampler)
    whole.run()
    CutSpace.asked = 0
    with open_journal(Store(str(tmp_path)), "s") as journal:
        search = ScriptedSearch(journal.study, CutSpace(**vars(tiny_space())), 8, sampler)
        with pytest.raises(CutOffError):
            search.run()
        running = [t.number for t in journal.study.trials if t.state == TrialState.RUNNING]
        reached = {t.number: len(rungs_of(t)) for t in journal.study.trials}
    assert running[-1] == 3
    with open_journal(Store(str(tmp_path)), "s") as journal:
        resumed = ScriptedSearch(journal.study, tiny_space(), 8, sampler)
        resumed.run()
        assert [told(t) for t in journal.study.trials] == [told(t) for t in whole.study.trials]
    first = resumed.given[: len(running)]
    assert [given.number for given in first] == running
    assert [given.number for given in resumed.given[len(running) :]] == [4, 5, 6, 7]
    for handed in first:
        assert handed.reached_budget == [0, *BUDGETS][reached[handed.number]]
        assert handed.images == [100 * handed.reached_budget]


SEVERAL = ["balanced_accuracy", "worst_class"]


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "nsga2"])
def test_a_search_with_several_objectives_is_the_same_where_it_was_cut_off(
    sampler: str, tmp_path: Path
) -> None:
    """Optuna gets the score of each; ASHA and the presets are as with the first one alone."""
    space = tiny_space(objectives=SEVERAL)
    whole = ScriptedSearch(optuna.create_study(directions=["maximize"] * 2), space, 12, sampler)
    whole.run()
    complete = whole.study.get_trials(states=(TrialState.COMPLETE,))
    assert len(complete) >= 2
    for trial in complete:
        last = rungs_of(trial)[-1]
        assert trial.values == [last.score, last.metrics["worst_class"]]
    CutSpace.asked = 0
    with open_journal(Store(str(tmp_path)), "s", 2) as journal:
        cut = ScriptedSearch(journal.study, CutSpace(**vars(space)), 12, sampler)
        with pytest.raises(CutOffError):
            cut.run()
    with open_journal(Store(str(tmp_path)), "s", 2) as journal:
        ScriptedSearch(journal.study, space, 12, sampler).run()
        assert [told(t) for t in journal.study.trials] == [told(t) for t in whole.study.trials]
    single = ScriptedSearch(optuna.create_study(direction="maximize"), tiny_space(), 2)
    single.run()
    first_trials = [trial.state for trial in whole.study.trials[:2]]
    assert first_trials == [trial.state for trial in single.study.trials]


def test_a_sampler_for_one_objective_is_refused_for_several() -> None:
    with pytest.raises(ConfigError, match="--sampler cmaes has one objective, and 2 are given"):
        check_sampler("cmaes", tiny_space(objectives=SEVERAL).objectives)
    check_sampler("cmaes", tiny_space().objectives)
