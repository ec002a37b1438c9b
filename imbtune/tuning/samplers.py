"""Optuna's samplers by name.

A sampler is made anew for every trial, seeded by the study's seed and the trial's number. What it
has learnt lies in the study alone, so a study that is resumed goes on as it would have.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

from imbtune.errors import unknown
from imbtune.seeds import Purpose, derived_seed

SAMPLERS = ("tpe", "random", "gp", "cmaes", "qmc")


def make_sampler(name: str, study_seed: int, number: int = 0) -> BaseSampler:
    """The sampler of trial `number`; ConfigError for one that is not there.

    tpe models knobs by groups, those that act together, whatever else is chosen; its constant liar
    spreads trials that run at the same time. gp and cmaes model the knobs that every trial has;
    the others are drawn at random (gp) or by tpe (cmaes). qmc is one sequence for the whole study,
    of the knobs that its first finished trial has; the others are drawn at random.
    """
    from optuna import samplers  # here: Ray's workers need the seeds below alone, and no Optuna
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
    raise unknown("sampler", name, SAMPLERS)
