"""The sampler by Gaussian processes, which thinks for half a second before each trial."""

from __future__ import annotations

import optuna
import pytest
from scripted import pending, suggestions


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.mark.parametrize("name", ["gp"])
def test_every_sampler_suggests_and_repeats_with_its_seed(name: str) -> None:
    drawn = suggestions(name, 3)
    assert drawn == suggestions(name, 3) != suggestions(name, 4)
    own = [str({**spec.settings[0], "seed": 0}) for spec in drawn if not spec.preset]
    assert len(set(own)) == len(own) == 18


@pytest.mark.parametrize("name", ["gp"])
def test_every_sampler_gives_64_trials_before_the_first_of_them_has_ended(name: str) -> None:
    given = pending(name, 24)
    assert [spec.number for spec in given] == list(range(20, 44))
    assert len({str({**spec.settings[0], "seed": 0}) for spec in given}) == 24
