"""Who stops and who suggests, on scripted scores, without a cluster; and what a trial asks for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.tune.schedulers import ASHAScheduler
from scripted import trial_report

from imbtune.study.records import Cutoff
from imbtune.tuning.asha import RungScheduler
from imbtune.tuning.messages import TrialSpec

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


def spared(scheduler: RungScheduler) -> dict[int, Cutoff]:
    """The trials of the never-pruned sample."""
    return {number: cutoff for number, cutoff in scheduler.cutoffs.items() if cutoff.is_spared}


def test_a_rung_passes_what_is_above_its_best_third_so_far() -> None:
    """Literal ASHA: go on if no earlier score, or at least their (1 - 1/η) percentile."""
    scores = list(np.random.default_rng(0).random(60))
    trials = [fake_trial(i) for i in range(60)]
    expected = [
        GO if i == 0 or s >= np.percentile(scores[:i], 100 * (1 - 1 / 3)) else STOP
        for i, s in enumerate(scores)
    ]
    scheduler = start(trials)
    assert run_rung(scheduler, trials, 0, scores) == expected
    assert scheduler.cutoffs == {
        i: Cutoff(1, np.percentile(scores[:i], 100 * (1 - 1 / 3)), is_spared=False)
        for i, decision in enumerate(expected)
        if decision == STOP
    }
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


def test_a_never_pruned_trial_runs_to_the_end_and_decides_nothing() -> None:
    """ASHA without the never-pruned sample decides the same for the others, at every rung."""
    rng = np.random.default_rng(0)
    trials, scores = [fake_trial(i) for i in range(200)], rng.random((200, 3))
    scheduler, plain = start(trials, never_prune=0.2), start(trials)
    for trial, own in zip(trials, scores, strict=True):
        for rung, score in enumerate(own):
            (decision,) = run_rung(scheduler, [trial], rung, [score])
            number = trial.number
            if number in spared(scheduler) and scheduler.cutoffs[number].budget < 3**rung:
                assert decision == (STOP if rung == 2 else GO)
                continue
            (expected,) = run_rung(plain, [trial], rung, [score])
            assert decision == (GO if number in spared(scheduler) else expected)
            if decision == STOP:
                break
    assert 15 < len(spared(scheduler)) < 50  # a fifth of some 160 stopped ones
    assert {cutoff.budget for cutoff in spared(scheduler).values()} == {1, 3}


@pytest.mark.parametrize("rungs", range(1, 7))
@pytest.mark.parametrize("eta", [2, 3, 4, 5])
def test_every_rung_below_the_top_is_a_milestone_of_ray(rungs: int, eta: int) -> None:
    """Ray counts its rungs with a logarithm that rounds down; none of ours may fall away."""
    (bracket,) = RungScheduler([eta**i for i in range(rungs)], eta)._brackets
    milestones = {milestone for milestone, _ in bracket._rungs}
    assert {eta**i for i in range(rungs - 1)} <= milestones
