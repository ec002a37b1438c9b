"""Runs through the rungs of a trial, of one configuration or of several on one trunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from short_runs import CHEAP, DATA

from imbtune.config.train_config import TrainConfig
from imbtune.methods.lr_schedules import Phases
from imbtune.training.phases import Segment
from imbtune.training.rungs import RungResult, train_through_rungs
from imbtune.training.state import TrainState

SMALL = {"model.width": 2, "batch_size": 60, "precision": "float32", "epochs": 9}  # a step an epoch


VARIANTS: dict[str, list[dict[str, Any]]] = {
    "weights": [
        {"weights": "none"},
        {"weights": "inverse"},
        {"weights": "effective_number", "weights.schedule": "cosine"},
    ],
    "lengths": [
        {"schedule.cooldown": 0.6, "schedule": "linear"},
        {"schedule.cooldown": 0.2, "weights": "inverse"},
        {"schedule.cooldown": 0.4, "schedule": "cosine", "mix.late": "stop"},
    ],
    "after": [{"after": "crt", "weights": "inverse"}, {"after": "tau_norm"}, {"after": "lws"}],
    "generated": [
        {"generate": "deepsmote", "generate.schedule": "deferred", **CHEAP["deepsmote"]},
        {},
        {"generate": "m2m", "generate.schedule": "deferred", **CHEAP["m2m"]},
    ],
}


def configs_of(variants: Sequence[Mapping[str, Any]]) -> list[TrainConfig]:
    every = {"mix": "mamix", **SMALL}
    return [TrainConfig.from_settings({**every, **variant}) for variant in variants]


def phases_of(configs: Sequence[TrainConfig]) -> list[Phases]:
    return [config.schedule.shared for config in configs]


def rungs_on(
    configs: Sequence[TrainConfig], path: list[Segment], state: TrainState | None = None
) -> list[RungResult]:
    return [r for r in train_through_rungs(configs, DATA, path, state) if isinstance(r, RungResult)]


def score_of(result: RungResult) -> list[Any]:
    """The confusion, and at the top the margins of every class, float for float."""
    margins = result.margins or ()
    return [result.confusion_KK.tolist(), [mean_K.tolist() for mean_K in margins]]


RESUMED: dict[str, dict[str, Any]] = {
    "plain": {"mix": "cutmix", "weights": "inverse"},
    "cumulative": {"weights": "inverse", "weights.schedule": "cumulative", "after": "crt"},
    "adam": {"optimizer": "adamw", "schedule.cooldown": 0.5},
}
