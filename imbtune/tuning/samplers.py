"""Creates Optuna's samplers by name.

Each trial has a new sampler, seeded with the study's seed and the trial's number. A sampler has no
state besides the study, so a resumed study gets the same suggestions as an uninterrupted one.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

from imbtune.errors import ConfigError, unknown
from imbtune.seeds import Purpose, derived_seed

SAMPLERS = ("tpe", "random", "gp", "cmaes", "qmc", "nsga2")
SINGLE = ("cmaes",)  # those that search for one objective only


def make_sampler(name: str, study_seed: int, number: int = 0) -> BaseSampler:
    """The sampler for one trial.

    - tpe: multivariate TPE, grouped: knobs that occur together are modelled together. Its constant
      liar keeps concurrent trials apart.
    - random: every knob independently at random.
    - gp, cmaes: model only the knobs that every trial has; the other knobs are drawn at random (gp)
      or by tpe (cmaes).
    - qmc: one scrambled Sobol sequence for the whole study, over the knobs of its first finished
      trial; the other knobs are drawn at random.
    - nsga2: a genetic algorithm with a population of 50, for several objectives and several hundred
      trials. The first 50 finished trials are random.

    Args:
        name: one of `SAMPLERS`.
        study_seed: seed of the study.
        number: of the trial.

    Raises:
        ConfigError: an unknown name.
    """
    from optuna import samplers  # inside: importing Optuna is slow
    from optuna.exceptions import ExperimentalWarning

    def tpe() -> BaseSampler:
        return samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)

    seed = derived_seed(study_seed, number, Purpose.SAMPLING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if name == "tpe":
            return tpe()
        if name == "random":
            return samplers.RandomSampler(seed=seed)
        if name == "gp":
            return samplers.GPSampler(seed=seed, warn_independent_sampling=False)
        if name == "cmaes":
            return samplers.CmaEsSampler(
                seed=seed, independent_sampler=tpe(), warn_independent_sampling=False
            )
        if name == "qmc":
            return samplers.QMCSampler(
                seed=study_seed,
                scramble=True,
                independent_sampler=samplers.RandomSampler(seed=seed),
                warn_independent_sampling=False,
                warn_asynchronous_seeding=False,
            )
        if name == "nsga2":
            return samplers.NSGAIISampler(seed=seed)
    raise unknown("sampler", name, SAMPLERS)


def check_sampler(name: str, objectives: Sequence[object]) -> None:
    """Raise ConfigError if a sampler cannot search for so many objectives."""
    if name in SINGLE and len(objectives) > 1:
        others = ", ".join(each for each in SAMPLERS if each not in SINGLE)
        raise ConfigError(
            f"--sampler {name} has one objective, and {len(objectives)} are given: give one of "
            f"{others}, or one objective"
        )
