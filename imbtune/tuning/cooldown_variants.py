"""Trials that share a trunk: configurations that differ in cool-down-only settings.

Used where a space asks for several variants of each trunk (`late_variants`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.samplers import RandomSampler
from optuna.trial import FixedTrial, FrozenTrial, Trial

from imbtune.config.cooldown_only import COOLDOWN_ONLY_SCHEDULES, is_cooldown_only
from imbtune.config.train_config import TrainConfig
from imbtune.registry import Value
from imbtune.spaces.search_space import SearchSpace
from imbtune.study.journal import DETAILS

DRAWS = 20  # attempts to find a variant that a trunk does not have yet


def has_settings(space: SearchSpace, trial: FrozenTrial) -> bool:
    """Whether a recorded trial has all of its settings."""
    try:
        space.suggest(FixedTrial(trial.params), seed=0, details=trial.user_attrs.get(DETAILS))
    except ValueError:
        return False
    return True


def draw_again(trial: Trial) -> None:
    """Draw the parameters that a trial of an earlier process already has, and discard them.

    The sampler's draws depend on their order. Afterwards it draws the missing parameters exactly as
    it would have in the earlier process.
    """
    for name, distribution in trial.distributions.items():
        if not (
            trial._is_fixed_param(name, distribution)
            or distribution.single()
            or trial._is_relative_param(name, distribution)
        ):
            frozen = trial._cached_frozen_trial
            trial.study.sampler.sample_independent(trial.study, frozen, name, distribution)


def variant_params(
    space: SearchSpace,
    params: Mapping[str, Value],
    configs: Sequence[TrainConfig],
    rng: np.random.Generator,
) -> dict[str, Value] | None:
    """The Optuna parameters that are fixed for the next variant of a trunk.

    Fixed are all parameters that act on the trunk, and the cool-down-only choices: these are drawn
    at random, so that the variant differs from the earlier ones. Cool-down-only ranges are left to
    the sampler.

    Args:
        params: Optuna parameters of the first variant.
        configs: of the variants so far.

    Returns:
        None where `DRAWS` draws gave no variant that the trunk does not have yet.
    """
    study = optuna.create_study(sampler=RandomSampler(seed=int(rng.integers(2**32))))
    known = [config.flat() for config in configs]
    for _ in range(DRAWS):
        fixed = shared_params(space, params, configs[0], rng)
        study.enqueue_trial(fixed)
        drawn = study.ask()
        settings = space.suggest(drawn, configs[0].seed).flat()
        ranges = [
            name
            for name, distribution in drawn.distributions.items()
            if isinstance(distribution, FloatDistribution)
            and name not in fixed
            and not distribution.single()
        ]
        if ranges or settings not in known:
            return {name: value for name, value in drawn.params.items() if name not in ranges}
    return None


def shared_params(
    space: SearchSpace, params: Mapping[str, Value], config: TrainConfig, rng: np.random.Generator
) -> dict[str, Value]:
    """The Optuna parameters that a variant of `config` keeps: all that act on the trunk.

    Where class weights act in the cool-down only (or never), they must do so in the variant: their
    schedule is drawn among those. Likewise for generated images.
    """
    settings = config.flat()
    drawn: dict[str, Value] = {}
    for switch, schedules in COOLDOWN_ONLY_SCHEDULES.items():
        choices = [choice for choice in space.possible(switch) if choice in schedules]
        if is_cooldown_only(switch, settings) and choices:
            drawn[switch] = choices[rng.integers(len(choices))]
    free = {
        knob.optuna_name
        for knob in space.knobs
        if is_cooldown_only(knob.key, settings)
        and ((switch := f"{knob.slot}.schedule") in drawn or switch not in COOLDOWN_ONLY_SCHEDULES)
    }
    return {name: value for name, value in params.items() if name not in free} | drawn
