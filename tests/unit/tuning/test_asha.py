"""Who stops and who suggests, on scripted scores, without a cluster; and what a trial asks for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.schedulers import ASHAScheduler
from scripted import next_spec, next_specs, scored_rung, trial_report

from imbtune.config.train_config import TrainConfig
from imbtune.errors import ConfigError
from imbtune.seeds import trial_seed
from imbtune.spaces.space_file import load_space
from imbtune.tuning.asha import RungScheduler
from imbtune.tuning.cluster.resources import Node, check_gpu_fraction, plan_resources
from imbtune.tuning.messages import TrialSpec, TuneDict
from imbtune.tuning.optuna_searcher import OptunaSearcher
from imbtune.tuning.samplers import SAMPLERS, make_sampler

STOP, GO = ASHAScheduler.STOP, ASHAScheduler.CONTINUE


def fake_trial(number: int, preset: str | None = None) -> Any:
    spec = TrialSpec.single_run(number, {}, without_rungs=False, preset=preset)
    return SimpleNamespace(trial_id=f"t{number}", config=spec.to_tune(), number=number)


def run_rung(
    scheduler: RungScheduler, trials: list[Any], rung: int, scores: list[float]
) -> list[str]:
    return [
        scheduler.on_trial_result(None, trial, {"rung_time": 3**rung, "score": score})
        for trial, score in zip(trials, scores, strict=True)
    ]


def start(trials: list[Any], rungs: int = 3, never_prune: float = 0) -> RungScheduler:
    scheduler = RungScheduler([3**i for i in range(rungs)], eta=3, never_prune=never_prune)
    for trial in trials:
        scheduler.on_trial_add(None, trial)  # type: ignore[arg-type]
    return scheduler


def test_a_rung_passes_what_is_above_its_best_third_so_far() -> None:
    """Literal ASHA: go on if no earlier score, or at least their (1 - 1/η) percentile."""
    scores = list(np.random.default_rng(0).random(60))
    trials = [fake_trial(i) for i in range(60)]
    expected = [
        GO if i == 0 or s >= np.percentile(scores[:i], 100 * (1 - 1 / 3)) else STOP
        for i, s in enumerate(scores)
    ]
    assert run_rung(start(trials), trials, 0, scores) == expected
    assert 10 < expected.count(GO) < 30


def test_rungs_are_apart_and_the_last_one_ends_a_trial() -> None:
    trials = [fake_trial(i) for i in range(3)]
    scheduler = start(trials)
    assert run_rung(scheduler, trials[:2], 0, [0.1, 0.9]) == [GO, GO]
    assert run_rung(scheduler, trials[:2], 1, [0.9, 0.1]) == [GO, STOP]
    assert run_rung(scheduler, trials[:1], 2, [0.0]) == [STOP]
    assert run_rung(scheduler, trials[2:], 0, [0.2]) == [STOP]


def test_a_report_between_rungs_decides_nothing() -> None:
    trials = [fake_trial(0)]
    assert (
        start(trials).on_trial_result(None, trials[0], trial_report([], None, False).to_tune(3))
        == GO
    )


def test_the_preset_that_leads_its_rung_goes_on() -> None:
    strong, weak = [fake_trial(i) for i in range(5)], fake_trial(5, "erm")
    weaker, better = fake_trial(6, "drw"), fake_trial(7, "mamix_drw")
    scheduler = start([*strong, weak, weaker, better])
    run_rung(scheduler, strong, 0, [0.9] * 5)
    assert run_rung(scheduler, [weak, weaker, better], 0, [0.3, 0.2, 0.4]) == [GO, STOP, GO]


def test_a_rescued_trial_runs_to_the_end_and_decides_nothing() -> None:
    """ASHA without the rescued ones decides the same for the others, at every rung."""
    rng = np.random.default_rng(0)
    trials, scores = [fake_trial(i) for i in range(200)], rng.random((200, 3))
    scheduler, plain = start(trials, never_prune=0.2), start(trials)
    for trial, own in zip(trials, scores, strict=True):
        for rung, score in enumerate(own):
            (decision,) = run_rung(scheduler, [trial], rung, [score])
            number = trial.number
            if scheduler.never_pruned.get(number, 9) < 3**rung:
                assert decision == (STOP if rung == 2 else GO)
                continue
            (expected,) = run_rung(plain, [trial], rung, [score])
            assert decision == (GO if number in scheduler.never_pruned else expected)
            if decision == STOP:
                break
    assert 15 < len(scheduler.never_pruned) < 50  # a fifth of some 160 stopped ones
    assert set(scheduler.never_pruned.values()) == {1, 3}


@pytest.mark.parametrize("rungs", range(1, 7))
@pytest.mark.parametrize("eta", [2, 3, 4, 5])
def test_every_rung_below_the_top_is_a_milestone_of_ray(rungs: int, eta: int) -> None:
    """Ray counts its rungs with a logarithm that rounds down; none of ours may fall away."""
    (bracket,) = RungScheduler([eta**i for i in range(rungs)], eta)._brackets
    milestones = {milestone for milestone, _ in bracket._rungs}
    assert {eta**i for i in range(rungs - 1)} <= milestones


@pytest.fixture
def study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize")


def reached(number: int, budget: int, score: float) -> TuneDict:
    """The result of a rung at 3 or 9 epochs, as Ray Tune passes it."""
    rung = [scored_rung(number, budget, score)]
    return trial_report(rung, {3: 0, 9: 1}[budget], budget == 9).to_tune(3)


def test_optuna_hears_how_each_trial_ended(study: optuna.Study) -> None:
    searcher = OptunaSearcher(study, load_space("digits-lt"), trials=6, seed=1, full_budget=9)
    given = next_specs(searcher, 6)
    assert [spec.number for spec in given] == [0, 1, 2, 3, 4, 5]
    assert searcher.suggest("t6") == OptunaSearcher.FINISHED
    searcher.on_trial_result("t0", reached(0, 3, 0.5))
    searcher.on_trial_result("t0", trial_report([], None, False).to_tune(3))
    searcher.on_trial_complete("t0", reached(0, 9, 0.7))
    searcher.on_trial_complete("t1", reached(1, 3, 0.5))
    searcher.on_trial_result("t2", reached(2, 3, 0.5))
    searcher.on_trial_complete("t2", None, error=True)
    searcher.on_trial_complete("t3", None, error=True)
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


def test_fewer_trials_than_presets(study: optuna.Study) -> None:
    searcher = OptunaSearcher(study, load_space("digits-lt"), trials=2, seed=1, full_budget=9)
    assert [spec.preset for spec in next_specs(searcher, 2)] == ["erm", "drw"]
    assert searcher.suggest("t2") == OptunaSearcher.FINISHED
    assert len(study.trials) == 2


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_suggests_and_repeats_with_its_seed(name: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def suggestions(seed: int) -> list[TrialSpec]:
        study = optuna.create_study(direction="maximize")
        searcher = OptunaSearcher(study, load_space("cifar10-lt"), 26, seed, 9, sampler=name)
        drawn = []
        for i in range(26):
            drawn.append(spec := next_spec(searcher, i))
            score = float(spec.settings[0]["optimizer.lr"])
            searcher.on_trial_complete(f"t{i}", reached(i, 9 if i % 3 else 3, score))
        return drawn

    drawn = suggestions(3)
    assert drawn == suggestions(3) != suggestions(4)
    own = [str({**spec.settings[0], "seed": 0}) for spec in drawn if not spec.preset]
    assert len(set(own)) == len(own) == 18


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_gives_64_trials_before_the_first_of_them_has_ended(name: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    space = load_space("digits-lt")
    searcher = OptunaSearcher(study, space, 100, seed=0, full_budget=9, sampler=name)
    given = next_specs(searcher, 20)
    for i, suggestion in enumerate(given):
        score = float(suggestion.settings[0]["optimizer.lr"])
        searcher.on_trial_complete(f"t{i}", reached(i, 9, score))
    many = 24 if name == "gp" else 64  # it takes half a second for each
    pending = [next_spec(searcher, 20 + i) for i in range(many)]
    assert [spec.number for spec in pending] == list(range(20, 20 + many))
    assert len({str({**spec.settings[0], "seed": 0}) for spec in pending}) == many


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


def test_an_unknown_sampler() -> None:
    with pytest.raises(ConfigError, match="unknown sampler 'tpee': did you mean 'tpe'"):
        make_sampler("tpee", 0)


def test_trial_seeds_differ_and_follow_from_study_seed_and_number() -> None:
    seeds = {trial_seed(study, number) for study in range(20) for number in range(50)}
    assert len(seeds) == 1000
    assert trial_seed(7, 3) == trial_seed(7, 3)


@pytest.mark.parametrize("gpus", [0, 1, 2, 8, 0.5, 0.25, 0.2, 0.125, 0.3333, 0.33, 0.1, 0.01])
def test_shares_of_a_gpu_that_pack(gpus: float) -> None:
    check_gpu_fraction(gpus)


@pytest.mark.parametrize("gpus", [-1, 0.3, 0.4, 0.6, 0.9, 1.5, 0.001, float("nan"), float("inf")])
def test_shares_of_a_gpu_that_do_not(gpus: float) -> None:
    with pytest.raises(ConfigError, match="--gpus-per-trial") as caught:
        check_gpu_fraction(gpus)
    assert "\n" not in str(caught.value)


def test_the_proposed_share_packs() -> None:
    for hundredths in range(1, 100):
        try:
            check_gpu_fraction(hundredths / 100)
        except ConfigError as error:
            check_gpu_fraction(float(str(error).rsplit("such as ", 1)[1]))


def test_resources_follow_from_the_nodes() -> None:
    laptop, box = Node(8, 0), Node(16, 2)
    assert vars(plan_resources([laptop], 100, None, None, None)) == {
        "cpus": 1,
        "gpus": 0.0,
        "concurrent": 8,
    }
    assert vars(plan_resources([box], 100, None, None, None)) == {
        "cpus": 2,
        "gpus": 0.25,
        "concurrent": 8,
    }
    assert plan_resources([laptop, box], 100, 1, 0.5, None).concurrent == 4
    assert plan_resources([box, box], 100, 4, 2, None).concurrent == 2
    assert plan_resources([laptop], 3, None, None, None).concurrent == 3
    assert plan_resources([laptop], 100, None, None, 64).concurrent == 64
    assert plan_resources([laptop], 100, 3, 0, None).concurrent == 2


@pytest.mark.parametrize(
    ("cpus", "gpus", "line"),
    [
        (9, None, "--cpus-per-trial 9: give 1 to 8"),
        (0, None, "--cpus-per-trial 0: give 1 to 8"),
        (None, 1.0, "--gpus-per-trial 1: no machine here has that, the best has no GPU"),
    ],
)
def test_more_than_any_machine_has(cpus: int | None, gpus: float | None, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        plan_resources([Node(8, 0)], 10, cpus, gpus, None)
