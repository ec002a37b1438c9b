"""Every sampler by its name. (Gaussian processes take seconds: tests/integration/tuning.)"""

from __future__ import annotations

import optuna
import pytest
from scripted import pending, suggestions

from imbtune.errors import ConfigError
from imbtune.tuning.samplers import SAMPLERS, make_sampler

QUICK = [name for name in SAMPLERS if name != "gp"]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.mark.parametrize("name", QUICK)
def test_every_sampler_suggests_and_repeats_with_its_seed(name: str) -> None:
    drawn = suggestions(name, 3)
    assert drawn == suggestions(name, 3) != suggestions(name, 4)
    own = [str({**spec.settings[0], "seed": 0}) for spec in drawn if not spec.preset]
    assert len(set(own)) == len(own) == 18


@pytest.mark.parametrize("name", QUICK)
def test_every_sampler_gives_64_trials_before_the_first_of_them_has_ended(name: str) -> None:
    given = pending(name, 64)
    assert [spec.number for spec in given] == list(range(20, 84))
    assert len({str({**spec.settings[0], "seed": 0}) for spec in given}) == 64


def test_an_unknown_sampler() -> None:
    with pytest.raises(ConfigError, match="unknown sampler 'tpee': did you mean 'tpe'"):
        make_sampler("tpee", 0)
