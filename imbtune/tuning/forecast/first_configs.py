"""Draws the first configurations of a search, as its searcher would suggest them."""

from __future__ import annotations

import optuna

from imbtune.config.train_config import TrainConfig
from imbtune.study.request import SearchRequest
from imbtune.tuning.optuna_searcher import OptunaSearcher

DRAWN = 500  # configurations at most; in a larger search each represents several trials


def draw_configs(request: SearchRequest) -> list[tuple[str | None, list[TrainConfig]]]:
    """The first trials of a search, drawn with the random sampler.

    Returns:
        For each trunk the name of its preset or None, and a configuration per variant.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    drawn = min(request.trials, DRAWN)
    full = request.budgets[-1]
    searcher = OptunaSearcher(study, request.space, drawn, request.seed, full, "random")
    found: list[tuple[str | None, list[TrainConfig]]] = []
    while spec := searcher.next_spec():
        variants = [TrainConfig.from_settings(settings) for settings in spec.settings]
        found.append((spec.preset, variants))
    return found
